"""The frames hopd encodes itself are byte for byte what pika would send."""

from __future__ import annotations

from typing import Any

import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from hopd.amqp import frames

CHANNELS = st.integers(1, 65535)
TAGS = st.integers(0, 2**64 - 1)
NAMES = st.text(max_size=60)


def pikas(channel: int, value: Any) -> bytes:
    return bytes(pika.frame.Method(channel, value).marshal())


@given(CHANNELS, TAGS, st.booleans())
def test_an_ack_is_pikas_ack(channel: int, tag: int, multiple: bool) -> None:
    assert frames.ack(channel, tag, multiple) == pikas(channel, spec.Basic.Ack(tag, multiple))


@given(CHANNELS, TAGS, st.booleans())
def test_a_reject_is_pikas_reject(channel: int, tag: int, requeue: bool) -> None:
    assert frames.reject(channel, tag, requeue) == pikas(channel, spec.Basic.Reject(tag, requeue))


@given(CHANNELS, TAGS, st.booleans())
def test_a_nack_is_pikas_nack_of_one(channel: int, tag: int, requeue: bool) -> None:
    assert frames.nack(channel, tag, requeue) == pikas(channel, spec.Basic.Nack(tag, multiple=False, requeue=requeue))


def test_a_heartbeat_is_pikas_heartbeat() -> None:
    assert pika.frame.Heartbeat().marshal() == frames.HEARTBEAT


@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 8176, 8177, 20_000])
@given(CHANNELS, NAMES, NAMES, st.builds(spec.BasicProperties, message_id=st.none() | NAMES, delivery_mode=st.none() | st.just(2)))
def test_a_publish_is_pikas_mandatory_publish(size: int, channel: int, exchange: str, key: str, properties: spec.BasicProperties) -> None:
    # Given a body around the borders of the frame size, and properties as pika encodes them
    body = b"x" * size
    raw = b"".join(properties.encode())

    # When it is encoded for frames of 4096 bytes
    method = frames.publish_method(channel, exchange.encode(), key.encode())
    ours = frames.publish(method, channel, raw, body, 4096)

    # Then it is the method, the header and as few body frames as pika would send
    head = pikas(channel, spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True))
    header = pika.frame.Header(channel, size, properties).marshal()
    bodies = [pika.frame.Body(channel, body[start : start + 4088]).marshal() for start in range(0, size, 4088)]
    assert ours == head + header + b"".join(bodies)
