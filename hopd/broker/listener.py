"""Where clients come in: a loopback address, a Unix socket, or both. The broker serves one machine."""

from __future__ import annotations

import _socket
import errno
import os
import struct
from dataclasses import dataclass

from hopd.control import socketfile
from hopd.errors import CannotListen, SocketUnusable

#: Connections the kernel keeps for us while we are busy; more wait in their connect().
BACKLOG = 1024

#: For the user alone, unless it is shared by giving its directory to a group.
UNIX_MODE = 0o600

_PEER = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True, slots=True)
class Address:
    """A loopback address. `family` is the socket module's."""

    family: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.family == _socket.AF_INET6 else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``127.0.0.1:5672``, ``localhost:5672``, ``[::1]:5672``; port 0 is any free one. `CannotListen` for all that is no loopback."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise CannotListen(f"cannot listen on {text!r}: expected HOST:PORT, like 127.0.0.1:5672")
    if host == "localhost":
        host = "127.0.0.1"
    if host == "[::1]":
        return Address(_socket.AF_INET6, "::1", int(port))
    try:
        first = _socket.inet_pton(_socket.AF_INET, host)[0]
    except OSError:
        first = 0
    if first != 127:
        raise CannotListen(
            f"cannot listen on {text!r}: the embedded broker serves this machine only, on an address like 127.0.0.1 or [::1]. "
            "For other machines run RabbitMQ, and set its URL"
        )
    return Address(_socket.AF_INET, host, int(port))


class Listener:
    """A listening socket."""

    def __init__(self, sock: _socket.socket, name: str, file: socketfile.SocketFile | None = None) -> None:
        self.socket = sock
        #: The URL's address, or the path.
        self.name = name
        self._file = file

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket."""
        return 0 if self._file else int(self.socket.getsockname()[1])

    def accept(self) -> tuple[_socket.socket, str] | None:
        """The next client and where it comes from; None when there is none. OSError when none can be taken now."""
        try:
            descriptor, address = self.socket._accept()  # type: ignore[attr-defined]  # as the standard library does
        except (BlockingIOError, ConnectionAbortedError):
            return None
        client = _socket.socket(fileno=descriptor)
        client.setblocking(False)
        if self._file:
            pid, uid, _gid = _PEER.unpack(client.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEER.size))
            return client, f"process {pid} of user {uid}"
        client.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        return client, f"{address[0]}:{address[1]}"

    def leave_to_parent(self, nowhere: int) -> None:
        """In a forked child: have the socket's number mean the open file `nowhere`."""
        if self.socket.fileno() >= 0:
            os.dup2(nowhere, self.socket.fileno(), inheritable=False)

    def close(self) -> None:
        """Stop listening, and take the socket's file away."""
        if self._file:
            self._file.unlink()
        self.socket.close()


def listen(address: Address) -> Listener:
    """Listen on a loopback address; `CannotListen` says why that cannot be."""
    sock = _socket.socket(address.family, _socket.SOCK_STREAM)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        hint = ": is another broker running there?" if error.errno == errno.EADDRINUSE else ""
        raise CannotListen(f"cannot listen on {address}: {error.strerror}{hint}") from error
    return Listener(sock, str(Address(address.family, address.host, sock.getsockname()[1])))


def listen_unix(path: str) -> Listener:
    """Listen on a Unix socket; `CannotListen` says why that cannot be."""
    try:
        file = socketfile.create(path, UNIX_MODE, None, "name another path")
    except SocketUnusable as error:
        raise CannotListen(f"cannot listen on {path}: {error}") from error
    sock = _socket.socket(fileno=file.socket.detach())
    sock.setblocking(False)
    return Listener(sock, path, file)
