from __future__ import annotations

import os
import socket

import pytest

from hopd.control.peer import Access, Peer, own_access, peer_of

OWNER, GROUP, STRANGER = 990, 991, 1000


@pytest.mark.parametrize(
    ("peer", "group", "allowed"),
    [
        (Peer(1, 0, 0), None, True),
        (Peer(1, OWNER, 5), None, True),
        (Peer(1, STRANGER, 5), None, False),
        (Peer(1, STRANGER, GROUP), None, False),
        (Peer(1, STRANGER, GROUP), GROUP, True),
        (Peer(1, STRANGER, 5, frozenset({7, GROUP})), GROUP, True),
        (Peer(1, STRANGER, 5, frozenset({7})), GROUP, False),
    ],
)
def test_root_the_owner_and_the_configured_group_may_change_things(peer: Peer, group: int | None, allowed: bool) -> None:
    assert Access(OWNER, group).may_change(peer) is allowed


def test_the_kernel_tells_who_is_on_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.groups <= {*os.getgroups(), os.getgid()}


def test_we_may_change_what_is_ours() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert own_access(None).may_change(peer_of(ours))
