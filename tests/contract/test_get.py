"""Getting one message at a time."""

from __future__ import annotations

from pika import spec

from tests.contract.client import Client, get, put, refused, unique
from tests.contract.wire import Wire


def test_an_empty_queue_says_so(client: Client) -> None:
    assert get(client.channel, client.queue()) is None


def test_a_message_tells_how_many_are_left(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0", b"1", b"2", content_type="text/plain")
    wire.open()

    for left in (2, 1, 0):
        wire.send(1, spec.Basic.Get(queue=queue))
        got = wire.expect_message(spec.Basic.GetOk)
        assert (got.method.message_count, got.body) == (left, str(2 - left).encode())
        assert (got.method.delivery_tag, got.method.redelivered) == (3 - left, False)
        assert (got.method.exchange, got.method.routing_key, got.properties.content_type) == ("", queue, "text/plain")

    wire.ask(1, spec.Basic.Get(queue=queue), spec.Basic.GetEmpty)


def test_what_was_got_is_not_ready(client: Client) -> None:
    queue = client.queue()
    put(client.channel, queue, b"0")

    assert get(client.channel, queue) is not None

    assert get(client.open(), queue) is None


def test_a_message_got_and_returned_is_redelivered(client: Client) -> None:
    queue = client.queue()
    put(client.channel, queue, b"0")
    first = get(client.channel, queue)
    assert first is not None

    client.channel.basic_nack(first.tag, requeue=True)

    again = get(client.channel, queue)
    assert again is not None
    assert (again.tag, again.redelivered) == (2, True)


def test_tags_count_on_without_acks(client: Client) -> None:
    queue, channel = client.queue(), client.open()
    put(channel, queue, b"0", b"1", b"2")

    tags = [given.tag for given in (get(channel, queue, auto_ack=True) for _ in range(3)) if given is not None]

    assert tags == [1, 2, 3]


def test_a_queue_that_is_not_there_cannot_be_got_from(client: Client) -> None:
    channel, nowhere = client.open(), unique("nowhere")

    with refused(channel, 404, f"NOT_FOUND - no queue '{nowhere}' in vhost '/'"):
        get(channel, nowhere)
