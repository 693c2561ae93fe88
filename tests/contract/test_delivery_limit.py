"""Quorum queues count how often a message was delivered, and can end that."""

from __future__ import annotations

import pytest

from tests.contract.client import Channel, Client, Inbox, get_all, put, ready, settle, take, wait_ready


def test_a_quorum_queue_tells_how_often_a_message_was_returned(client: Client, channel: Channel) -> None:
    queue = client.quorum_queue()
    put(channel, queue, b"0", headers={"mine": 1})

    for count in range(3):
        given = take(channel, queue)
        assert (given.headers, given.redelivered) == ({"mine": 1, "x-delivery-count": count}, count > 0)
        channel.basic_reject(given.tag, requeue=True)


def test_it_tells_consumers_from_the_second_time_on(client: Client, channel: Channel) -> None:
    queue = client.quorum_queue()
    put(channel, queue, b"0")
    consuming = client.open(prefetch=1)
    inbox = Inbox(consuming, queue)
    inbox.wait(1)

    consuming.basic_nack(1, requeue=True)

    assert [each.headers for each in inbox.wait(2)] == [{}, {"x-delivery-count": 1}]


def test_a_classic_queue_counts_nothing(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, b"0")

    for _ in range(2):
        given = take(channel, queue)
        assert given.headers == {}
        channel.basic_reject(given.tag, requeue=True)


@pytest.mark.parametrize("how", ["reject", "nack", "close"])
def test_a_message_that_was_returned_too_often_is_dead_lettered(client: Client, channel: Channel, how: str) -> None:
    graveyard = client.queue()
    queue = client.quorum_queue({"x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard})
    put(channel, queue, b"0", headers={"mine": 1})

    for _ in range(3):
        returning = client.open()
        tag = take(returning, queue).tag
        if how != "close":
            getattr(returning, f"basic_{how}")(tag, requeue=True)
        returning.close()

    dead = take(channel, graveyard)
    (death,) = dead.headers["x-death"]
    assert (death["reason"], death["queue"], death["count"]) == ("delivery_limit", queue, 1)
    assert (dead.headers["mine"], dead.headers["x-first-death-reason"]) == (1, "delivery_limit")
    assert "x-delivery-count" not in dead.headers


def test_without_a_place_for_the_dead_it_is_dropped(client: Client, channel: Channel) -> None:
    queue = client.quorum_queue({"x-delivery-limit": 1})
    put(channel, queue, b"0", b"1")

    for _ in range(2):
        channel.basic_reject(take(channel, queue).tag, requeue=True)

    settle(channel, queue)
    wait_ready(channel, queue, 1)
    assert get_all(channel, queue) == [b"1"]


def test_a_limit_of_zero_is_one_delivery(client: Client, channel: Channel) -> None:
    queue = client.quorum_queue({"x-delivery-limit": 0})
    put(channel, queue, b"0")

    channel.basic_reject(take(channel, queue).tag, requeue=True)

    wait_ready(channel, queue, 0)


def test_a_message_is_counted_in_its_own_queue(client: Client, channel: Channel) -> None:
    second = client.quorum_queue()
    first = client.quorum_queue({"x-delivery-limit": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": second})
    put(channel, first, b"0")
    for _ in range(2):
        channel.basic_reject(take(channel, first).tag, requeue=True)

    assert take(channel, second).headers["x-delivery-count"] == 0
    assert ready(channel, first) == 0
