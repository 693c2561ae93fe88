"""What goes out to one client, as pure code: frames, collected until they are taken in one piece.

Deliveries are what there is most of, so they are packed with what stays the same from one to the next (channel, consumer tag,
exchange, key) encoded once. Confirms and returned messages are packed here too, the rest comes encoded from `codec`.
"""

from __future__ import annotations

import struct

from hopd.amqp.frames import BODY, FRAME_END, FRAME_OVERHEAD, HEADER, HEADER_FIXED, METHOD
from hopd.broker import codec, methods
from hopd.broker.model import Deliver, Message

_BASIC, _RETURN, _DELIVER, _GET_OK, _ACK, _NACK = 60, 50, 60, 71, 80, 120

_NO_ROUTE = struct.pack(">H", 312) + codec.short_text("NO_ROUTE")

#: Distinct places of origin, each with each consumer, whose encoding is remembered.
_MAX_ENVELOPES = 4096

_method_head = struct.Struct(">BHIHH").pack
_tag_and_bit = struct.Struct(">QB").pack
_header_rest = struct.Struct(">IHHQ").pack  # size of the frame, class, weight, size of the body
_end_and_body_head = struct.Struct(">BBHI").pack
_body_head = struct.Struct(">BHI").pack
_header_start = struct.Struct(">BBH").pack
_confirm = struct.Struct(">BHIHHQBB").pack
_remaining = struct.Struct(">I").pack
_END = bytes((FRAME_END,))


class Outbound:
    """Frames for one client, in order."""

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self._pieces: list[bytes] = []
        self._envelopes: dict[tuple[int, str, str, str], tuple[bytes, bytes]] = {}

    def take(self) -> bytes:
        """Everything since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken

    def raw(self, data: bytes) -> None:
        """Bytes that are encoded already."""
        self._pieces.append(data)

    def method(self, channel: int, method: methods.Method) -> None:
        """A method."""
        self._pieces.append(codec.encode(channel, method))

    def ok(self, channel: int, class_id: int, method_id: int) -> None:
        """An answer that says nothing but that it was done."""
        self._pieces.append(codec.ok(channel, class_id, method_id))

    def confirm(self, channel: int, tag: int, multiple: bool, accepted: bool) -> None:
        """The broker's word on messages that were published: `tag`, or (`multiple`) all up to it."""
        kind = _ACK if accepted else _NACK
        self._pieces.append(_confirm(METHOD, channel, 13, _BASIC, kind, tag, multiple, FRAME_END))

    def deliver(self, channel: int, deliver: Deliver) -> None:
        """A message for a consumer."""
        message = deliver.message
        key = (channel, deliver.consumer_tag, message.exchange, message.routing_key)
        envelope = self._envelopes.get(key)
        if envelope is None:
            envelope = self._envelope(*key)
        before, behind = envelope
        size = len(message.body)
        if not 0 < size <= self.frame_max - FRAME_OVERHEAD:
            self._pieces += (before, _tag_and_bit(deliver.tag, deliver.redelivered), behind)
            self._content(channel, message)
            return
        properties = message.properties
        self._pieces += (
            before,
            _tag_and_bit(deliver.tag, deliver.redelivered),
            behind,
            _header_rest(HEADER_FIXED + len(properties), _BASIC, 0, size),
            properties,
            _end_and_body_head(FRAME_END, BODY, channel, size),
            message.body,
            _END,
        )

    def _envelope(self, channel: int, consumer_tag: str, exchange: str, routing_key: str) -> tuple[bytes, bytes]:
        """A delivery's bytes before its tag, and those between its `redelivered` and the size of its header frame."""
        if len(self._envelopes) >= _MAX_ENVELOPES:
            self._envelopes.clear()
        tag, origin = codec.short_text(consumer_tag), codec.short_text(exchange) + codec.short_text(routing_key)
        before = _method_head(METHOD, channel, 4 + len(tag) + 9 + len(origin), _BASIC, _DELIVER) + tag
        behind = origin + _header_start(FRAME_END, HEADER, channel)
        self._envelopes[channel, consumer_tag, exchange, routing_key] = before, behind
        return before, behind

    def get_ok(self, channel: int, deliver: Deliver, left: int) -> None:
        """The answer to basic.get, with how many messages the queue still holds."""
        fixed = _tag_and_bit(deliver.tag, deliver.redelivered)
        self._carrying(channel, _GET_OK, fixed, deliver.message, _remaining(left))

    def returned(self, channel: int, message: Message) -> None:
        """A mandatory message that reached no queue."""
        self._carrying(channel, _RETURN, _NO_ROUTE, message, b"")

    def _carrying(self, channel: int, method_id: int, before: bytes, message: Message, behind: bytes) -> None:
        arguments = before + codec.short_text(message.exchange) + codec.short_text(message.routing_key) + behind
        self._pieces.append(_method_head(METHOD, channel, 4 + len(arguments), _BASIC, method_id) + arguments)
        self._pieces.append(_header_start(FRAME_END, HEADER, channel))
        self._content(channel, message)

    def _content(self, channel: int, message: Message) -> None:
        """The rest of a header frame, and the body in as many frames as it takes."""
        properties, body = message.properties, message.body
        self._pieces += (_header_rest(HEADER_FIXED + len(properties), _BASIC, 0, len(body)), properties, _END)
        room = self.frame_max - FRAME_OVERHEAD
        for start in range(0, len(body), room):
            piece = body[start : start + room]
            self._pieces += (_body_head(BODY, channel, len(piece)), piece, _END)
