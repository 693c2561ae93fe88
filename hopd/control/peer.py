"""Who is on the other end of a control connection, as the kernel knows it, and what they may do."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

#: Linux's SO_PEERGROUPS (4.13 and later), which the socket module does not name.
_SO_PEERGROUPS = 59

#: Bytes of answer: getsockopt takes no more from Python, which makes room for 256 groups.
_GROUPS_BYTES = 1024

_CREDENTIALS = struct.Struct("@iII")


@dataclass(frozen=True)
class Peer:
    """A process as it was when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"uid {self.uid} gid {self.gid} pid {self.pid}"


@dataclass(frozen=True)
class Access:
    """Who may change something: root, hopd's own user, and the members of the configured group.

    Everybody else whom the socket's file mode lets in may look.
    """

    owner: int
    group: int | None = None

    def may_change(self, peer: Peer) -> bool:
        """Whether `peer` may pause, drain, put and the like."""
        if peer.uid in (0, self.owner):
            return True
        return self.group is not None and (peer.gid == self.group or self.group in peer.groups)


def peer_of(connection: socket.socket) -> Peer:
    """The process that connected; OSError when the kernel does not know it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid, gid, _groups(connection))


def _groups(connection: socket.socket) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        # An old kernel, or a member of more than 256 groups: then only the primary group counts.
        return frozenset()
    return frozenset(struct.unpack(f"@{len(raw) // 4}I", raw))


def own_access(group: int | None) -> Access:
    """The access of a socket of ours that is shared with `group`."""
    return Access(os.geteuid(), group)
