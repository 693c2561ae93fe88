"""Which of several consumers is given a message."""

from __future__ import annotations

import pytest

from tests.contract.client import Channel, Client, Inbox, put, refused, settle

MANY = [str(number).encode() for number in range(12)]


def test_consumers_with_room_take_turns(client: Client, channel: Channel) -> None:
    queue = client.queue()
    inboxes = [Inbox(client.open(), queue) for _ in range(3)]

    put(channel, queue, *MANY)

    assert sorted(tuple(each.body for each in inbox.wait(4)) for inbox in inboxes) == sorted(tuple(MANY[turn::3]) for turn in range(3))


def test_consumers_of_one_channel_take_turns_as_well(client: Client, channel: Channel) -> None:
    queue = client.queue()
    consuming = client.open()
    inboxes = [Inbox(consuming, queue) for _ in range(2)]

    put(channel, queue, *MANY)

    assert sorted(tuple(each.body for each in inbox.wait(6)) for inbox in inboxes) == sorted(tuple(MANY[turn::2]) for turn in range(2))


def test_a_busy_consumer_is_passed_over(client: Client, channel: Channel) -> None:
    queue = client.queue()
    busy_channel, idle_channel = client.open(prefetch=1), client.open(prefetch=1)
    busy, idle = Inbox(busy_channel, queue), Inbox(idle_channel, queue)
    put(channel, queue, b"0", b"1")
    busy.wait(1)

    for number in range(2, 6):
        idle_channel.basic_ack(idle.wait(number - 1)[-1].tag)
        put(channel, queue, str(number).encode())

    assert len(idle.wait(5)) == 5
    assert len(busy.given) == 1


def test_the_backlog_is_shared_by_prefetch(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, *MANY)
    small, large = Inbox(client.open(prefetch=2), queue), Inbox(client.open(prefetch=5), queue)

    small.exactly(b"0", b"1")
    large.exactly(b"2", b"3", b"4", b"5", b"6")


def test_a_message_requeued_goes_to_whoever_has_room(client: Client, channel: Channel) -> None:
    queue = client.queue()
    giving = client.open(prefetch=1)
    giver, taker = Inbox(giving, queue), Inbox(client.open(prefetch=1), queue)
    put(channel, queue, b"0")
    first = giver if _has_one(giver, taker) else taker
    assert first is giver

    put(channel, queue, b"1", b"2")
    taker.exactly(b"1")
    giving.basic_reject(1, requeue=True)

    giver.exactly(b"0", b"0")


def _has_one(first: Inbox, second: Inbox) -> bool:
    first.process_until(lambda: first.given or second.given, "a delivery")
    return bool(first.given)


# --- consumer priorities ----------------------------------------------------------------------------


def test_the_consumer_of_higher_priority_is_given_everything_as_long_as_it_has_room(client: Client, channel: Channel) -> None:
    queue = client.queue()
    low = Inbox(client.open(), queue)
    high = Inbox(client.open(prefetch=2), queue, arguments={"x-priority": 5})

    put(channel, queue, b"0", b"1", b"2")

    high.exactly(b"0", b"1")
    low.exactly(b"2")


def test_a_priority_below_zero_is_below_those_without(client: Client, channel: Channel) -> None:
    queue = client.queue()
    lowest = Inbox(client.open(), queue, arguments={"x-priority": -1})
    plain = Inbox(client.open(prefetch=1), queue)

    put(channel, queue, b"0", b"1")

    plain.exactly(b"0")
    lowest.exactly(b"1")


def test_room_at_the_higher_priority_is_used_first_again(client: Client, channel: Channel) -> None:
    queue = client.queue()
    low = Inbox(client.open(), queue)
    consuming = client.open(prefetch=1)
    high = Inbox(consuming, queue, arguments={"x-priority": 1})
    put(channel, queue, b"0", b"1")
    high.wait(1)
    low.wait(1)

    consuming.basic_ack(1)
    settle(consuming, queue)
    put(channel, queue, b"2")

    high.exactly(b"0", b"2")
    low.exactly(b"1")


@pytest.mark.parametrize(("value", "kind"), [("high", "longstr"), (True, "bool")])
def test_a_consumer_priority_is_a_number(client: Client, value: object, kind: str) -> None:
    queue, channel = client.queue(), client.open()

    text = f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{queue}' in vhost '/': \"expected integer, got {kind}\""
    with refused(channel, 406, text):
        Inbox(channel, queue, arguments={"x-priority": value})


# --- single active consumer -------------------------------------------------------------------------


@pytest.fixture(params=["classic", "quorum"])
def single(request: pytest.FixtureRequest, client: Client) -> str:
    arguments = {"x-single-active-consumer": True}
    return client.quorum_queue(arguments) if request.param == "quorum" else client.queue(arguments)


def test_only_the_first_consumer_of_a_single_active_queue_is_given_messages(client: Client, channel: Channel, single: str) -> None:
    first, second = Inbox(client.open(prefetch=1), single), Inbox(client.open(prefetch=1), single)

    put(channel, single, b"0", b"1")

    first.exactly(b"0")
    second.exactly()


def test_the_next_consumer_takes_over_when_the_active_one_is_cancelled(client: Client, channel: Channel, single: str) -> None:
    active = client.open()
    first, second = Inbox(active, single), Inbox(client.open(), single)
    put(channel, single, b"0")
    first.wait(1)

    active.basic_cancel(first.tag)
    put(channel, single, b"1")

    second.exactly(b"1")
    first.exactly(b"0")


def test_the_next_consumer_is_given_what_the_closed_one_held(client: Client, channel: Channel, single: str) -> None:
    active = client.open()
    first, second = Inbox(active, single), Inbox(client.open(), single)
    put(channel, single, b"0", b"1")
    first.wait(2)

    active.close()

    assert [(each.body, each.redelivered) for each in second.exactly(b"0", b"1")] == [(b"0", True), (b"1", True)]


def test_a_single_active_queue_has_no_exclusive_consumer(client: Client) -> None:
    queue, channel = client.queue({"x-single-active-consumer": True}), client.open()

    with refused(channel, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
        Inbox(channel, queue, exclusive=True)
