"""Methods to bytes and back (AMQP 0-9-1 §4.2): a layout for each, one reader and one writer of layouts.

pika's codec, which the client side uses, was written for the other end: it returns a login's response as the text of a bytes
literal, reads past the end of what is cut short, and raises on a timestamp in milliseconds. The tests hold the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from hopd.amqp.frames import FRAME_END, METHOD
from hopd.amqp.table import TableError, decode_table, encode_table
from hopd.broker import methods as m
from hopd.broker.refusal import Code, Refused

#: Fields of a fixed size: octet, short, long, long long.
_NUMBERS = {"o": struct.Struct(">B"), "h": struct.Struct(">H"), "i": struct.Struct(">I"), "q": struct.Struct(">Q")}

#: What a client sends. A letter a field: o h i q numbers of 8 to 64 bits, s short text, l long bytes, t table, b one bit (those
#: that follow each other share octets); an upper-case letter is a field that is reserved, and dropped.
_RECEIVED: Mapping[tuple[int, int], tuple[type[m.Method], str]] = {
    (10, 11): (m.StartOk, "tsls"),
    (10, 31): (m.TuneOk, "hih"),
    (10, 40): (m.Open, "sSB"),
    (10, 50): (m.Close, "hshh"),
    (10, 51): (m.CloseOk, ""),
    (10, 70): (m.UpdateSecret, "ls"),
    (20, 10): (m.ChannelOpen, "S"),
    (20, 20): (m.Flow, "b"),
    (20, 21): (m.FlowOk, "b"),
    (20, 40): (m.ChannelClose, "hshh"),
    (20, 41): (m.ChannelCloseOk, ""),
    (30, 10): (m.AccessRequest, "SBBBBB"),
    (40, 10): (m.ExchangeDeclare, "Hssbbbbbt"),
    (40, 20): (m.ExchangeDelete, "Hsbb"),
    (40, 30): (m.ExchangeBind, "Hsssbt"),
    (40, 40): (m.ExchangeUnbind, "Hsssbt"),
    (50, 10): (m.QueueDeclare, "Hsbbbbbt"),
    (50, 20): (m.QueueBind, "Hsssbt"),
    (50, 30): (m.QueuePurge, "Hsb"),
    (50, 40): (m.QueueDelete, "Hsbbb"),
    (50, 50): (m.QueueUnbind, "Hssst"),
    (60, 10): (m.Qos, "ihb"),
    (60, 20): (m.Consume, "Hssbbbbt"),
    (60, 30): (m.Cancel, "sb"),
    (60, 31): (m.CancelOk, "s"),
    (60, 70): (m.Get, "Hsb"),
    (60, 100): (m.RecoverAsync, "b"),
    (60, 110): (m.Recover, "b"),
    (85, 10): (m.ConfirmSelect, "b"),
    (90, 10): (m.TxSelect, ""),
    (90, 20): (m.TxCommit, ""),
    (90, 30): (m.TxRollback, ""),
}

#: What the broker sends.
_SENT: Mapping[type[m.Method], tuple[int, int, str]] = {
    m.Start: (10, 10, "ootll"),
    m.Tune: (10, 30, "hih"),
    m.OpenOk: (10, 41, "S"),
    m.Close: (10, 50, "hshh"),
    m.CloseOk: (10, 51, ""),
    m.Blocked: (10, 60, "s"),
    m.Unblocked: (10, 61, ""),
    m.UpdateSecretOk: (10, 71, ""),
    m.ChannelOpenOk: (20, 11, "L"),
    m.FlowOk: (20, 21, "b"),
    m.ChannelClose: (20, 40, "hshh"),
    m.ChannelCloseOk: (20, 41, ""),
    m.AccessRequestOk: (30, 11, "h"),
    m.QueueDeclareOk: (50, 11, "sii"),
    m.QueuePurgeOk: (50, 31, "i"),
    m.QueueDeleteOk: (50, 41, "i"),
    m.ConsumeOk: (60, 21, "s"),
    m.Cancel: (60, 30, "sb"),
    m.CancelOk: (60, 31, "s"),
    m.GetEmpty: (60, 72, "S"),
}

_frame_head = struct.Struct(">BHIHH").pack
_EMPTY = {"S": b"\0", "L": b"\0\0\0\0"}


def decode(class_id: int, method_id: int, arguments: bytes) -> m.Method:
    """The method of that number; `Refused` (a connection error) when there is none or its arguments are not in its layout."""
    entry = _RECEIVED.get((class_id, method_id))
    if entry is None:
        raise Refused(Code.NOT_IMPLEMENTED, f"unknown method {class_id}.{method_id}", class_id, method_id)
    kind, layout = entry
    try:
        return kind(*_fields(layout, arguments))
    except TableError as error:
        raise Refused(Code.FRAME_ERROR, f"cannot decode a table: {error}", class_id, method_id) from error
    except (struct.error, IndexError) as error:
        raise Refused(Code.FRAME_ERROR, f"cannot decode {octets(arguments)}", class_id, method_id) from error


def octets(data: bytes) -> str:
    """Bytes as RabbitMQ shows them in its reply texts."""
    return f"<<{','.join(map(str, data))}>>"


def text(raw: bytes) -> str:
    """A short string of the wire, whose UTF-8 AMQP prescribes."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(Code.FRAME_ERROR, "Malformed UTF-8 in shortstr") from error


