"""Prefetch: how many unsettled deliveries a consumer, or a channel, may hold."""

from __future__ import annotations

from tests.contract.client import Channel, Client, Inbox, get, hung_up, put, ready, take

MANY = [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_consumer_holds_at_most_its_prefetch(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)

    inbox = Inbox(client.open(prefetch=2), queue)

    inbox.exactly(b"0", b"1")
    assert ready(channel, queue) == 4


def test_each_settlement_makes_room_for_one(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    consuming = client.open(prefetch=2)
    inbox = Inbox(consuming, queue)
    inbox.wait(2)

    consuming.basic_ack(1)
    inbox.exactly(b"0", b"1", b"2")

    consuming.basic_reject(2, requeue=False)
    inbox.exactly(b"0", b"1", b"2", b"3")

    consuming.basic_ack(4, multiple=True)
    inbox.exactly(*MANY)


def test_prefetch_zero_is_no_limit(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY * 50)

    Inbox(client.open(), queue).exactly(*MANY * 50)


def test_each_consumer_of_a_channel_has_the_prefetch_for_itself(client: Client, channel: Channel) -> None:
    queue = client.queue()
    consuming = client.open(prefetch=2)
    first, second = Inbox(consuming, queue), Inbox(consuming, queue)

    put(channel, queue, *MANY)

    assert len(first.wait(2)) == len(second.wait(2)) == 2
    assert ready(channel, queue) == 2


def test_a_prefetch_is_for_the_consumers_that_come_after_it(client: Client, channel: Channel) -> None:
    few, more = client.queue(), client.queue()
    put(channel, few, *MANY)
    put(channel, more, *MANY)
    consuming = client.open(prefetch=1)
    early = Inbox(consuming, few)

    consuming.basic_qos(prefetch_count=3)
    late = Inbox(consuming, more)

    late.exactly(b"0", b"1", b"2")
    early.exactly(b"0")


def test_a_global_prefetch_is_for_the_channel_as_a_whole(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    consuming = client.open()
    consuming.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Inbox(consuming, queue), Inbox(consuming, queue)

    first.process_until(lambda: len(first.given) + len(second.given) == 3, "three deliveries")
    assert ready(channel, queue) == 3

    consuming.basic_ack(1)
    first.process_until(lambda: len(first.given) + len(second.given) == 4, "one more")
    assert ready(channel, queue) == 2


def test_a_global_prefetch_that_grows_lets_more_come(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    consuming = client.open()
    consuming.basic_qos(prefetch_count=1, global_qos=True)
    inbox = Inbox(consuming, queue)
    inbox.exactly(b"0")

    consuming.basic_qos(prefetch_count=3, global_qos=True)

    inbox.exactly(b"0", b"1", b"2")


def test_a_global_prefetch_of_zero_ends_the_limit(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    consuming = client.open()
    consuming.basic_qos(prefetch_count=1, global_qos=True)
    inbox = Inbox(consuming, queue)
    inbox.wait(1)

    consuming.basic_qos(prefetch_count=0, global_qos=True)

    inbox.exactly(*MANY)


def test_of_two_limits_the_smaller_holds(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    consuming = client.open(prefetch=4)
    consuming.basic_qos(prefetch_count=2, global_qos=True)

    Inbox(consuming, queue).exactly(b"0", b"1")


def test_without_acks_there_is_no_limit(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)

    Inbox(client.open(prefetch=1), queue, auto_ack=True).exactly(*MANY)


def test_get_is_not_held_by_the_prefetch(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    limited = client.open(prefetch=1)

    assert [take(limited, queue).body for _ in range(3)] == [b"0", b"1", b"2"]


def test_a_message_that_was_got_takes_no_place_of_a_consumer(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    limited = client.open(prefetch=1)
    assert get(limited, queue) is not None

    Inbox(limited, queue).exactly(b"1")


def test_a_prefetch_in_bytes_is_not_implemented(client: Client) -> None:
    channel = client.open()

    with hung_up(channel, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (5)"):
        channel.basic_qos(prefetch_size=5)
