"""Field tables: what goes in comes out, and nothing that comes in breaks more than itself."""

from __future__ import annotations

import math
import struct
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pika.data
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hopd.amqp.table import MAX_DEPTH, Long, TableError, decode_table, encode_fields, encode_table, encode_value

WHOLE_SECONDS = st.integers(0, 253402300799).map(lambda seconds: datetime.fromtimestamp(seconds, timezone.utc))
DECIMALS = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(2**31), 2**31 - 1), st.integers(0, 255))
LEAVES = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=20),
    st.none(),
    WHOLE_SECONDS,
    DECIMALS,
)


def tables(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10)
    return st.dictionaries(keys, values, max_size=4)


def round_trip(table: dict[Any, Any]) -> dict[Any, Any]:
    raw = encode_table(table)
    decoded, end = decode_table(raw, 0)
    assert end == len(raw)
    return decoded


def field(kind: bytes, payload: bytes) -> bytes:
    """A table of one field, named k."""
    entry = b"\x01k" + kind + payload
    return struct.pack(">I", len(entry)) + entry


def nested(kind: bytes, depth: int) -> bytes:
    """A table with one field that holds tables or arrays, one in the other."""
    inner = b"" if kind == b"A" else struct.pack(">I", 0)
    for _ in range(depth):
        if kind == b"A":
            inner = b"A" + struct.pack(">I", len(inner)) + inner
        else:
            entry = b"\x01k" + kind + inner
            inner = struct.pack(">I", len(entry)) + entry
    return field(b"A", inner[1:]) if kind == b"A" else inner


# --- what goes in comes out ---------------------------------------------------------------------


@given(tables(LEAVES, st.text(max_size=20)))
@example({"big": 2**64 - 1, "small": -(2**63), "float": 0.1, "tiny": 5e-324})
def test_every_table_comes_back_as_it_went(table: dict[str, Any]) -> None:
    assert round_trip(table) == table


@given(tables(LEAVES, st.text(max_size=20)))
def test_every_value_comes_back_with_its_type(table: dict[str, Any]) -> None:
    def types(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: types(one) for key, one in value.items()}
        return list(map(types, value)) if isinstance(value, list) else type(value)

    assert types(round_trip(table)) == types(table)


def test_a_key_that_is_not_utf_8_comes_back_as_bytes() -> None:
    assert round_trip({b"\xff\xfe": 1}) == {b"\xff\xfe": 1}


def test_a_text_that_is_not_utf_8_is_read_as_bytes() -> None:
    assert decode_table(field(b"S", b"\x00\x00\x00\x01\xff"), 0)[0] == {"k": b"\xff"}


@given(tables(LEAVES, st.text(max_size=20) | st.binary(max_size=20)), st.binary(max_size=5))
def test_a_table_is_read_from_the_middle_of_what_surrounds_it(table: dict[Any, Any], around: bytes) -> None:
    raw = encode_table(table)

    assert decode_table(around + raw + around, len(around)) == (decode_table(raw, 0)[0], len(around) + len(raw))


# --- agreement with pika, where pika is right ---------------------------------------------------

SHARED_KINDS = {b"b": 1, b"B": 1, b"U": 2, b"u": 2, b"s": 2, b"I": 4, b"i": 4, b"l": 8, b"L": 8, b"t": 1}


@pytest.mark.parametrize("kind", SHARED_KINDS)
@given(st.binary(min_size=8, max_size=8))
def test_numbers_are_what_pika_reads(kind: bytes, payload: bytes) -> None:
    raw = field(kind, payload[: SHARED_KINDS[kind]])

    assert decode_table(raw, 0) == pika.data.decode_table(raw, 0)


@given(
    tables(st.one_of(st.text(max_size=20), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.none(), WHOLE_SECONDS), st.text(max_size=20))
)
def test_pika_reads_what_we_encode(table: dict[str, Any]) -> None:
    assert pika.data.decode_table(encode_table(table), 0)[0] == table


@given(
    tables(st.one_of(st.text(max_size=20), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.none(), WHOLE_SECONDS), st.text(max_size=20))
)
def test_we_read_what_pika_encodes(table: dict[str, Any]) -> None:
    pieces: list[bytes] = []
    pika.data.encode_table(pieces, table)

    assert decode_table(b"".join(pieces), 0)[0] == table


