"""The socket of one client: never waited for, watched by gevent's loop.

The sockets are the C type itself, which gevent leaves alone: the same code serves in a process that was monkey-patched and in
one that was not, and a read costs one system call.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable
from time import monotonic
from typing import Any

from hopd.broker.session import Session

#: One receive: large enough that a burst of small messages costs few system calls, small enough that no client keeps others waiting.
RECEIVE_BYTES = 65_536

_READ, _WRITE = 1, 2


class Client:
    """One client's socket and session. `changed(client)` is called in the hub, and must not block: there is something to receive,
    or all is written that was not."""

    def __init__(self, sock: _socket.socket, session: Session, loop: Any, changed: Callable[[Client], None]) -> None:
        self.session = session
        self.readable = False
        #: The broker has told it that it is blocked.
        self.blocked = False
        #: Monotonic seconds: when its connection was closed, when it came, and when it was last heard of and spoken to.
        self.leaving: float | None = None
        self.since = self.last_received = self.last_sent = monotonic()
        self._socket = sock
        self._changed = changed
        self._broken = self._shut = False
        self._reading = False
        self._unsent: list[bytes] = []
        self._rest = memoryview(b"")
        self._reader = loop.io(sock.fileno(), _READ)
        self._writer = loop.io(sock.fileno(), _WRITE)
        self.read(True)

    def read(self, wanted: bool) -> None:
        """Go on receiving, or stop: what the client sends then waits in its own process."""
        if wanted is self._reading or self._broken:
            return
        self._reading = wanted
        if wanted:
            self.last_received = monotonic()
            self._reader.start(self._on_readable)
        else:
            self._reader.stop()

    @property
    def reading(self) -> bool:
        """Whether what it sends is received."""
        return self._reading

    def _on_readable(self) -> None:
        self.readable = True
        self._changed(self)

    def receive(self) -> bytes | None:
        """What has arrived; empty when the client is gone, None when it was nothing."""
        self.readable = False
        if self._broken:
            return b""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        self.last_received = monotonic()
        return data

    # --- sending ------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send what the socket takes now, and the rest when it takes more."""
        self.last_sent = monotonic()
        if self._rest:
            self._unsent.append(data)
            return
        self._rest = memoryview(data)[self._send(data) :]
        if self._rest:
            self._writer.start(self._on_writable)

    @property
    def idle(self) -> bool:
        """Whether it has taken everything that it was sent."""
        return not self._rest

    @property
    def unsent(self) -> int:
        """Bytes that the client does not take at the moment."""
        return len(self._rest) + sum(map(len, self._unsent))

    def _on_writable(self) -> None:
        self._rest = self._rest[self._send(self._rest) :]
        if self._rest:
            return
        if self._unsent:
            self._rest = memoryview(b"".join(self._unsent))
            self._unsent.clear()
            return
        self._writer.stop()
        self._changed(self)

    def _send(self, data: bytes | memoryview) -> int:
        """How much was sent. What is for a client that is gone counts as sent."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._broken = self.readable = True
            self._unsent.clear()
            self._changed(self)
            return len(data)

    # --- the end ------------------------------------------------------------------------------

    def shut(self) -> None:
        """The last word is sent. The client may still read it, which closing at once could take from it."""
        if self._shut:
            return
        self._shut = True
        try:
            self._socket.shutdown(_socket.SHUT_WR)
        except OSError:
            self._broken = self.readable = True
            self._changed(self)

    def close(self) -> None:
        """Let go of the socket."""
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._socket.close()

    def leave_to_parent(self, nowhere: int) -> None:
        """In a forked child: have the socket's number mean the open file `nowhere`, so that the parent alone can keep it open."""
        if self._socket.fileno() >= 0:
            os.dup2(nowhere, self._socket.fileno(), inheritable=False)
