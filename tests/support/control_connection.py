"""A bare connection to a control socket, for sending what no client would send."""

from __future__ import annotations

import json
import socket
from typing import Any


class ControlConnection:
    """Sends bytes and reads lines. Nothing waits longer than `timeout` seconds."""

    def __init__(self, path: str, timeout: float = 20.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self._received = b""
        #: What told us that the server no longer reads, once something has.
        self.hung_up: OSError | None = None

    def __enter__(self) -> ControlConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of `data`, or as much as the server takes before it hangs up."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            self.hung_up = error

    def ask(self, **request: Any) -> Any:
        """Send a request of version 1 and return the reply."""
        self.send(json.dumps({"v": 1, **request}).encode() + b"\n")
        return self.reply()

    def reply(self) -> Any:
        """The next reply; None when the server has closed the connection."""
        line = self.line()
        return json.loads(line) if line else None

    def line(self) -> bytes:
        """The next line; empty when the server has closed the connection."""
        while b"\n" not in self._received:
            data = self._receive()
            if not data:
                break
            self._received += data
        line, newline, self._received = self._received.partition(b"\n")
        return line + newline

    def lines(self) -> list[bytes]:
        """All lines until the server closes the connection."""
        return list(iter(self.line, b""))

    def end(self) -> None:
        """Tell the server that nothing more comes."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.hung_up = error

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""
