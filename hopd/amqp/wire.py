"""What comes in on the wire, as pure code: bytes in, events out; no socket, no clock, no lock.

AMQP 0-9-1 sends frames (§4.2.3: type, channel, size, payload, 0xCE). A message is a method frame, a header frame and
as many body frames as it takes; frames of different channels may interleave, those of one channel never do.

Decoding the three frames of a delivery one by one costs more than everything else a consumer does, so a message that
lies whole in the buffer is read in one go, straight from it, with its properties left as bytes until somebody asks.
A message that does not (cut by the end of the buffer, larger than a frame, interleaved) is put together frame by frame.
Every method frame that carries no message and is no confirm goes to pika's codec as it is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hopd.amqp.frames import BODY, FRAME_END, FRAME_OVERHEAD, HEADER, HEARTBEAT_TYPE, METHOD

if TYPE_CHECKING:
    from hopd.amqp.settlement import Settlement

#: What a peer may send before it has tuned the connection (AMQP 0-9-1 §4.2.3: frame-min-size); RabbitMQ's own default is used
#: as the bound, because its handshake frame carries a table of capabilities.
DEFAULT_FRAME_MAX = 131_072

_DELIVER = struct.pack(">HH", 60, 60)
_RETURN = struct.pack(">HH", 60, 50)
_ACK = struct.pack(">HH", 60, 80)
_NACK = struct.pack(">HH", 60, 120)
_ACK_SIZE = 13  # bytes of its method frame's payload

_frame = struct.Struct(">BHI").unpack_from
_tag_and_bits = struct.Struct(">QB").unpack_from
_header = struct.Struct(">BHIHHQ").unpack_from  # the frame's head, then class, weight, body size
_body_size = struct.Struct(">Q").unpack_from
_HEADER_FIXED = 7 + 12


class FrameError(Exception):
    """The peer sent bytes that are no AMQP 0-9-1 frame. Ends the connection; translated at its edge."""


class Delivery:
    """One message the broker delivered on a channel. `settlement` belongs to the channel as it was then, never to a later one."""

    __slots__ = ("_method", "body", "channel", "raw_properties", "redelivered", "settlement", "tag")

    settlement: Settlement

    def __init__(self, channel: int, tag: int, redelivered: bool, method: bytes, raw_properties: bytes, body: bytes) -> None:
        self.channel = channel
        self.tag = tag
        self.redelivered = redelivered
        self._method = method
        self.raw_properties = raw_properties
        self.body = body

    @property
    def consumer_tag(self) -> str:
        """The consumer it was delivered to."""
        return _short_string(self._method, 0)[0]

    @property
    def exchange(self) -> str:
        """The exchange it was published to."""
        return _short_string(self._method, self._after_tag())[0]

    @property
    def routing_key(self) -> str:
        """The key it was published with."""
        return _short_string(self._method, _short_string(self._method, self._after_tag())[1])[0]

    def _after_tag(self) -> int:
        return 1 + self._method[0] + 9

    def __repr__(self) -> str:
        return f"<Delivery {self.tag} on channel {self.channel}, {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True)
class Returned:
    """A mandatory message that the broker could route nowhere; it comes before the message's confirm."""

    channel: int
    code: int
    text: str
    exchange: str
    routing_key: str
    raw_properties: bytes


class Confirm(NamedTuple):
    """The broker's word on published messages: up to `tag` when `multiple`."""

    channel: int
    tag: int
    multiple: bool
    accepted: bool


@dataclass(frozen=True, slots=True)
class MethodFrame:
    """Any other method frame, whole, for pika's codec."""

    channel: int
    data: bytes


Event: TypeAlias = "Delivery | Returned | Confirm | MethodFrame"


class _Assembly:
    """A message whose frames are still coming in. `size` is -1 until its header came."""

    __slots__ = ("chunks", "method", "missing", "properties", "size")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.properties = b""
        self.size = -1
        self.missing = 0
        self.chunks: list[bytes] = []


