"""Serves the control protocol on a Unix socket.

It names gevent's socket itself, so that it works the same whether or not the process was monkey-patched.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import socket

from hopd.control import protocol, socketfile
from hopd.control.peer import Access, Peer, own_access, peer_of
from hopd.errors import ControlError

log = logging.getLogger(__name__)

Handle = Callable[[protocol.Request, Peer, Access], Any]

_CHUNK = 64 * 1024

#: Seconds that clients get to notice that the server stops.
_STOP_TIMEOUT = 1.0


@dataclass(frozen=True)
class Limits:
    """What a client may cost. Times are seconds."""

    #: Connections at once; each is one greenlet and at most two lines of buffer.
    clients: int = 64
    #: From a request's first byte to its last.
    line_timeout: float = 10.0
    #: Between requests; people at a socat prompt think for a while.
    idle_timeout: float = 60.0
    #: For a client to take its reply.
    write_timeout: float = 5.0
    #: Between two tries to accept when the process has run out of file descriptors.
    accept_pause: float = 0.5


class ControlServer:
    """Listens on `path` and answers each request with what `handle(request, peer, access)` returns or raises.

    Its duties, in order:
    1. own the socket file: `start` makes it, `stop` removes it;
    2. accept clients, up to the cap; refuse the rest at once; pause when the process is out of file descriptors;
    3. give each client its own greenlet, so that a slow one, or one that waits for a drain, delays nobody;
    4. on `stop`, tell clients whose request is under way that hopd is shutting down, and close them all.
    """

    def __init__(self, path: str, mode: int, group: str | None, handle: Handle, *, limits: Limits | None = None) -> None:
        self.path = path
        self._mode = mode
        self._group = group
        self._handle = handle
        self._limits = limits or Limits()
        self._file: socketfile.SocketFile | None = None
        self._listener: socket.socket | None = None
        self._acceptor: gevent.Greenlet[..., None] | None = None
        self._clients: dict[gevent.Greenlet[..., None], socket.socket] = {}
        self._exhausted = False

    def start(self) -> None:
        """Listen; `SocketUnusable` says why that cannot be."""
        group = socketfile.group_id(self._group)
        self._file = socketfile.create(self.path, self._mode, group)
        self._listener = socket.socket(fileno=self._file.socket.detach())
        self._acceptor = gevent.spawn(self._accept, self._listener, own_access(group))
        _SERVERS.add(self)
        log.info("Listening for hopctl on %s", self.path, extra={"event": "control_listening", "path": self.path})

    def stop(self) -> None:
        """Stop listening, remove the socket file and end every client. Stopping twice is stopping once."""
        if self._file is None:
            return
        file, self._file = self._file, None
        file.unlink()
        gevent.killall([greenlet for greenlet in (self._acceptor, *self._clients) if greenlet], timeout=_STOP_TIMEOUT)

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def leave_to_parent(self) -> None:
        """In a forked child: let go of all sockets, so that they close when the parent closes them."""
        read, _never_closed = os.pipe()
        for held in (self._listener, *self._clients.values()):
            # Nothing ever arrives on the pipe; closing instead would leave a number that the child's next file gets.
            if held is not None and held.fileno() >= 0:
                os.dup2(read, held.fileno(), inheritable=False)

    def _accept(self, listener: socket.socket, access: Access) -> None:
        with listener:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError as error:
                    self._pause(error)
                    continue
                self._exhausted = False
                self._admit(connection, access)
                gevent.sleep(0)  # accept() returns without a switch while others wait: jobs come first

    def _pause(self, error: OSError) -> None:
        if not self._exhausted:
            message = "Cannot accept control connections for now: %s; trying again every %g s"
            reason = error.strerror or str(error)
            log.error(message, reason, self._limits.accept_pause, extra={"event": "control_accept_failed", "reason": reason})
        self._exhausted = True
        gevent.sleep(self._limits.accept_pause)

    def _admit(self, connection: socket.socket, access: Access) -> None:
        if len(self._clients) >= self._limits.clients:
            _refuse(connection, self._limits.clients)
            return
        greenlet = gevent.spawn(_Client(connection, self._handle, access, self._limits).run)
        self._clients[greenlet] = connection
        greenlet.rawlink(self._clients.pop)


_SERVERS: weakref.WeakSet[ControlServer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for server in _SERVERS:
        server.leave_to_parent()


# A child that outlives hopd would keep its socket alive, and the next hopd would take it for a running one.
os.register_at_fork(after_in_child=_after_fork_in_child)


class _Client:
    """One connection.

    Its duties, in order: read a line within its deadline, have it handled, write the reply within its deadline; close
    after a line that is no request, when the client is idle for too long, and when it does not read.
    """

    def __init__(self, connection: socket.socket, handle: Handle, access: Access, limits: Limits) -> None:
        self._connection = connection
        self._handle = handle
        self._access = access
        self._limits = limits
        self._lines = protocol.LineSplitter()

    def run(self) -> None:
        """Serve the client until it leaves or has to."""
        with self._connection:
            try:
                peer = peer_of(self._connection)
                while self._serve_one(peer):
                    gevent.sleep(0)  # a client that always has the next request ready must not keep the hub to itself
            except OSError as error:
                # Gone, or not reading: its connection is all that ends.
                log.debug("A control client was dropped: %s", error or type(error).__name__, extra={"event": "control_client_dropped"})

    def _serve_one(self, peer: Peer) -> bool:
        """Answer one request; False when the connection is to be closed."""
        try:
            line = self._read_line()
        except protocol.RequestRefused as refused:
            self._write(protocol.encode_error(None, refused))
            return False
        if line is None:
            return False
        reply, proceed = self._answer(line, peer)
        self._write(reply)
        return proceed

    def _read_line(self) -> bytes | None:
        """The next line, or None when the client has left or had nothing to say for too long."""
        started = time.monotonic()
        while (line := self._lines.next_line()) is None:
            began = self._lines.partial
            deadline = started + (self._limits.line_timeout if began else self._limits.idle_timeout)
            data = self._receive(deadline)
            if data is None:
                if began:
                    raise protocol.RequestRefused(protocol.TIMEOUT, f"a request has {self._limits.line_timeout:g} s to arrive as a whole")
                return None
            if not data:
                return self._lines.rest() or None
            if not began:
                started = time.monotonic()
            self._lines.feed(data)
        return line

    def _receive(self, deadline: float) -> bytes | None:
        """What has arrived, nothing at the end of the stream, None at the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        self._connection.settimeout(left)
        try:
            data: bytes = self._connection.recv(_CHUNK)
        except TimeoutError:
            return None
        return data

    def _answer(self, line: bytes, peer: Peer) -> tuple[bytes, bool]:
        request_id: protocol.Id = None
        try:
            request = protocol.decode_request(line)
            request_id = request.id
            return protocol.encode_result(request_id, self._handle(request, peer, self._access)), True
        except protocol.RequestRefused as refused:
            return protocol.encode_error(refused.id, refused), False
        except ControlError as error:
            return protocol.encode_error(request_id, error), error.code not in protocol.CLOSING
        except gevent.GreenletExit:
            self._connection.settimeout(0)
            stopping = ControlError(protocol.SHUTTING_DOWN, "hopd stopped before the command was finished")
            self._connection.send(protocol.encode_error(request_id, stopping))
            raise
        except Exception as error:
            log.exception("A control command failed in hopd itself", extra={"event": "control_crashed"})
            failed = ControlError(protocol.FAILED, f"an error in hopd itself, its log has the traceback: {type(error).__name__}: {error}")
            return protocol.encode_error(request_id, failed), True

    def _write(self, reply: bytes) -> None:
        self._connection.settimeout(self._limits.write_timeout)
        self._connection.sendall(reply)


def _refuse(connection: socket.socket, cap: int) -> None:
    error = ControlError(protocol.TOO_MANY_CLIENTS, f"hopd serves {cap} control connections at once: try again")
    with connection:
        try:
            connection.settimeout(0)
            connection.send(protocol.encode_error(None, error))
        except OSError as gone:
            log.debug("A refused control client had left: %s", gone, extra={"event": "control_client_dropped"})
