"""Bodies come back as they went, whatever their size and however they were cut."""

from __future__ import annotations

import os

import pytest
from pika import frame, spec

from tests.contract.client import Channel, Client, get, get_all, put
from tests.contract.wire import Wire, published, raw_frame

#: How much of a body fits into a frame of the usual size: without type, channel, size and end mark.
ROOM = 131072 - 8

SIZES = [0, 1, 100, 4096, ROOM - 1, ROOM, ROOM + 1, 2 * ROOM, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("delivery_mode", [1, 2])
def test_a_body_of_any_size_comes_back(client: Client, channel: Channel, size: int, delivery_mode: int) -> None:
    queue, body = client.queue(durable=True), os.urandom(size)

    put(channel, queue, body, delivery_mode=delivery_mode)

    given = get(channel, queue)
    assert given is not None
    assert given.body == body


def test_a_body_may_hold_what_looks_like_frames(client: Client, channel: Channel) -> None:
    queue, body = client.queue(), frame.Method(1, spec.Basic.Ack(1)).marshal() * 3 + b"AMQP\x00\x00\x09\x01\xce"

    put(channel, queue, body)

    given = get(channel, queue)
    assert given is not None
    assert given.body == body


@pytest.mark.parametrize("frame_max", [4096, 10_000, 131072])
def test_frames_are_as_large_as_was_agreed_and_no_larger(client: Client, wire: Wire, frame_max: int) -> None:
    queue, body = client.queue(shared=True), os.urandom(300_000)
    put(client.channel, queue, body)
    wire.open(frame_max=frame_max)

    wire.send(1, spec.Basic.Get(queue=queue))

    got = wire.expect_message(spec.Basic.GetOk)
    room = frame_max - 8
    assert got.body == body
    assert list(got.frames) == [room] * (len(body) // room) + [len(body) % room]


def test_an_empty_body_has_no_frame(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"", b"next")
    wire.open()

    for body in (b"", b"next"):
        wire.send(1, spec.Basic.Get(queue=queue))
        assert wire.expect_message(spec.Basic.GetOk).body == body


def test_a_body_may_come_in_frames_of_any_size(client: Client, wire: Wire) -> None:
    queue, body = client.queue(shared=True), bytes(range(200))
    wire.open()
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)

    wire.send(1, spec.Basic.Publish(routing_key=queue))
    wire.send_bytes(frame.Header(1, len(body), spec.BasicProperties()).marshal())
    for piece in (body[:1], b"", body[1:2], body[2:150], body[150:]):
        wire.send_bytes(raw_frame(spec.FRAME_BODY, 1, piece))

    wire.expect(spec.Basic.Ack, 1)
    given = get(client.channel, queue)
    assert given is not None
    assert given.body == body


def test_messages_of_two_channels_may_be_interleaved(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open().open_channel(2)
    for number in (1, 2):
        wire.ask(number, spec.Confirm.Select(), spec.Confirm.SelectOk)

    for number in (1, 2):
        wire.send(number, spec.Basic.Publish(routing_key=queue))
    for number in (2, 1):
        wire.send_bytes(frame.Header(number, 6, spec.BasicProperties()).marshal())
    for piece in (b"abc", b"def"):
        for number in (1, 2):
            wire.send_bytes(frame.Body(number, piece).marshal())

    assert {wire.read().channel_number for _ in range(2)} == {1, 2}  # confirms, in any order
    assert get_all(client.channel, queue) == [b"abcdef"] * 2


def test_bytes_may_come_one_at_a_time(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)

    for byte in published(1, spec.Basic.Publish(routing_key=queue), b"body"):
        wire.send_bytes(bytes((byte,)))

    wire.expect(spec.Basic.Ack, 1)
    given = get(client.channel, queue)
    assert given is not None
    assert given.body == b"body"
