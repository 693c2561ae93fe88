"""AMQP field tables: the headers of a message, decoded and encoded.

Our own instead of pika's, because a header must come back as it went: pika 1.4.4 cuts floats to ints, cannot encode
them, and raises on a timestamp in milliseconds. Types as RabbitMQ reads them (its errata to AMQP 0-9-1 §4.2.5).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

#: Deeper than any honest header; keeps a crafted one from exhausting the stack.
MAX_DEPTH = 32


class TableError(ValueError):
    """A table that cannot be decoded, or a value that no field type can hold."""


class Long(int):
    """A number that goes out with 64 bits however small it is: clients of statically typed languages look at that."""


_FIXED: dict[bytes, struct.Struct] = {
    b"b": struct.Struct(">b"),
    b"B": struct.Struct(">B"),
    b"U": struct.Struct(">h"),
    b"s": struct.Struct(">h"),
    b"u": struct.Struct(">H"),
    b"I": struct.Struct(">i"),
    b"i": struct.Struct(">I"),
    b"l": struct.Struct(">q"),
    b"L": struct.Struct(">q"),
    b"f": struct.Struct(">f"),
    b"d": struct.Struct(">d"),
}


def decode_table(
    data: bytes, offset: int, depth: int = 0, *, encodings: dict[str | bytes, bytes] | None = None
) -> tuple[dict[str | bytes, Any], int]:
    """The table at `offset` and the offset behind it. Keys and texts that are not UTF-8 stay bytes.

    `encodings` is filled with each value as it came, type mark included, for who wants to send it on so.
    """
    end = _end(data, offset)
    offset += 4
    result: dict[str | bytes, Any] = {}
    while offset < end:
        stop = offset + 1 + data[offset]
        if stop >= end:
            raise TableError("a key runs past the end of its table")
        key = _text(data[offset + 1 : stop])
        result[key], offset = _decode_value(data, stop, end, depth)
        if encodings is not None:
            encodings[key] = data[stop:offset]
    if offset != end:
        raise TableError("a value runs past the end of its table")
    return result, end


def _decode_value(data: bytes, offset: int, end: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise TableError(f"tables are nested more than {MAX_DEPTH} deep")
    kind = data[offset : offset + 1]
    offset += 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        value = _unpack(fixed, data, offset, end)
        return (_finite(value) if kind in b"fd" else value), offset + fixed.size
    if kind in (b"S", b"x"):
        stop = _end(data, offset, end)
        raw = data[offset + 4 : stop]
        return (_text(raw) if kind == b"S" else raw), stop
    if kind == b"t":
        return _unpack(_FIXED[b"B"], data, offset, end) != 0, offset + 1
    if kind == b"T":
        return _timestamp(_unpack(_U64, data, offset, end)), offset + 8
    if kind == b"F":
        _end(data, offset, end)
        return decode_table(data, offset, depth + 1)
    if kind == b"A":
        return _decode_array(data, offset, _end(data, offset, end), depth)
    if kind == b"D":
        places = _unpack(_FIXED[b"B"], data, offset, end)
        return Decimal(_unpack(_FIXED[b"I"], data, offset + 1, end)).scaleb(-places), offset + 5
    if kind == b"V":
        return None, offset
    raise TableError(f"unknown field type {kind!r}")


_U64 = struct.Struct(">Q")


def _decode_array(data: bytes, offset: int, end: int, depth: int) -> tuple[list[Any], int]:
    offset += 4
    result = []
    while offset < end:
        value, offset = _decode_value(data, offset, end, depth + 1)
        result.append(value)
    if offset != end:
        raise TableError("a value runs past the end of its array")
    return result, end


def _unpack(fixed: struct.Struct, data: bytes, offset: int, end: int) -> Any:
    if offset + fixed.size > end:
        raise TableError("a value runs past the end of its table")
    return fixed.unpack_from(data, offset)[0]


def _end(data: bytes, offset: int, limit: int | None = None) -> int:
    """Where the length-prefixed thing at `offset` ends, checked against what is there."""
    limit = len(data) if limit is None else limit
    if offset + 4 > limit:
        raise TableError("the table is cut short")
    end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
    if end > limit:
        raise TableError("the table is cut short")
    return end


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _timestamp(seconds: int) -> datetime | int:
    """Seconds since 1970 by the book; a number no calendar holds (milliseconds, 2^64-1) stays a number."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return seconds


def encode_table(table: Mapping[Any, Any], depth: int = 0) -> bytes:
    """A table of str, bytes, bool, int, float, Decimal, datetime, None, list and mapping values; `TableError` for others."""
    return _sized(b"".join(_short(key) + encode_value(value, depth) for key, value in table.items()))


def encode_fields(fields: Mapping[Any, bytes]) -> bytes:
    """A table of values that are encoded already."""
    return _sized(b"".join(_short(key) + value for key, value in fields.items()))


def encode_value(value: Any, depth: int = 0) -> bytes:
    """One value with its type mark."""
    if depth > MAX_DEPTH:
        raise TableError(f"tables are nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        return _long(b"S", _utf8(value))
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        return struct.pack(">cq", b"l", value) if isinstance(value, Long) else _integer(value)
    if isinstance(value, float):
        return struct.pack(">cd", b"d", _finite(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _long(b"x", bytes(value))
    if value is None:
        return b"V"
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, Mapping):
        return b"F" + encode_table(value, depth + 1)
    if isinstance(value, (list, tuple)):
        return _long(b"A", b"".join(encode_value(item, depth + 1) for item in value))
    if isinstance(value, Decimal):
        return _decimal(value)
    raise TableError(f"a header cannot hold a {type(value).__name__}: use str, bytes, bool, int, float, datetime, None, list or dict")


def _finite(value: float) -> float:
    """RabbitMQ knows no others: it answers one of them by closing the connection (541), and everybody's puts on it become uncertain."""
    if not math.isfinite(value):
        raise TableError(f"a header cannot hold the number {value}")
    return value


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return struct.pack(">ci", b"I", value)
    if -(2**63) <= value < 2**63:
        return struct.pack(">cq", b"l", value)
    if 0 < value < 2**64:
        return struct.pack(">cQ", b"T", value)  # the only 64-bit field without a sign; it is where such a number came from
    raise TableError("a header cannot hold a number of more than 64 bits")


def _moment(value: datetime) -> bytes:
    seconds = int(value.timestamp())
    if seconds < 0:
        raise TableError(f"a header cannot hold a time before 1970, got {value}")
    return struct.pack(">cQ", b"T", seconds)


def _decimal(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -255 <= exponent <= 0:
        raise TableError(f"a header cannot hold the decimal {value}: it takes 0 to 255 places")
    number = int(value.scaleb(-exponent))
    if not -(2**31) <= number < 2**31:
        raise TableError(f"a header cannot hold the decimal {value}: its digits have more than 32 bits")
    return struct.pack(">cBi", b"D", -exponent, number)


def _short(key: Any) -> bytes:
    if not isinstance(key, (str, bytes)):
        raise TableError(f"a header's name is text, not {key!r}")
    raw = _utf8(key) if isinstance(key, str) else key
    if len(raw) > 255:
        raise TableError(f"a header's name has at most 255 bytes, got {len(raw)}")
    return bytes((len(raw),)) + raw


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TableError(f"a header's text must be UTF-8: {error}") from error


def _long(kind: bytes, raw: bytes) -> bytes:
    return kind + _sized(raw)


def _sized(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw
