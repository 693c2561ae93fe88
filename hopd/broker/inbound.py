"""What clients send, as pure code: bytes in, events out; no socket, no clock.

The mirror of `amqp.wire`, for a server. A message that lies whole in the buffer (method, header and one body frame) is read in
one go, straight from it, with its properties left as bytes; so are the settling methods. Everything else goes through `codec`.

A stream that is no AMQP ends in a `Refused`, which is a connection error: nothing after it can be trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from hopd.amqp.frames import BODY, FRAME_END, FRAME_OVERHEAD, HEADER, HEADER_FIXED, HEARTBEAT_TYPE, METHOD
from hopd.broker import codec
from hopd.broker.methods import CloseOk, Method
from hopd.broker.refusal import Code, Refused

#: What a client may send in one frame before the connection is tuned, and the most that is agreed on then. RabbitMQ's default.
FRAME_MAX = 131_072

#: The largest body, in bytes. RabbitMQ's default.
MAX_BODY = 134_217_728

BASIC = 60
PUBLISH, ACK, REJECT, NACK = 40, 80, 90, 120

_PUBLISH = struct.pack(">HH", BASIC, PUBLISH)
_SETTLING = {struct.pack(">HH", BASIC, kind): kind for kind in (ACK, REJECT, NACK)}
_SETTLE_SIZE = 13  # class and method, tag, bits

#: channel.close and its answer: what is listened to on a channel that the broker has closed.
_CLOSING = frozenset({(20, 40), (20, 41)})

#: How much of a frame that makes no sense is shown to its sender, as RabbitMQ does.
_SHOWN_OCTETS = 16

#: Distinct exchanges and keys whose text is remembered.
_MAX_TARGETS = 4096

_frame = struct.Struct(">BHI").unpack_from
_header = struct.Struct(">BHIHHQ").unpack_from  # the frame's head, then class, weight, body size
_header_fields = struct.Struct(">HHQ").unpack_from
_class_and_method = struct.Struct(">HH").unpack_from
_tag_and_bits = struct.Struct(">QB").unpack_from
_HEADER_HEAD = 7 + HEADER_FIXED


@dataclass(slots=True, eq=False)
class Target:
    """Where a message goes: the arguments of basic.publish."""

    exchange: str
    routing_key: str
    mandatory: bool
    immediate: bool


@dataclass(slots=True, eq=False)
class Publish:
    """A whole message."""

    channel: int
    target: Target
    properties: bytes
    body: bytes


@dataclass(slots=True, eq=False)
class Settle:
    """basic.ack, reject or nack, by its method number. `bits` are as they are on the wire."""

    channel: int
    kind: int
    tag: int
    bits: int


@dataclass(slots=True, eq=False)
class Command:
    """Any other method."""

    channel: int
    class_id: int
    method_id: int
    method: Method


@dataclass(slots=True, eq=False)
class TooLarge:
    """A message announced more than the largest body; what it sends of it is dropped."""

    channel: int
    refused: Refused


Event: TypeAlias = Publish | Settle | Command | TooLarge


class _Assembly:
    """A message whose frames are still coming in. `missing` is -1 until its header came."""

    __slots__ = ("chunks", "missing", "properties", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.properties = b""
        self.missing = -1
        self.chunks: list[bytes] = []


class Inbound:
    """Turns any split of a client's stream of frames into the same events. One for each connection."""

    def __init__(self, frame_max: int = FRAME_MAX) -> None:
        self.frame_max = frame_max
        self._rest = b""
        #: By channel: the message that is being put together; None for a channel that is not listened to.
        self._busy: dict[int, _Assembly | None] = {}
        self._targets: dict[bytes, Target] = {}

    def ignore(self, channel: int) -> None:
        """Drop what comes on a channel except its closing: the broker has closed it, and its client may not know yet."""
        self._busy[channel] = None

    def heed(self, channel: int) -> None:
        """The channel's number is free again."""
        self._busy.pop(channel, None)

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that `data` completes. Raises `Refused`, always a hard one, when what follows them is no AMQP."""
        try:
            yield from self._events(data)
        except (struct.error, IndexError) as error:
            # The frames keep their form but what is in them runs past their end. Found by trying, as that costs a message nothing.
            raise Refused(Code.FRAME_ERROR, f"a frame that is too short for what it says: {error}") from error

    def _events(self, data: bytes) -> Iterator[Event]:
        data = self._rest + data if self._rest else data
        busy = self._busy
        position, end = 0, len(data)
        while end - position >= FRAME_OVERHEAD:
            kind, channel, size = _frame(data, position)
            stop = position + size + FRAME_OVERHEAD
            if stop > end or size > self.frame_max:
                self._refuse_oversized(kind, size)
                break
            if data[stop - 1] != FRAME_END:
                raise _frame_error(kind, data[position + 7 : stop - 1], f"{{invalid_frame_end_marker,{data[stop - 1]}}}")
            if kind == METHOD and channel not in busy:
                method = data[position + 7 : position + 11]
                if method == _PUBLISH:
                    whole = self._whole_message(data, position + 11, stop, end, channel)
                    if whole is not None:
                        message, position = whole
                        yield message
                        continue
                elif method in _SETTLING and size == _SETTLE_SIZE:
                    tag, bits = _tag_and_bits(data, position + 11)
                    position = stop
                    yield Settle(channel, _SETTLING[method], tag, bits)
                    continue
            event = self._frame(kind, channel, data[position + 7 : stop - 1])
            position = stop
            if event is not None:
                yield event
        self._rest = data[position:] if position else data

    def _whole_message(self, data: bytes, start: int, header: int, end: int, channel: int) -> tuple[Publish, int] | None:
        """The message whose method's arguments begin at `start` and whose header frame should begin at `header`, with the position
        behind it; None unless all of it is in the buffer, in one piece."""
        if end - header < _HEADER_HEAD + 3:
            return None
        kind, header_channel, header_size, class_id, _weight, size = _header(data, header)
        body = header + header_size + FRAME_OVERHEAD
        if kind != HEADER or header_channel != channel or class_id != BASIC or body > end or data[body - 1] != FRAME_END:
            return None
        if size > self.frame_max or header_size > self.frame_max:
            return None
        if size == 0:
            content, after = b"", body
        else:
            after = body + size + FRAME_OVERHEAD
            if after > end or _frame(data, body) != (BODY, channel, size) or data[after - 1] != FRAME_END:
                return None
            content = data[body + 7 : after - 1]
        return Publish(channel, self._target(data[start : header - 1]), data[header + _HEADER_HEAD : body - 1], content), after

    def _target(self, arguments: bytes) -> Target:
        """The arguments of basic.publish. A publisher uses the same few again and again, so their text is made once."""
        target = self._targets.get(arguments)
        if target is None:
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            target = self._targets[arguments] = _decode_target(arguments)
        return target

    # --- frame by frame -----------------------------------------------------------------------

    def _frame(self, kind: int, channel: int, payload: bytes) -> Event | None:
        """One whole frame, taken by itself."""
        if kind == METHOD and len(payload) >= 4:
            return self._method(channel, payload)
        if kind == HEADER:
            return self._header(channel, payload)
        if kind == BODY:
            return self._body(channel, payload)
        if kind != HEARTBEAT_TYPE or payload:
            raise _frame_error(kind, payload, "unknown_frame")
        if channel != 0:
            raise Refused(Code.UNEXPECTED_FRAME, f"type {kind}, {_described(payload)}")
        return None

    def _method(self, channel: int, payload: bytes) -> Event | None:
        class_id, method_id = _class_and_method(payload)
        assembly = self._busy.get(channel)
        if assembly is not None:
            raise _interrupted(assembly)
        if channel in self._busy and (class_id, method_id) not in _CLOSING:
            return None
        if (class_id, method_id) == (BASIC, PUBLISH):
            self._busy[channel] = _Assembly(self._target(payload[4:]))
            return None
        if class_id == BASIC and method_id in _SETTLING.values():
            if len(payload) != _SETTLE_SIZE:
                raise Refused(Code.FRAME_ERROR, f"cannot decode {codec.octets(payload[4:])}", class_id, method_id)
            return Settle(channel, method_id, *_tag_and_bits(payload, 4))
        return Command(channel, class_id, method_id, codec.decode(class_id, method_id, payload[4:]))

    def _header(self, channel: int, payload: bytes) -> Event | None:
        assembly = self._assembly(channel)
        if assembly is None:
            return None
        if assembly.missing >= 0:
            raise _interrupted(assembly)
        class_id, _weight, size = _header_fields(payload)
        if class_id != BASIC:
            text = f"expected content header for class {BASIC}, got one for class {class_id} instead"
            raise Refused(Code.UNEXPECTED_FRAME, text, BASIC, PUBLISH)
        if size > MAX_BODY:
            self.ignore(channel)
            text = f"message size {size} is larger than configured max size {MAX_BODY}"
            return TooLarge(channel, Refused(Code.PRECONDITION_FAILED, text, BASIC, PUBLISH))
        assembly.missing = size
        assembly.properties = payload[HEADER_FIXED:]
        return self._finish(channel, assembly) if size == 0 else None

    def _body(self, channel: int, payload: bytes) -> Event | None:
        assembly = self._assembly(channel)
        if assembly is None:
            return None
        if assembly.missing < 0:
            raise _interrupted(assembly)
        if len(payload) > assembly.missing:
            raise Refused(Code.FRAME_ERROR, "a body that is longer than its header said", BASIC, PUBLISH)
        if payload:
            assembly.chunks.append(payload)
        assembly.missing -= len(payload)
        return self._finish(channel, assembly) if assembly.missing == 0 else None

    def _assembly(self, channel: int) -> _Assembly | None:
        """What a content frame belongs to; None when it is to be dropped."""
        try:
            return self._busy[channel]
        except KeyError:
            raise Refused(Code.UNEXPECTED_FRAME, "expected method frame, got non method frame instead") from None

    def _finish(self, channel: int, assembly: _Assembly) -> Publish:
        del self._busy[channel]
        return Publish(channel, assembly.target, assembly.properties, b"".join(assembly.chunks))

    def _refuse_oversized(self, kind: int, size: int) -> None:
        """Refuse at once what would otherwise be buffered for ever."""
        # Payloads of that size make frames eight bytes larger: some clients forget that, and RabbitMQ forgives them.
        if size > self.frame_max:
            raise _frame_error(kind, b"", f"{{frame_too_large,{size},{self.frame_max - FRAME_OVERHEAD}}}")
        if kind not in (METHOD, HEADER, BODY, HEARTBEAT_TYPE):
            raise _frame_error(kind, b"", "unknown_frame")


@dataclass(slots=True, eq=False)
class Held:
    """A message that has to wait, what was read behind it, and what came later."""

    event: Publish
    events: Iterator[Event]
    behind: bytes = b""


class Deaf(Inbound):
    """Stands in for the decoder of a stream that is no AMQP any more: all that it understands is that the client has taken note."""

    _CLOSE_OK = bytes((METHOD, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, FRAME_END))

    def __init__(self) -> None:
        super().__init__()
        self._heard = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The client's close-ok, wherever it is."""
        self._heard += data
        if self._CLOSE_OK in self._heard:
            yield Command(0, 10, 51, CloseOk())
        self._heard = self._heard[1 - len(self._CLOSE_OK) :]


