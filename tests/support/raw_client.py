"""A client of a broker over a real socket that does exactly what it is told, right or wrong, with pika's codec."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pika import spec

from tests.support.talk import CAPABILITIES, Heard, heard, method

#: For anything a test waits for here. Seconds.
PATIENCE = 20.0


class RawClient:
    """`say` sends frames, `hear` waits for what the broker says. `heartbeat` is in seconds, 0: none."""

    def __init__(self, address: tuple[str, int] | str, *, heartbeat: int = 0) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self._heartbeat = heartbeat
        self._stream = b""
        self._heard: list[Heard] = []

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def come_in(self, *channels: int) -> RawClient:
        """The handshake, and these channels."""
        self.say(b"AMQP\0\0\x09\x01")
        self.hear(spec.Connection.Start)
        self.say(method(0, spec.Connection.StartOk(dict(CAPABILITIES), "PLAIN", b"\0guest\0guest", "en_US")))
        self.hear(spec.Connection.Tune)
        self.say(method(0, spec.Connection.TuneOk(2047, 131_072, self._heartbeat)), method(0, spec.Connection.Open("/")))
        self.hear(spec.Connection.OpenOk)
        for channel in channels:
            self.say(method(channel, spec.Channel.Open()))
            self.hear(spec.Channel.OpenOk)
        return self

    def say(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def hear(self, kind: Callable[..., Any]) -> Heard:
        """Wait for a method of that kind; what comes before it is passed over."""
        while True:
            while self._heard:
                one = self._heard.pop(0)
                if type(one.method) is kind:
                    return one
            data = self.socket.recv(65_536)
            assert data, f"the broker hung up instead of saying {kind}"
            self._stream += data
            whole = _whole_messages(self._stream)
            self._heard += heard(self._stream[:whole])
            self._stream = self._stream[whole:]

    def hears_the_end(self) -> bool:
        """Wait for the end of the stream, whatever comes before it."""
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionResetError:
            return True
        return True


def _whole_messages(stream: bytes) -> int:
    """How much of the stream is whole frames, and behind them nothing that belongs to the last one: a body that is missing."""
    whole = at = missing = 0
    while at + 8 <= len(stream):
        size = int.from_bytes(stream[at + 3 : at + 7], "big")
        if at + 8 + size > len(stream):
            break
        kind = stream[at]
        if kind == 2:
            missing = int.from_bytes(stream[at + 11 : at + 19], "big")
        elif kind == 3:
            missing -= size
        content_follows = kind == 1 and stream[at + 7 : at + 11] in (b"\0<\0<", b"\0<\0G", b"\0<\x002")
        at += 8 + size
        if not missing and not content_follows:
            whole = at
    return whole