def _fields(layout: str, data: bytes) -> Iterator[Any]:
    """The fields that are not reserved, in order; struct.error or IndexError when the data is shorter or longer than they are."""
    offset = bit = 0
    for kind in layout:
        if kind in "bB":
            # Up to eight bits that follow each other lie in one octet, the first one lowest.
            value: Any = data[offset - (bit > 0)] >> bit & 1 == 1
            offset, bit = offset + (bit == 0), (bit + 1) % 8
        else:
            bit = 0
            value, offset = _field(kind.lower(), data, offset)
        if kind.islower():
            yield value
    if offset != len(data):
        raise IndexError("the arguments are longer or shorter than their layout")


def _field(kind: str, data: bytes, offset: int) -> tuple[Any, int]:
    if kind == "t":
        return decode_table(data, offset)
    if kind == "s":
        stop = offset + 1 + data[offset]
        return text(data[offset + 1 : stop]), stop
    if kind == "l":
        start = offset + 4
        stop = start + _NUMBERS["i"].unpack_from(data, offset)[0]
        return data[start:stop], stop
    number = _NUMBERS[kind]
    return number.unpack_from(data, offset)[0], offset + number.size


def encode(channel: int, method: m.Method) -> bytes:
    """The frame of a method that the broker sends."""
    class_id, method_id, layout = _SENT[type(method)]
    arguments = b"".join(_pieces(layout, iter(method)))
    return _frame(channel, class_id, method_id, arguments)


def ok(channel: int, class_id: int, method_id: int) -> bytes:
    """The frame of an answer that says nothing but that it was done."""
    return _frame(channel, class_id, method_id, b"")


def _frame(channel: int, class_id: int, method_id: int, arguments: bytes) -> bytes:
    return _frame_head(METHOD, channel, 4 + len(arguments), class_id, method_id) + arguments + bytes((FRAME_END,))


def _pieces(layout: str, values: Iterator[Any]) -> Iterator[bytes]:
    for kind in layout:
        if kind in _EMPTY:
            yield _EMPTY[kind]
        elif kind in "bo":  # no layout above has two bits in a row
            yield bytes((next(values),))
        elif kind == "s":
            yield short_text(next(values))
        elif kind == "l":
            value = next(values)
            yield _NUMBERS["i"].pack(len(value)) + value
        elif kind == "t":
            yield encode_table(next(values))
        else:
            yield _NUMBERS[kind].pack(next(values))


def short_text(value: str) -> bytes:
    """A short string for the wire; it has at most 255 bytes."""
    raw = value.encode("utf-8")
    return bytes((len(raw),)) + raw
