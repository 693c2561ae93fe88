"""The headers of a message, read and changed in its raw properties; every other property stays as its publisher wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hopd.amqp.table import TableError, decode_table, encode_fields, encode_value

# Flags of basic's properties, in the order of their values (AMQP 0-9-1 §4.2.6.1).
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS = 1 << 15, 1 << 14, 1 << 13
_DELIVERY_MODE, _PRIORITY, _CORRELATION_ID, _REPLY_TO, _EXPIRATION = 1 << 12, 1 << 11, 1 << 10, 1 << 9, 1 << 8


@dataclass(slots=True)
class Split:
    """Raw properties around their headers and their expiration. The encoded pieces are empty where nothing was set."""

    headers: dict[Any, Any] = field(default_factory=dict)
    #: As a short string, with its length.
    expiration: bytes = b""
    _flags: int = 0
    _before: bytes = b""
    _between: bytes = b""
    _behind: bytes = b""
    #: The headers that came, and each as it was encoded.
    _came: dict[Any, Any] = field(default_factory=dict)
    _encodings: dict[str | bytes, bytes] = field(default_factory=dict)

    def join(self) -> bytes:
        """Raw properties again."""
        flags = self._flags | (_HEADERS if self.headers else 0) | (_EXPIRATION if self.expiration else 0)
        headers = encode_fields({name: self._encoded(name, value) for name, value in self.headers.items()}) if self.headers else b""
        return flags.to_bytes(2, "big") + self._before + headers + self._between + self.expiration + self._behind

    def _encoded(self, name: Any, value: Any) -> bytes:
        """As it came, where it is what it was: there are several types for one number, and some clients tell them apart."""
        return self._encodings[name] if name in self._came and self._came[name] is value else encode_value(value)


def split(raw: bytes) -> Split:
    """The parts of raw properties; of those that are broken none is kept, since nobody could read them."""
    try:
        return _split(raw)
    except (TableError, IndexError):
        return Split()


def _split(raw: bytes) -> Split:
    flags = raw[0] << 8 | raw[1]
    start = stop = 2
    for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
        stop = _behind_text(raw, stop, flags & flag)
    before = raw[start:stop]
    encodings: dict[str | bytes, bytes] = {}
    headers, stop = decode_table(raw, stop, encodings=encodings) if flags & _HEADERS else ({}, stop)
    start = stop
    stop += bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    for flag in (_CORRELATION_ID, _REPLY_TO):
        stop = _behind_text(raw, stop, flags & flag)
    between = raw[start:stop]
    start, stop = stop, _behind_text(raw, stop, flags & _EXPIRATION)
    return Split(dict(headers), raw[start:stop], flags & ~(_HEADERS | _EXPIRATION), before, between, raw[stop:], headers, encodings)


def _behind_text(raw: bytes, offset: int, present: int) -> int:
    """Where the short string at `offset` ends, if it is there."""
    return offset + 1 + raw[offset] if present else offset