# --- where pika is wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "payload"), [(b"f", struct.pack(">f", 0.5)), (b"d", struct.pack(">d", 0.5))])
def test_a_float_stays_a_float(kind: bytes, payload: bytes) -> None:
    assert decode_table(field(kind, payload), 0)[0] == {"k": 0.5}


@pytest.mark.parametrize("number", [1_700_000_000_000, 2**63, 2**64 - 1])
def test_a_timestamp_that_no_calendar_holds_stays_a_number(number: int) -> None:
    assert decode_table(field(b"T", struct.pack(">Q", number)), 0)[0] == {"k": number}


def test_a_timestamp_is_a_moment_in_utc() -> None:
    assert decode_table(field(b"T", struct.pack(">Q", 86400)), 0)[0] == {"k": datetime(1970, 1, 2, tzinfo=timezone.utc)}


# --- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_tables_are_read_down_to_the_bound(kind: bytes) -> None:
    decode_table(nested(kind, MAX_DEPTH), 0)


@pytest.mark.parametrize("kind", [b"F", b"A"])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 5_000])
def test_tables_nested_deeper_are_refused(kind: bytes, depth: int) -> None:
    with pytest.raises(TableError, match="nested"):
        decode_table(nested(kind, depth), 0)


@given(tables(LEAVES, st.text(max_size=10)).filter(bool), st.data())
def test_a_table_that_is_cut_short_is_refused(table: dict[str, Any], data: st.DataObject) -> None:
    raw = encode_table(table)

    with pytest.raises(TableError):
        decode_table(raw[: data.draw(st.integers(0, len(raw) - 1))], 0)


@given(st.binary(max_size=60), st.booleans())
def test_garbage_raises_nothing_but_a_table_error(garbage: bytes, sized: bool) -> None:
    try:
        decode_table(struct.pack(">I", len(garbage)) + garbage if sized else garbage, 0)
    except TableError:
        return


@given(st.binary(max_size=60).map(lambda garbage: struct.pack(">I", len(garbage)) + garbage))
@example(field(b"D", b"\x00\x7f\xff\xff\xff"))
@example(field(b"D", b"\xff\x80\x00\x00\x00"))
@example(nested(b"F", MAX_DEPTH))
@example(nested(b"A", MAX_DEPTH))
def test_whatever_can_be_read_can_be_written_again(raw: bytes) -> None:
    try:
        table, _end = decode_table(raw, 0)
    except TableError:
        return

    assert round_trip(table) == table


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_no_broker_takes_is_not_read(number: float) -> None:
    for kind, form in ((b"d", ">d"), (b"f", ">f")):
        with pytest.raises(TableError, match="cannot hold the number"):
            decode_table(field(kind, struct.pack(form, number)), 0)


# --- what cannot be written ---------------------------------------------------------------------


class Unknown:
    pass


def itself() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["itself"] = table
    return table


def list_of_itself() -> dict[str, Any]:
    values: list[Any] = []
    values.append(values)
    return {"itself": values}


@pytest.mark.parametrize(
    "table",
    [
        {"k": Unknown()},
        {"k": {1, 2}},
        {"k": 2**64},
        {"k": -(2**63) - 1},
        {"k": Decimal("1E+2")},
        {"k": Decimal(2**31)},
        {"k": Decimal("NaN")},
        {"k": math.nan},
        {"k": [-math.inf]},
        {"k": datetime(1969, 12, 31, tzinfo=timezone.utc)},
        {"k": "\ud800"},
        {"\ud800": 1},
        {"k" * 256: 1},
        {1: 1},
        {None: 1},
        itself(),
        list_of_itself(),
    ],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_what_no_field_can_hold_is_refused(table: dict[Any, Any]) -> None:
    with pytest.raises(TableError):
        encode_table(table)


def test_each_value_can_be_had_as_it_came() -> None:
    encodings: dict[str | bytes, bytes] = {}

    table, _ = decode_table(b"\0\0\0\x09\x01aU\0\x05\x01bb\x07", 0, encodings=encodings)

    assert (table, encodings) == ({"a": 5, "b": 7}, {"a": b"U\0\x05", "b": b"b\x07"})
    assert encode_fields(encodings) == b"\0\0\0\x09\x01aU\0\x05\x01bb\x07"


def test_a_long_number_is_long_however_small_it_is() -> None:
    assert encode_value(Long(1)) == b"l" + bytes(7) + b"\1"
    assert encode_value(1) == b"I" + bytes(3) + b"\1"
