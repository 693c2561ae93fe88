"""What the broker itself has to know of a message's properties, read out of them without decoding the rest.

The properties travel as they came (AMQP 0-9-1 §4.2.6.1: flags, then the values of the set flags in order), and most messages
set three or four of fourteen, so walking over them costs a tenth of decoding them. That every value ends where it says is
checked on the way: a consumer must be able to decode what it gets.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hopd.amqp.properties import PERSISTENT, TRANSIENT
from hopd.broker.arguments import MAX_EXPIRY
from hopd.broker.refusal import Code, Refused

_DELIVERY_MODE, _PRIORITY, _EXPIRATION, _USER_ID, _MORE = 1 << 12, 1 << 11, 1 << 8, 1 << 4, 1
_SHORT, _TABLE, _OCTET, _LONGLONG = range(4)

#: The fields in order: their flag and their kind.
_FIELDS = (
    (1 << 15, _SHORT),  # content_type
    (1 << 14, _SHORT),  # content_encoding
    (1 << 13, _TABLE),  # headers
    (_DELIVERY_MODE, _OCTET),
    (_PRIORITY, _OCTET),
    (1 << 10, _SHORT),  # correlation_id
    (1 << 9, _SHORT),  # reply_to
    (_EXPIRATION, _SHORT),
    (1 << 7, _SHORT),  # message_id
    (1 << 6, _LONGLONG),  # timestamp
    (1 << 5, _SHORT),  # type
    (_USER_ID, _SHORT),
    (1 << 3, _SHORT),  # app_id
    (1 << 2, _SHORT),  # cluster_id
)

_INTEGER = re.compile(r"[+-]?[0-9]+")

#: The fields that some set of flags says are there. Publishers use few sets; the bound is against one that makes a point of it.
_present: dict[int, tuple[tuple[int, int], ...]] = {}
_MAX_PRESENT = 1024


class Peeked(NamedTuple):
    """`expiration` is in seconds."""

    persistent: bool
    priority: int
    expiration: float | None
    user_id: bytes | None


_NOTHING = Peeked(False, 0, None, None)


def peek(raw: bytes) -> Peeked:
    """What the broker needs of a message's raw properties; `Refused` when they are no properties or the expiration is no time."""
    if raw == b"\0\0":
        return _NOTHING
    try:
        return _walk(raw)
    except IndexError as error:
        raise Refused(Code.FRAME_ERROR, "the message's properties are cut short") from error


def _walk(raw: bytes) -> Peeked:
    flags = raw[0] << 8 | raw[1]
    persistent, priority, expiration, user_id = False, 0, None, None
    offset = 2
    for flag, kind in _present.get(flags) or _fields_of(flags):
        if kind == _SHORT:
            start = offset + 1
            offset = start + raw[offset]
            if flag == _EXPIRATION:
                expiration = _seconds(raw[start:offset])
            elif flag == _USER_ID:
                user_id = raw[start:offset]
        elif kind == _OCTET:
            if flag == _PRIORITY:
                priority = raw[offset]
            else:
                persistent = _is_persistent(raw[offset])
            offset += 1
        elif kind == _LONGLONG:
            offset += 8
        else:
            offset += 4 + int.from_bytes(raw[offset : offset + 4], "big")
    if offset != len(raw):
        raise Refused(Code.FRAME_ERROR, "the message's properties are longer or shorter than their flags say")
    return Peeked(persistent, priority, expiration, user_id)


def _fields_of(flags: int) -> tuple[tuple[int, int], ...]:
    if flags & _MORE:
        raise Refused(Code.FRAME_ERROR, "the message has properties that AMQP 0-9-1 does not know")
    if len(_present) >= _MAX_PRESENT:
        _present.clear()
    fields = _present[flags] = tuple(field for field in _FIELDS if flags & field[0])
    return fields


def _is_persistent(mode: int) -> bool:
    if mode not in (TRANSIENT, PERSISTENT):
        raise Refused(Code.PRECONDITION_FAILED, f"invalid message: {{delivery_mode_unknown,{mode}}}")
    return mode == PERSISTENT


def _seconds(raw: bytes) -> float:
    """An expiration, which is text in milliseconds; refused as RabbitMQ does."""
    text = raw.decode("utf-8", "replace")
    match = _INTEGER.match(text)
    if match is None:
        raise _no_expiration(text, "no_integer")
    if match.end() < len(text):
        raise _no_expiration(text, f'{{leftover_string,"{text[match.end() :]}"}}')
    milliseconds = int(text)
    if milliseconds < 0:
        raise _no_expiration(text, f"{{value_negative,{milliseconds}}}")
    if milliseconds > MAX_EXPIRY:
        raise _no_expiration(text, f"{{value_too_large,{milliseconds}}}")
    return milliseconds / 1000


def _no_expiration(text: str, why: str) -> Refused:
    return Refused(Code.PRECONDITION_FAILED, f"invalid expiration '{text}': {why}")
