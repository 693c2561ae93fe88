"""What the broker reads out of a message's properties without decoding them: the same as decoding them gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.amqp import properties
from hopd.amqp.properties import PERSISTENT, TRANSIENT, Properties
from hopd.broker.arguments import MAX_EXPIRY
from hopd.broker.peek import Peeked, peek
from hopd.broker.refusal import Code, Refused

TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "x" * 255, "\u00fc"]))
MESSAGES = st.builds(
    Properties,
    content_type=TEXTS,
    content_encoding=TEXTS,
    headers=st.sampled_from([{}, {"a": 1, "b": [None, {"c": "d"}]}]),
    delivery_mode=st.sampled_from([None, TRANSIENT, PERSISTENT]),
    priority=st.one_of(st.none(), st.integers(0, 255)),
    correlation_id=TEXTS,
    reply_to=TEXTS,
    expiration=st.one_of(st.none(), st.integers(0, MAX_EXPIRY).map(str)),
    message_id=TEXTS,
    timestamp=st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    type=TEXTS,
    user_id=TEXTS,
    app_id=TEXTS,
    cluster_id=TEXTS,
)


@given(MESSAGES)
def test_what_is_peeked_is_what_is_decoded(message: Properties) -> None:
    peeked = peek(properties.encode(message))

    expiration = None if message.expiration is None else int(message.expiration) / 1000
    user = None if message.user_id is None else message.user_id.encode()
    assert peeked == Peeked(message.delivery_mode == PERSISTENT, message.priority or 0, expiration, user)


@given(st.binary(max_size=60))
def test_garbage_is_peeked_at_or_refused(raw: bytes) -> None:
    refusal: Refused | None = None
    try:
        peek(raw)
    except Refused as refused:
        refusal = refused

    assert refusal is None or refusal.code in (Code.FRAME_ERROR, Code.PRECONDITION_FAILED)


@given(MESSAGES, st.data())
def test_properties_that_are_cut_short_or_too_long_are_refused(message: Properties, data: st.DataObject) -> None:
    raw = properties.encode(message)
    wrong = data.draw(st.sampled_from([raw + b"\0", *(raw[:end] for end in range(len(raw)))]))

    with pytest.raises(Refused):
        peek(wrong)


def test_no_properties_say_nothing() -> None:
    assert peek(b"\0\0") == Peeked(False, 0, None, None)


@pytest.mark.parametrize(
    ("expiration", "why"),
    [
        ("abc", "invalid expiration 'abc': no_integer"),
        ("", "invalid expiration '': no_integer"),
        (" 1", "invalid expiration ' 1': no_integer"),
        ("1_000", "invalid expiration '1_000': {leftover_string,\"_000\"}"),
        ("10x", "invalid expiration '10x': {leftover_string,\"x\"}"),
        ("-1", "invalid expiration '-1': {value_negative,-1}"),
        ("315360000001", "invalid expiration '315360000001': {value_too_large,315360000001}"),
    ],
)
def test_an_expiration_that_is_no_time_is_refused_in_rabbitmqs_words(expiration: str, why: str) -> None:
    with pytest.raises(Refused) as caught:
        peek(properties.encode(Properties(expiration=expiration)))

    assert caught.value.text == f"PRECONDITION_FAILED - {why}"
    assert not caught.value.hard


@pytest.mark.parametrize(("expiration", "seconds"), [("0", 0.0), ("1500", 1.5), ("+5", 0.005), ("4294967296", 4294967.296)])
def test_an_expiration_is_milliseconds(expiration: str, seconds: float) -> None:
    assert peek(properties.encode(Properties(expiration=expiration))).expiration == seconds


def test_there_are_two_delivery_modes() -> None:
    with pytest.raises(Refused) as caught:
        peek(properties.encode(Properties(delivery_mode=3)))

    assert caught.value.text == "PRECONDITION_FAILED - invalid message: {delivery_mode_unknown,3}"


def test_properties_of_a_later_amqp_are_refused() -> None:
    more: Any = b"\0\x01\0\0"

    with pytest.raises(Refused):
        peek(more)
