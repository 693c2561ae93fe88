"""What goes out on the wire, as pure code: the frames hopd sends itself, encoded in one go. The rest goes through pika's codec."""

from __future__ import annotations

import struct

METHOD, HEADER, BODY, HEARTBEAT_TYPE = 1, 2, 3, 8
FRAME_END = 0xCE

#: type (1), channel (2), size (4) before a payload and the end mark (1) behind it.
FRAME_OVERHEAD = 8

#: class (2), weight (2), body size (8) before the properties in a content header.
HEADER_FIXED = 12

HEARTBEAT = struct.pack(">BHIB", HEARTBEAT_TYPE, 0, 0, FRAME_END)

_settle = struct.Struct(">BHIHHQBB").pack
_method_head = struct.Struct(">BHIHHH").pack
_header_head = struct.Struct(">BHIHHQ").pack
_frame_head = struct.Struct(">BHI").pack
_next_frame_head = struct.Struct(">BBHI").pack  # the end mark of one frame and the head of the next


def ack(channel: int, tag: int, multiple: bool) -> bytes:
    """A basic.ack frame."""
    return _settle(METHOD, channel, 13, 60, 80, tag, multiple, FRAME_END)


def reject(channel: int, tag: int, requeue: bool) -> bytes:
    """A basic.reject frame: a message that failed (RabbitMQ counts it towards a delivery limit)."""
    return _settle(METHOD, channel, 13, 60, 90, tag, requeue, FRAME_END)


def nack(channel: int, tag: int, requeue: bool) -> bytes:
    """A basic.nack frame: a message that goes back unharmed (from RabbitMQ 4.3 on not counted towards a delivery limit)."""
    return _settle(METHOD, channel, 13, 60, 120, tag, 2 if requeue else 0, FRAME_END)


def publish_method(channel: int, exchange: bytes, routing_key: bytes) -> bytes:
    """The method frame of a mandatory basic.publish: the same for every message to one place. Names are at most 255 bytes of UTF-8."""
    names = bytes((len(exchange),)) + exchange + bytes((len(routing_key),)) + routing_key
    return _method_head(METHOD, channel, 7 + len(names), 60, 40, 0) + names + b"\x01\xce"


def publish(method: bytes, channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """The frames of a message: its method frame, from `publish_method`, and its content. `properties` are encoded already."""
    size = len(body)
    header = _header_head(HEADER, channel, HEADER_FIXED + len(properties), 60, 0, size)
    room = frame_max - FRAME_OVERHEAD
    if 0 < size <= room:
        return b"".join((method, header, properties, _next_frame_head(FRAME_END, BODY, channel, size), body, b"\xce"))
    pieces = [method, header, properties, b"\xce"]
    for start in range(0, size, room):
        piece = body[start : start + room]
        pieces += (_frame_head(BODY, channel, len(piece)), piece, b"\xce")
    return b"".join(pieces)