class Decoder:
    """Turns any split of a stream of frames into the same events. Not thread-safe: it belongs to one reader."""

    def __init__(self, frame_max: int = DEFAULT_FRAME_MAX) -> None:
        self.frame_max = frame_max
        self._rest = b""
        self._assemblies: dict[int, _Assembly] = {}

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes; `FrameError` when it cannot be AMQP."""
        try:
            return self._feed(data)
        except (struct.error, IndexError) as error:
            # The frames keep their form but what is in them runs past their end. Found by trying, as that costs a delivery nothing.
            raise FrameError(f"a frame that is too short for what it says: {error}") from error

    def _feed(self, data: bytes) -> list[Event]:
        if self._rest:
            data = self._rest + data
        events: list[Event] = []
        position, end = 0, len(data)
        while end - position >= FRAME_OVERHEAD:
            kind, channel, size = _frame(data, position)
            stop = position + size + FRAME_OVERHEAD
            if stop > end:
                self._refuse_oversized(data, position, kind, size)
                break
            if data[stop - 1] != FRAME_END:
                raise FrameError(_describe(data, position))
            if kind == METHOD:
                method = data[position + 7 : position + 11]
                if method == _DELIVER:
                    whole = self._whole_delivery(data, position + 11, stop, end, channel)
                    if whole is not None:
                        delivery, position = whole
                        events.append(delivery)
                        continue
                elif method == _ACK and size == _ACK_SIZE:
                    tag, bits = _tag_and_bits(data, position + 11)
                    events.append(Confirm(channel, tag, bits & 1 == 1, True))
                    position = stop
                    continue
            self._frame(kind, channel, data[position:stop], events)
            position = stop
        self._rest = data[position:] if position else data
        return events

    def _whole_delivery(self, data: bytes, start: int, header: int, end: int, channel: int) -> tuple[Delivery, int] | None:
        """The delivery whose method's arguments begin at `start` and whose header frame should begin at `header`, with the
        position behind it; None unless all of it is in the buffer, in one piece."""
        if channel in self._assemblies or end - header < _HEADER_FIXED + 3:
            return None
        kind, header_channel, header_size, _class, _weight, size = _header(data, header)
        body = header + header_size + FRAME_OVERHEAD
        if kind != HEADER or header_channel != channel or body > end or data[body - 1] != FRAME_END:
            return None
        if size == 0:
            content, after = b"", body
        else:
            after = body + size + FRAME_OVERHEAD
            if after > end or _frame(data, body) != (BODY, channel, size) or data[after - 1] != FRAME_END:
                return None
            content = data[body + 7 : after - 1]
        method = data[start : header - 1]
        tag, bits = _tag_and_bits(method, 1 + method[0])
        return Delivery(channel, tag, bits & 1 == 1, method, data[header + _HEADER_FIXED : body - 1], content), after

    def _frame(self, kind: int, channel: int, frame: bytes, events: list[Event]) -> None:
        """One whole frame, taken by itself."""
        if kind == METHOD:
            self._method(channel, frame, events)
        elif kind == HEADER:
            self._header(channel, frame, events)
        elif kind == BODY:
            self._body(channel, frame, events)
        elif kind != HEARTBEAT_TYPE:
            raise FrameError(_describe(frame, 0))

    def _method(self, channel: int, frame: bytes, events: list[Event]) -> None:
        method = frame[7:11]
        if len(frame) < FRAME_OVERHEAD + 4:
            raise FrameError(f"a method frame without a method on channel {channel}")
        if method in (_DELIVER, _RETURN):
            if channel in self._assemblies:
                raise FrameError(f"a second message on channel {channel} before the first one ended")
            self._assemblies[channel] = _Assembly(frame[7:-1])
        elif method in (_ACK, _NACK):
            tag, bits = _tag_and_bits(frame, 11)
            events.append(Confirm(channel, tag, bits & 1 == 1, method == _ACK))
        else:
            # A channel that is closed in the middle of a message will not finish it.
            self._assemblies.pop(channel, None)
            events.append(MethodFrame(channel, frame))

    def _header(self, channel: int, frame: bytes, events: list[Event]) -> None:
        assembly = self._assemblies.get(channel)
        if assembly is None or assembly.size >= 0 or len(frame) < _HEADER_FIXED + 3:
            raise FrameError(f"a content header nobody announced on channel {channel}")
        (assembly.size,) = _body_size(frame, 11)
        assembly.missing = assembly.size
        assembly.properties = frame[_HEADER_FIXED:-1]
        if assembly.size == 0:
            self._finish(channel, assembly, events)

    def _body(self, channel: int, frame: bytes, events: list[Event]) -> None:
        assembly = self._assemblies.get(channel)
        size = len(frame) - FRAME_OVERHEAD
        if assembly is None or size > assembly.missing:
            raise FrameError(f"a body frame nobody announced on channel {channel}")
        assembly.chunks.append(frame[7:-1])
        assembly.missing -= size
        if assembly.missing == 0:
            self._finish(channel, assembly, events)

    def _finish(self, channel: int, assembly: _Assembly, events: list[Event]) -> None:
        del self._assemblies[channel]
        arguments = assembly.method[4:]
        if assembly.method[:4] == _DELIVER:
            tag, bits = _tag_and_bits(arguments, 1 + arguments[0])
            events.append(Delivery(channel, tag, bits & 1 == 1, arguments, assembly.properties, b"".join(assembly.chunks)))
            return
        code = int.from_bytes(arguments[:2], "big")
        text, at = _short_string(arguments, 2)
        exchange, at = _short_string(arguments, at)
        events.append(Returned(channel, code, text, exchange, _short_string(arguments, at)[0], assembly.properties))

    def _refuse_oversized(self, data: bytes, position: int, kind: int, size: int) -> None:
        """Refuse at once what would otherwise be buffered for ever."""
        if kind not in (METHOD, HEADER, BODY, HEARTBEAT_TYPE) or size > self.frame_max - FRAME_OVERHEAD:
            raise FrameError(_describe(data, position))


def _describe(data: bytes, position: int) -> str:
    head = data[position : position + 8]
    if head.startswith(b"AMQP"):
        return f"the peer speaks another protocol version: {head!r}"
    return f"not an AMQP 0-9-1 frame: {head!r}"


def _short_string(data: bytes, offset: int) -> tuple[str, int]:
    if offset >= len(data) or (stop := offset + 1 + data[offset]) > len(data):
        raise FrameError("a text runs past the end of its frame")
    return data[offset + 1 : stop].decode("utf-8", "replace"), stop
