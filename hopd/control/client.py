"""Talks to a running hopd over its control socket. Standard library only: hopctl starts with nothing else."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from hopd.control import protocol
from hopd.errors import ControlError, ControlTimeout, NotRunning

#: Seconds to wait for an answer; hopd answers all but `drain`, `reload` and `put` at once.
TIMEOUT = 5.0

_CHUNK = 64 * 1024


class ControlClient:
    """Calls commands of the hopd that listens on `path`, each over a connection of its own."""

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.path = path
        self.timeout = timeout

    def call(self, cmd: str, args: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """The result of `cmd`, within `timeout` seconds (default: the client's).

        Raises `NotRunning` (nothing was asked of anyone), `ControlTimeout` (the command may still be carried out) or
        `ControlError` with the code hopd answered; its code is `not_permitted` when the socket may not be opened.
        """
        line = protocol.encode_request(protocol.Request(cmd, dict(args or {}), 1))
        limit = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        try:
            with self._connect(limit) as connection:
                _send(connection, line, deadline)
                reply = _receive_line(connection, deadline)
        except TimeoutError as error:
            raise ControlTimeout(f"hopd on {self.path} did not answer {cmd} within {limit:g} s") from error
        except OSError as error:
            raise ControlError(protocol.FAILED, f"the connection to hopd on {self.path} broke: {_reason(error)}") from error
        return self._decode(cmd, reply)

    def _connect(self, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A full backlog ends a non-blocking connect at once; a blocking one with a send timeout waits for its turn.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
            connection.connect(os.fsencode(self.path))
        except OSError as error:
            connection.close()
            if error.errno == errno.EAGAIN:
                raise TimeoutError from error
            raise self._refused(error) from error
        return connection

    def _refused(self, error: OSError) -> NotRunning | ControlError:
        path = self.path
        if error.errno in {errno.EACCES, errno.EPERM}:
            return ControlError(protocol.NOT_PERMITTED, f"uid {os.geteuid()} may not open {path}")
        if error.errno == errno.ENOENT:
            return NotRunning(f"{path}: there is no such socket")
        if error.errno == errno.ECONNREFUSED:
            return NotRunning(f"{path}: nobody listens there; a hopd that was killed may have left it")
        return NotRunning(f"{path}: {_reason(error)}")

    def _decode(self, cmd: str, reply: bytes) -> Any:
        if not reply.endswith(b"\n"):
            raise ControlError(protocol.FAILED, f"hopd on {self.path} closed the connection before it answered {cmd}")
        try:
            return protocol.decode_reply(reply)
        except ValueError as error:
            raise ControlError(protocol.FAILED, f"what answers on {self.path} does not speak hopd's protocol: {error}") from error


def _send(connection: socket.socket, line: bytes, deadline: float) -> None:
    connection.settimeout(_left(deadline))
    try:
        connection.sendall(line)
    except (BrokenPipeError, ConnectionResetError):
        # hopd refused us and hung up, and its reply says why; without one the sending is what failed.
        if not connection.recv(1, socket.MSG_PEEK):
            raise


def _receive_line(connection: socket.socket, deadline: float) -> bytes:
    """One line, or what came of it before the connection ended."""
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < protocol.MAX_REPLY:
        connection.settimeout(_left(deadline))
        try:
            data = connection.recv(_CHUNK)
        except ConnectionResetError:
            # The kernel's word for a peer that closed with our bytes unread.
            data = b""
        if not data:
            break
        received += data
    return bytes(received)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _timeval(seconds: float) -> bytes:
    # A zero timeval means for ever.
    return struct.pack("@ll", int(seconds), max(1, int(seconds % 1 * 1_000_000)))


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
