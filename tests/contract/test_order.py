"""Messages come in the order in which they were published; one that comes back returns to its place."""

from __future__ import annotations

from tests.contract.client import Channel, Client, Inbox, get, get_all, publish, put, take, wait_ready


def numbers(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_messages_are_got_in_the_order_in_which_they_were_put(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *numbers(20))

    assert get_all(channel, queue) == numbers(20)


def test_messages_are_delivered_in_the_order_in_which_they_were_put(client: Client, channel: Channel) -> None:
    queue = client.queue()
    inbox = Inbox(client.open(), queue)

    put(channel, queue, *numbers(20))

    inbox.exactly(*numbers(20))


def test_the_order_spans_exchanges(client: Client, channel: Channel) -> None:
    exchange = client.exchange("fanout")
    queue = client.bound(exchange)

    for number in numbers(10):
        publish(channel, exchange if int(number) % 2 else "", queue, number)

    assert get_all(channel, queue) == numbers(10)


def test_a_message_requeued_returns_to_its_place(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *numbers(5))
    for _ in range(4):
        get(channel, queue)

    channel.basic_nack(2, requeue=True)  # the second
    channel.basic_nack(1, requeue=True)

    assert [take(channel, queue).body for _ in range(3)] == [b"0", b"1", b"4"]


def test_messages_that_come_back_together_keep_their_order(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *numbers(5))
    for _ in range(4):
        get(channel, queue)

    channel.basic_nack(3, multiple=True, requeue=True)

    assert [take(channel, queue).body for _ in range(4)] == [b"0", b"1", b"2", b"4"]


def test_what_a_closed_channel_held_returns_to_its_place(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *numbers(6))
    holder = client.open(prefetch=4)
    Inbox(holder, queue).wait(4)
    holder.basic_ack(2)

    holder.close()

    wait_ready(channel, queue, 5)
    assert get_all(channel, queue) == [b"0", b"2", b"3", b"4", b"5"]


def test_only_what_was_delivered_before_is_called_redelivered(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *numbers(3))
    holder = client.open(prefetch=2)
    Inbox(holder, queue).wait(2)
    holder.close()
    wait_ready(channel, queue, 3)

    assert [take(channel, queue).redelivered for _ in range(3)] == [True, True, False]


def test_a_quorum_queue_with_a_limit_gives_what_came_back_before_what_is_new(client: Client, channel: Channel) -> None:
    queue = client.quorum_queue({"x-delivery-limit": 5})

    assert after_a_return(channel, queue) == [b"0", b"1", b"2", b"3"]


def test_a_quorum_queue_without_a_limit_gives_what_came_back_last(client: Client, channel: Channel) -> None:
    queue = client.quorum_queue()  # which would otherwise repeat the same message for ever, and its log grow

    assert after_a_return(channel, queue) == [b"2", b"3", b"0", b"1"]


def test_any_quorum_queue_gives_what_a_closed_channel_held_before_what_is_new(client: Client, channel: Channel) -> None:
    queue, holder = client.quorum_queue(), client.open()
    put(channel, queue, *numbers(4))
    for _ in range(2):
        take(holder, queue)

    holder.close()

    wait_ready(channel, queue, 4)
    assert [take(channel, queue).body for _ in range(4)] == numbers(4)


def after_a_return(channel: Channel, queue: str) -> list[bytes]:
    """How four messages come, of which the first two came back."""
    put(channel, queue, *numbers(4))
    for _ in range(2):
        take(channel, queue)
    channel.basic_nack(2, multiple=True, requeue=True)
    return [take(channel, queue).body for _ in range(4)]
