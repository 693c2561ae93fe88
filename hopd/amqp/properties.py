"""A message's properties: a frozen value, with its codec (AMQP 0-9-1 §1.8: basic's fields, in the order of their flags)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from reprlib import repr as shortened
from typing import Any

from hopd.amqp.table import TableError, decode_table, encode_table

#: Delivery modes of basic.publish.
TRANSIENT, PERSISTENT = 1, 2


class PropertiesError(ValueError):
    """Properties that cannot be decoded, or a value that cannot be encoded."""


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of a message, named as AMQP names them. `expiration` is text in milliseconds, `timestamp` seconds since 1970."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


_SHORT, _TABLE, _OCTET, _LONGLONG = "short", "table", "octet", "longlong"

_FIELDS: tuple[tuple[str, int, str], ...] = (
    ("content_type", 1 << 15, _SHORT),
    ("content_encoding", 1 << 14, _SHORT),
    ("headers", 1 << 13, _TABLE),
    ("delivery_mode", 1 << 12, _OCTET),
    ("priority", 1 << 11, _OCTET),
    ("correlation_id", 1 << 10, _SHORT),
    ("reply_to", 1 << 9, _SHORT),
    ("expiration", 1 << 8, _SHORT),
    ("message_id", 1 << 7, _SHORT),
    ("timestamp", 1 << 6, _LONGLONG),
    ("type", 1 << 5, _SHORT),
    ("user_id", 1 << 4, _SHORT),
    ("app_id", 1 << 3, _SHORT),
    ("cluster_id", 1 << 2, _SHORT),
)


def decode(raw: bytes) -> Properties:
    """The properties in the payload of a content header; `PropertiesError` says what is wrong with them."""
    try:
        return _decode(raw)
    except (TableError, IndexError) as error:
        raise PropertiesError(f"the message's properties cannot be decoded: {error}") from error


def _decode(raw: bytes) -> Properties:
    if len(raw) < 2:
        raise TableError("their flags are cut short")
    flags = int.from_bytes(raw[:2], "big")
    offset = 2
    values: dict[str, Any] = {}
    for name, flag, kind in _FIELDS:
        if not flags & flag:
            continue
        if kind == _SHORT:
            stop = offset + 1 + raw[offset]
            values[name] = raw[offset + 1 : stop].decode("utf-8", "replace")
        elif kind == _TABLE:
            values[name], stop = decode_table(raw, offset)
        elif kind == _OCTET:
            values[name], stop = raw[offset], offset + 1
        else:
            stop = offset + 8
            values[name] = int.from_bytes(raw[offset:stop], "big")
        if stop > len(raw):
            raise TableError(f"{name} is cut short")
        offset = stop
    return Properties(**values)


def encode(properties: Properties) -> bytes:
    """The payload behind a content header's fixed part; `PropertiesError` names the value that does not fit."""
    flags, fields = _encode_fields(properties, _FIELDS)
    return flags.to_bytes(2, "big") + fields


class Shape:
    """The properties of messages that differ only in id and timestamp: encoded once, but for these two."""

    __slots__ = ("_after", "_before")

    def __init__(self, properties: Properties) -> None:
        """Of `properties` all but the id and the timestamp. `PropertiesError` as from `encode`."""
        names = [name for name, _flag, _kind in _FIELDS]
        at = names.index("message_id")  # the timestamp comes next
        flags, before = _encode_fields(properties, _FIELDS[:at])
        more, self._after = _encode_fields(properties, _FIELDS[at + 2 :])
        flags |= more | _FIELDS[at][1] | _FIELDS[at + 1][1]
        self._before = flags.to_bytes(2, "big") + before

    def encode(self, message_id: str, timestamp: int) -> bytes:
        """The properties of one message; `PropertiesError` when its id does not fit."""
        try:
            name = _encode_field(_SHORT, message_id)
        except (ValueError, AttributeError, TypeError) as error:
            raise _unfit("message_id", message_id, error) from error
        return b"".join((self._before, name, timestamp.to_bytes(8, "big"), self._after))


def _encode_fields(properties: Properties, fields: Iterable[tuple[str, int, str]]) -> tuple[int, bytes]:
    """The flags of those of `fields` that are there, and their values."""
    flags = 0
    pieces = []
    for name, flag, kind in fields:
        value = getattr(properties, name)
        if value is None or (kind == _TABLE and not value):
            continue
        flags |= flag
        try:
            pieces.append(_encode_field(kind, value))
        except (ValueError, OverflowError, AttributeError, TypeError) as error:
            raise _unfit(name, value, error) from error
    return flags, b"".join(pieces)


def _unfit(name: str, value: object, error: Exception) -> PropertiesError:
    return PropertiesError(f"{name} {shortened(value)} cannot be put: {error}")


def _encode_field(kind: str, value: Any) -> bytes:
    if kind == _SHORT:
        raw: bytes = value.encode("utf-8")
        if len(raw) > 255:
            raise TableError(f"it has {len(raw)} bytes, 255 is the most")
        return bytes((len(raw),)) + raw
    if kind == _TABLE:
        return encode_table(value)
    return int(value).to_bytes(1 if kind == _OCTET else 8, "big")