def _decode_target(arguments: bytes) -> Target:
    """ticket (2), exchange, routing key, bits (1)."""
    key = 3 + arguments[2]
    bits = key + 1 + arguments[key]
    if bits + 1 != len(arguments):
        raise Refused(Code.FRAME_ERROR, f"cannot decode {codec.octets(arguments)}", BASIC, PUBLISH)
    exchange, routing_key = codec.text(arguments[3:key]), codec.text(arguments[key + 1 : bits])
    return Target(exchange, routing_key, arguments[bits] & 1 == 1, arguments[bits] & 2 == 2)


def _interrupted(assembly: _Assembly) -> Refused:
    """Something else came while the frames of a message were expected."""
    if assembly.missing < 0:
        text = f"expected content header for class {BASIC}, got non content header frame instead"
    else:
        text = "expected content body, got non content body frame instead"
    return Refused(Code.UNEXPECTED_FRAME, text, BASIC, PUBLISH)


def _frame_error(kind: int, payload: bytes, why: str) -> Refused:
    return Refused(Code.FRAME_ERROR, f"type {kind}, {_described(payload)}: {why}")


def _described(payload: bytes) -> str:
    if len(payload) <= _SHOWN_OCTETS:
        return f"all octets = {codec.octets(payload)}"
    return f"first {_SHOWN_OCTETS} octets = {codec.octets(payload[:_SHOWN_OCTETS])}"
