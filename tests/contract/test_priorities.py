"""Messages with priorities."""

from __future__ import annotations

from tests.contract.client import Channel, Client, Inbox, get_all, put, ready, take, wait_ready


def test_a_message_of_higher_priority_comes_before_those_below(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 5})

    for priority in (1, 3, 5, 2):
        put(channel, queue, str(priority).encode(), priority=priority)

    assert get_all(channel, queue) == [b"5", b"3", b"2", b"1"]


def test_within_one_priority_the_order_stays(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 5})

    put(channel, queue, b"a0", b"a1", priority=1)
    put(channel, queue, b"b0", b"b1", priority=2)
    put(channel, queue, b"a2", priority=1)

    assert get_all(channel, queue) == [b"b0", b"b1", b"a0", b"a1", b"a2"]


def test_no_priority_is_the_lowest(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 5})

    put(channel, queue, b"none")
    put(channel, queue, b"one", priority=1)
    put(channel, queue, b"zero", priority=0)

    assert get_all(channel, queue) == [b"one", b"none", b"zero"]


def test_a_priority_above_the_queues_counts_as_the_highest(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 3})

    put(channel, queue, b"three", priority=3)
    put(channel, queue, b"nine", priority=9)
    put(channel, queue, b"one", priority=1)

    assert get_all(channel, queue) == [b"three", b"nine", b"one"]


def test_the_priority_travels_with_the_message(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 3})

    put(channel, queue, b"0", priority=9)

    assert take(channel, queue).properties.priority == 9


def test_a_queue_without_priorities_does_not_look_at_them(client: Client, channel: Channel) -> None:
    queue = client.queue()

    put(channel, queue, b"0", priority=1)
    put(channel, queue, b"1", priority=9)

    assert get_all(channel, queue) == [b"0", b"1"]


def test_consumers_are_given_the_highest_first(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 5})
    for priority in (1, 3, 2):
        put(channel, queue, str(priority).encode(), priority=priority)

    Inbox(client.open(prefetch=3), queue).exactly(b"3", b"2", b"1")


def test_a_message_requeued_returns_to_its_place_among_its_equals(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 5})
    put(channel, queue, b"b0", b"b1", priority=2)
    put(channel, queue, b"a0", priority=1)

    channel.basic_nack(take(channel, queue).tag, requeue=True)

    assert get_all(channel, queue) == [b"b0", b"b1", b"a0"]


def test_a_full_queue_drops_its_head_which_is_the_highest_priority(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 5, "x-max-length": 2})

    put(channel, queue, b"high", priority=5)
    put(channel, queue, b"low", priority=1)
    put(channel, queue, b"middle", priority=3)

    assert get_all(channel, queue) == [b"middle", b"low"]


def test_a_message_does_not_expire_behind_one_of_higher_priority(client: Client, channel: Channel) -> None:
    queue, beside = client.queue({"x-max-priority": 5}), client.queue()
    put(channel, queue, b"lasts", priority=5)
    put(channel, queue, b"short", priority=1, expiration="100")
    put(channel, beside, b"0", expiration="200")

    wait_ready(channel, beside, 0)

    assert ready(channel, queue) == 2
    assert get_all(channel, queue) == [b"lasts"]


def test_purging_takes_all_priorities(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-priority": 5})
    for priority in (1, 3, 5):
        put(channel, queue, b"0", priority=priority)

    assert channel.queue_purge(queue).method.message_count == 3
    assert ready(channel, queue) == 0
