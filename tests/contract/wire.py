"""A client that says what it is told to, right or wrong, and hears everything in the order in which it was said."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from pika import frame, spec

from hopd.amqp.frames import FRAME_OVERHEAD, HEADER_FIXED
from hopd.amqp.properties import Properties, decode

Method = TypeVar("Method")

#: The first eight bytes of every client.
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

#: What guest says of itself with PLAIN.
GUEST = "\0guest\0guest"

#: Longer than any answer takes on a busy machine. Seconds.
PATIENCE = 20.0


@dataclass(frozen=True)
class Header:
    """A content header; pika's own cannot hold every property that there may be."""

    channel_number: int
    body_size: int
    properties: bytes


@dataclass(frozen=True)
class Message:
    """A method with its content: a delivery, a return, an answered get."""

    method: Any
    #: As they were on the wire: flags and values.
    raw_properties: bytes
    body: bytes
    #: Payload sizes of the body's frames.
    frames: Sequence[int]

    @property
    def properties(self) -> Properties:
        return decode(self.raw_properties)


class Wire:
    """A socket to the broker. It answers nothing by itself, heartbeats neither; use as a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.settimeout(PATIENCE)
        self._received = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cut()

    # --- saying -------------------------------------------------------------------------------------

    def send(self, channel: int, *methods: Any) -> None:
        """Methods without content, in one write."""
        self.send_bytes(b"".join(frame.Method(channel, method).marshal() for method in methods))

    def send_bytes(self, data: bytes) -> None:
        """Exactly these bytes."""
        self._socket.sendall(data)

    def publish(self, channel: int, method: Any, body: bytes, properties: Any = None) -> None:
        """A basic.publish with its content, the body in one frame."""
        self.send_bytes(published(channel, method, body, properties))

    def ask(self, channel: int, method: Any, answer: type[Method]) -> Method:
        """Send a method and hear its answer, which must be the next thing on the wire."""
        self.send(channel, method)
        return self.expect(answer, channel)

    def cut(self) -> None:
        """Hang up without a word."""
        self._socket.close()

    # --- hearing ------------------------------------------------------------------------------------

    def read(self) -> Any:
        """The next frame: pika's, or our Header; None when the broker has hung up, whichever way."""
        if not self._receive(FRAME_OVERHEAD):
            return None
        if self._received.startswith(b"AMQP"):
            return frame.decode_frame(self._take(len(PROTOCOL_HEADER)))[1]
        kind, channel, size = struct.unpack_from(">BHI", self._received)
        assert self._receive(size + FRAME_OVERHEAD)
        whole = self._take(size + FRAME_OVERHEAD)
        if kind == spec.FRAME_HEADER:
            (body_size,) = struct.unpack_from(">Q", whole, 11)
            return Header(channel, body_size, whole[7 + HEADER_FIXED : -1])
        return frame.decode_frame(whole)[1]

    def _receive(self, size: int) -> bool:
        """Whether that many bytes are there, after waiting for them."""
        while len(self._received) < size:
            try:
                more = self._socket.recv(65536)
            except ConnectionResetError:  # it had not read everything that we sent
                return False
            if not more:
                return False
            self._received += more
        return True

    def _take(self, size: int) -> bytes:
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def expect(self, kind: type[Method], channel: int = 0) -> Method:
        """The next frame, which must be that method on that channel; heartbeats are passed over."""
        found = self.read()
        while isinstance(found, frame.Heartbeat):
            found = self.read()
        assert isinstance(found, frame.Method), found
        assert isinstance(found.method, kind), found.method
        assert found.channel_number == channel, found
        return found.method

    def expect_message(self, kind: type[Method], channel: int = 1) -> Message:
        """That method with its content."""
        method = self.expect(kind, channel)
        header = self.read()
        assert isinstance(header, Header), header
        pieces: list[bytes] = []
        while sum(len(piece) for piece in pieces) < header.body_size:
            piece = self.read()
            assert isinstance(piece, frame.Body), piece
            pieces.append(piece.fragment)
        return Message(method, header.properties, b"".join(pieces), [len(piece) for piece in pieces])

    def expect_close(self, code: int, text: str) -> spec.Connection.Close:
        """The broker closes the connection with this code and text, and hangs up when that is acknowledged."""
        close = self.read_to_end()
        assert close is not None, "the broker hung up without a word"
        assert (close.reply_code, close.reply_text) == (code, text), close
        return close

    def read_to_end(self) -> spec.Connection.Close | None:
        """What the broker says before it hangs up, if it says anything; that is acknowledged."""
        close = None
        while (found := self.read()) is not None:
            if isinstance(found, frame.Method) and isinstance(found.method, spec.Connection.Close):
                assert close is None, "the broker closes twice"
                close = found.method
                self.send(0, spec.Connection.CloseOk())
        return close

    def expect_channel_close(self, channel: int, code: int, text: str) -> spec.Channel.Close:
        """The broker closes the channel with this code and text; that is acknowledged."""
        close = self.expect(spec.Channel.Close, channel)
        assert (close.reply_code, close.reply_text) == (code, text), close
        self.send(channel, spec.Channel.CloseOk())
        return close

    # --- getting in ---------------------------------------------------------------------------------

    def start(self) -> spec.Connection.Start:
        """Say the protocol's header and hear what the broker offers."""
        self.send_bytes(PROTOCOL_HEADER)
        return self.expect(spec.Connection.Start)

    def log_in(self, capabilities: Mapping[str, bool] | None = None, response: str = GUEST, mechanism: str = "PLAIN") -> None:
        """Up to and with start-ok."""
        self.start()
        properties = {"product": "a test", "capabilities": dict(capabilities or {})}
        self.send(0, spec.Connection.StartOk(properties, mechanism, response, "en_US"))

    def open(
        self, capabilities: Mapping[str, bool] | None = None, *, heartbeat: int = 0, frame_max: int = 131072, channel_max: int = 2047
    ) -> Wire:
        """The whole handshake, up to an open connection with channel 1."""
        self.log_in(capabilities)
        self.expect(spec.Connection.Tune)
        self.send(0, spec.Connection.TuneOk(channel_max, frame_max, heartbeat))
        self.ask(0, spec.Connection.Open("/"), spec.Connection.OpenOk)
        return self.open_channel(1)

    def open_channel(self, number: int) -> Wire:
        self.ask(number, spec.Channel.Open(), spec.Channel.OpenOk)
        return self


def published(channel: int, method: Any, body: bytes, properties: Any = None) -> bytes:
    """The frames of a basic.publish, the body in one. `properties` may be bytes, to go out as they are."""
    if isinstance(properties, bytes):
        header = raw_frame(spec.FRAME_HEADER, channel, struct.pack(">HHQ", 60, 0, len(body)) + properties)
    else:
        header = frame.Header(channel, len(body), properties or spec.BasicProperties()).marshal()
    content = frame.Body(channel, body).marshal() if body else b""
    return frame.Method(channel, method).marshal() + header + content  # type: ignore[no-any-return]


def raw_frame(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    """A frame, or what looks like one."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end
