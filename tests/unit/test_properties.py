"""Message properties: what goes in comes out, and broken ones raise `PropertiesError`, whatever is wrong with them."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import spec

from hopd.amqp.properties import PERSISTENT, Properties, PropertiesError, Shape, decode, encode

TEXT = st.none() | st.text(max_size=60)
HEADERS = st.dictionaries(
    st.text(max_size=20),
    st.one_of(st.text(max_size=20), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans()),
    max_size=3,
)
ALL = st.builds(
    Properties,
    content_type=TEXT,
    content_encoding=TEXT,
    headers=HEADERS,
    delivery_mode=st.none() | st.integers(0, 255),
    priority=st.none() | st.integers(0, 255),
    correlation_id=TEXT,
    reply_to=TEXT,
    expiration=TEXT,
    message_id=TEXT,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=TEXT,
    user_id=TEXT,
    app_id=TEXT,
    cluster_id=TEXT,
)


@given(ALL)
@example(Properties())
@example(Properties(timestamp=1_700_000_000_000))
@example(Properties(timestamp=2**64 - 1))
@example(Properties(headers={"at": datetime(2024, 5, 1, tzinfo=timezone.utc), "nothing": None, "raw": b"\xff", "list": [1, [2]]}))
def test_properties_come_back_as_they_went(properties: Properties) -> None:
    assert decode(encode(properties)) == properties


@given(
    st.builds(
        Properties,
        message_id=TEXT,
        content_type=TEXT,
        delivery_mode=st.none() | st.just(PERSISTENT),
        timestamp=st.none() | st.integers(0, 9),
    )
)
def test_properties_without_headers_are_encoded_as_pika_does(properties: Properties) -> None:
    theirs = spec.BasicProperties(
        **{name: getattr(properties, name) for name in ("message_id", "content_type", "delivery_mode", "timestamp")}
    )

    assert encode(properties) == b"".join(theirs.encode())


@given(ALL, st.text(max_size=60), st.integers(0, 2**64 - 1))
def test_a_shape_gives_each_message_its_own_id_and_timestamp(properties: Properties, message_id: str, timestamp: int) -> None:
    encoded = Shape(properties).encode(message_id, timestamp)

    assert encoded == encode(replace(properties, message_id=message_id, timestamp=timestamp))


@pytest.mark.parametrize("message_id", ["x" * 256, "\ud800", 7])
def test_an_id_that_no_field_can_hold_is_refused_by_its_shape(message_id: Any) -> None:
    with pytest.raises(PropertiesError, match="message_id"):
        Shape(Properties()).encode(message_id, 0)


def test_no_properties_are_two_bytes() -> None:
    assert encode(Properties()) == b"\x00\x00"


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_would_cost_the_connection_is_refused_here(number: float) -> None:
    with pytest.raises(PropertiesError, match="cannot hold the number"):
        encode(Properties(headers={"x": number}))


def test_a_text_that_is_not_utf_8_is_readable_all_the_same() -> None:
    # Given a message id of one byte that no UTF-8 begins with
    raw = struct.pack(">H", 1 << 7) + b"\x01\xff"

    # When it is decoded, then the byte is replaced
    assert decode(raw).message_id == "\ufffd"


@given(ALL.filter(lambda properties: properties != Properties()), st.data())
def test_properties_that_are_cut_short_are_refused(properties: Properties, data: st.DataObject) -> None:
    raw = encode(properties)

    with pytest.raises(PropertiesError):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(st.binary(max_size=80))
@example(b"")
@example(b"\x20")
@example(struct.pack(">HI", 1 << 13, 6) + b"\x01kT" + b"\xff" * 3)
def test_garbage_raises_nothing_but_a_properties_error(raw: bytes) -> None:
    try:
        decode(raw)
    except PropertiesError:
        return


@given(st.binary(max_size=80))
def test_whatever_can_be_decoded_can_be_encoded_again(raw: bytes) -> None:
    try:
        properties = decode(raw)
    except PropertiesError:
        return

    assert decode(encode(properties)) == properties


@pytest.mark.parametrize(
    "wrong",
    [
        {"message_id": "x" * 256},
        {"message_id": "\ud800"},
        {"message_id": 7},
        {"content_type": b"text/plain"},
        {"priority": 256},
        {"priority": -1},
        {"priority": "high"},
        {"timestamp": 2**64},
        {"headers": {"k": object}},
        {"headers": {"k": "\ud800"}},
        {"headers": [1]},
    ],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_a_value_that_no_property_can_hold_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(PropertiesError, match=next(iter(wrong))):
        encode(Properties(**wrong))


def test_the_error_for_a_huge_value_is_not_huge() -> None:
    with pytest.raises(PropertiesError) as caught:
        encode(Properties(message_id="x" * 1_000_000))

    assert len(str(caught.value)) < 300
