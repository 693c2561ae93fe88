"""What the broker sends, held against pika, which has to read it."""

from __future__ import annotations

from typing import Any

import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from hopd.amqp import properties
from hopd.amqp.properties import Properties
from hopd.broker.channel import Channel
from hopd.broker.model import Deliver, Message, size_of
from hopd.broker.outbound import Outbound

NAMES = st.sampled_from(["", "emails", "\u00fcn\u00efcode", "x" * 255])
BODIES = st.one_of(st.just(b""), st.binary(max_size=40), st.sampled_from([b"\xce" * 30, b"x" * 4088, b"x" * 4089, b"y" * 20_000]))
RAW = st.sampled_from([b"\0\0", properties.encode(Properties(message_id="7", delivery_mode=2, headers={"a": [1]}))])
MESSAGES = st.builds(
    lambda exchange, key, raw, body: Message(exchange, key, raw, body, False, 0, None, size_of(raw, body)), NAMES, NAMES, RAW, BODIES
)
TAGS = st.integers(0, 2**64 - 1)
FRAME_MAX = 4096


def read(stream: bytes) -> list[tuple[int, Any]]:
    """Channel and content of each frame: a method, a header, or a piece of a body."""
    seen = []
    while stream:
        size, frame = pika.frame.decode_frame(stream)
        assert size, "what is left is no frame"
        assert size <= FRAME_MAX
        stream = stream[size:]
        seen.append((frame.channel_number, frame))
    return seen


def read_message(stream: bytes, raw: bytes, body: bytes) -> tuple[int, Any]:
    """The channel and the method of a message whose content is as given."""
    (channel, method), (_, header), *rest = read(stream)
    assert {number for number, _ in rest} <= {channel}
    assert header.body_size == len(body)
    assert raw in stream
    assert b"".join(frame.fragment for _, frame in rest) == body
    return channel, method.method


def deliver(message: Message, channel: Any, consumer_tag: str, tag: int, redelivered: bool) -> Deliver:
    return Deliver(channel, consumer_tag, tag, redelivered, message)


CHANNEL: Any = Channel.__new__(Channel)  # its number is given apart


@given(st.lists(st.tuples(MESSAGES, st.sampled_from([1, 300]), NAMES, TAGS, st.booleans()), min_size=1, max_size=4))
def test_a_delivery_is_read_as_it_was_meant(deliveries: list[tuple[Message, int, str, int, bool]]) -> None:
    out = Outbound(FRAME_MAX)

    for message, number, consumer_tag, tag, redelivered in deliveries:
        out.deliver(number, deliver(message, CHANNEL, consumer_tag, tag, redelivered))
        channel, method = read_message(out.take(), message.properties, message.body)

        assert (channel, type(method)) == (number, spec.Basic.Deliver)
        assert (method.consumer_tag, method.delivery_tag, method.redelivered) == (consumer_tag, tag, redelivered)
        assert (method.exchange, method.routing_key) == (message.exchange, message.routing_key)


@given(MESSAGES, TAGS, st.booleans(), st.integers(0, 2**32 - 1))
def test_the_answer_to_a_get_is_read_as_it_was_meant(message: Message, tag: int, redelivered: bool, left: int) -> None:
    out = Outbound(FRAME_MAX)

    out.get_ok(2, deliver(message, CHANNEL, "", tag, redelivered), left)

    channel, method = read_message(out.take(), message.properties, message.body)
    assert (channel, type(method)) == (2, spec.Basic.GetOk)
    assert (method.delivery_tag, method.redelivered, method.message_count) == (tag, redelivered, left)
    assert (method.exchange, method.routing_key) == (message.exchange, message.routing_key)


@given(MESSAGES)
def test_a_returned_message_is_read_as_it_was_meant(message: Message) -> None:
    out = Outbound(FRAME_MAX)

    out.returned(2, message)

    channel, method = read_message(out.take(), message.properties, message.body)
    assert (channel, type(method)) == (2, spec.Basic.Return)
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key) == (message.exchange, message.routing_key)


@pytest.mark.parametrize(("accepted", "kind"), [(True, spec.Basic.Ack), (False, spec.Basic.Nack)])
def test_a_confirm_is_read_as_it_was_meant(accepted: bool, kind: Any) -> None:
    out = Outbound(FRAME_MAX)

    out.confirm(2, 2**63, True, accepted)

    ((channel, frame),) = read(out.take())
    assert (channel, type(frame.method)) == (2, kind)
    assert (frame.method.delivery_tag, frame.method.multiple) == (2**63, True)


def test_what_was_taken_is_not_sent_again() -> None:
    out = Outbound(FRAME_MAX)
    out.confirm(1, 1, False, True)
    out.take()

    assert out.take() == b""


def test_a_consumer_of_thousands_of_keys_does_not_fill_the_memory() -> None:
    out = Outbound(FRAME_MAX)

    for key in range(10_000):
        out.deliver(1, deliver(Message("", str(key), b"\0\0", b"x", False, 0, None, 1), CHANNEL, "c", key + 1, False))
        (_, frame), *_ = read(out.take())
        assert frame.method.routing_key == str(key)

    assert len(out._envelopes) < 5000
