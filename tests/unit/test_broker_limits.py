"""What does not stay: messages that expire, queues that are full or unused, deliveries that are kept too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hopd.broker.model import Limits
from hopd.broker.refusal import Refused
from tests.support.pure_broker import START, Hand, PureBroker, headers


def client_with_dead_letters(**arguments: Any) -> Hand:
    """A queue whose dead letters go to the queue `dead`."""
    client = PureBroker().channel()
    client.declare("dead")
    client.declare(x_dead_letter_exchange="", x_dead_letter_routing_key="dead", **arguments)
    return client


# --- messages expire --------------------------------------------------------------------------------------------------


def test_a_message_expires_when_its_queue_says_so_to_the_millisecond() -> None:
    client = client_with_dead_letters(x_message_ttl=1500)
    client.publish(b"a")
    client.broker.wait(1.0)
    client.publish(b"b")

    assert client.broker.state.due() == START + 1.5
    client.broker.wait(0.499)
    assert client.broker.ready() == 2
    client.broker.wait(0.001)
    assert (client.broker.ready(), client.broker.ready("dead")) == (1, 1)
    client.broker.wait(1.0)

    assert client.drain("dead") == [b"a", b"b"]


def test_the_shorter_of_two_lifetimes_counts() -> None:
    client = client_with_dead_letters(x_message_ttl=2000)
    client.publish(b"message", ttl=1.0)
    client.broker.wait(1.0)
    client.publish(b"queue", ttl=3.0)
    client.broker.wait(2.0)

    assert client.drain("dead") == [b"message", b"queue"]


def test_a_message_expires_at_the_head_only() -> None:
    client = client_with_dead_letters()
    client.publish(b"for ever")
    client.publish(b"short", ttl=1.0)
    client.broker.wait(5.0)
    assert client.broker.ready() == 2

    assert client.get() is not None

    assert (client.broker.ready(), client.drain("dead")) == (0, [b"short"])


def test_a_message_expires_when_those_in_front_of_it_are_dropped() -> None:
    client = client_with_dead_letters(x_max_length=2)
    client.publish(b"for ever")
    client.publish(b"short", ttl=1.0)
    client.publish(b"for ever too")

    client.broker.wait(1.0)

    assert client.drain("dead") == [b"for ever", b"short"]


def test_what_was_delivered_does_not_expire_but_does_when_it_comes_back() -> None:
    client = client_with_dead_letters(x_message_ttl=1000)
    client.consume()
    client.publish(b"a")
    client.broker.wait(5.0)
    assert client.bodies() == [b"a"]

    client.nack(1)

    assert (client.bodies(), client.drain("dead")) == ([], [b"a"])


def test_a_lifetime_of_nothing_is_for_whoever_waits_already() -> None:
    client = client_with_dead_letters(x_message_ttl=0)
    client.publish(b"a")
    assert client.drain("dead") == [b"a"]
    client.consume()

    client.publish(b"b")

    assert (client.bodies(), client.broker.ready("dead")) == ([b"b"], 0)


def test_an_overdue_message_is_not_handed_out_although_nobody_looked() -> None:
    client = client_with_dead_letters(x_message_ttl=1000)
    client.publish(b"a")
    client.broker.now += 2.0

    assert client.get() is None
    assert client.drain("dead") == [b"a"]


# --- queues expire ----------------------------------------------------------------------------------------------------


def test_a_queue_that_nobody_uses_expires() -> None:
    client = PureBroker().channel()
    client.declare(x_expires=10_000)
    client.publish(b"a")
    client.broker.wait(9.0)
    client.publish(b"publishing is no use")
    assert client.broker.exists("q")

    client.broker.wait(1.0)

    assert not client.broker.exists("q")
    assert client.broker.state.messages == 0


@pytest.mark.parametrize(
    "use", [lambda client: client.get(), lambda client: client.passive("q"), lambda client: client.declare(x_expires=10_000)]
)
def test_a_queue_that_is_used_expires_later(use: Callable[[Hand], object]) -> None:
    client = PureBroker().channel()
    client.declare(x_expires=10_000)
    client.broker.wait(9.0)

    use(client)

    client.broker.wait(9.0)
    assert client.broker.exists("q")
    client.broker.wait(1.0)
    assert not client.broker.exists("q")


def test_a_queue_does_not_expire_while_somebody_consumes_and_does_some_time_after() -> None:
    client = PureBroker().channel()
    client.declare(x_expires=10_000)
    client.consume(tag="c")
    client.broker.wait(60.0)
    assert client.broker.exists("q")

    client.cancel("c")

    client.broker.wait(9.0)
    assert client.broker.exists("q")
    client.broker.wait(1.0)
    assert not client.broker.exists("q")


def test_an_hour_of_declaring_leaves_one_timer() -> None:
    client = PureBroker().channel()
    for _ in range(1000):
        client.declare(x_expires=3_600_000)
        client.broker.now += 1.0

    client.delete()
    client.broker.wait(3600.0)

    assert client.broker.state.due() is None


# --- full queues ------------------------------------------------------------------------------------------------------


def test_a_full_queue_drops_its_oldest_messages() -> None:
    client = client_with_dead_letters(x_max_length=2)

    assert client.publish(b"a", b"b", b"c")[-1].accepted

    assert (client.drain(), client.drain("dead")) == ([b"b", b"c"], [b"a"])


def test_a_queue_may_be_full_of_bytes() -> None:
    client = client_with_dead_letters(x_max_length_bytes=10)

    client.publish(b"aaaa", b"bbbb", b"cccc", b"larger than all there is")

    assert (client.drain(), client.drain("dead")) == ([], [b"aaaa", b"bbbb", b"cccc", b"larger than all there is"])


def test_what_is_unsettled_does_not_count() -> None:
    client = client_with_dead_letters(x_max_length=1)
    client.prefetch(1)
    client.consume()

    client.publish(b"a", b"b")
    assert client.broker.ready("dead") == 0
    client.nack(1)  # comes again at once

    assert client.broker.ready("dead") == 1  # b was behind what came back, and a is the head


def test_a_queue_of_no_length_is_for_whoever_waits_already() -> None:
    client = client_with_dead_letters(x_max_length=0)
    client.publish(b"a")
    client.consume()
    client.publish(b"b")

    assert (client.bodies(), client.drain("dead")) == ([b"b"], [b"a"])


def test_a_full_queue_may_refuse_instead() -> None:
    client = client_with_dead_letters(x_max_length=1, x_overflow="reject-publish")

    published = client.publish(b"a", b"b")

    assert [(each.routed, each.accepted) for each in published] == [(True, True), (True, False)]
    assert (client.drain(), client.drain("dead")) == ([b"a"], [])


def test_what_it_refuses_may_go_to_the_dead_letters() -> None:
    client = client_with_dead_letters(x_max_length=1, x_overflow="reject-publish-dlx")

    published = client.publish(b"a", b"b")

    assert [each.accepted for each in published] == [True, False]
    assert (client.drain(), client.drain("dead")) == ([b"a"], [b"b"])


def test_one_full_queue_does_not_keep_a_message_from_the_others() -> None:
    client = PureBroker().channel()
    client.declare("full", x_max_length=0, x_overflow="reject-publish")
    client.declare("free")
    client.bind("full", "amq.fanout")
    client.bind("free", "amq.fanout")

    (published,) = client.publish(b"a", exchange="amq.fanout")

    assert (published.accepted, client.broker.ready("free")) == (False, 1)


def test_a_full_priority_queue_drops_its_head_which_is_of_the_highest_priority() -> None:
    client = client_with_dead_letters(x_max_length=2, x_max_priority=5)
    client.publish(b"high", priority=5)
    client.publish(b"low", b"low too")

    assert client.drain("dead") == [b"high"]


def test_a_full_queue_drops_its_head_even_when_that_is_overdue_and_nothing_else() -> None:
    client = client_with_dead_letters(x_max_length=1, x_max_priority=2)
    client.publish(b"stays")

    client.publish(b"overdue", priority=2, ttl=0.0)

    assert (client.drain(), client.drain("dead")) == ([b"stays"], [b"overdue"])


# --- delivery limit ---------------------------------------------------------------------------------------------------


def test_a_quorum_queue_counts_how_often_a_message_came_back_and_gives_it_up() -> None:
    client = client_with_dead_letters(durable=True, x_queue_type="quorum", x_delivery_limit=2)
    client.consume()
    client.publish(b"a")

    client.nack(1)
    client.reject(2, requeue=True)
    counts = [b"x-delivery-count" in each.message.properties for each in client.deliveries()]
    assert counts == [False, True, True]
    client.close()

    assert (client.broker.ready(), client.broker.ready("dead")) == (0, 1)


def test_who_asks_a_quorum_queue_for_a_message_is_told_the_count_from_the_first_time_on() -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.publish(b"a")

    for count in range(3):
        delivery = client.get()
        assert delivery is not None
        assert headers(delivery)["x-delivery-count"] == count
        client.nack(delivery.tag)


def test_a_classic_queue_counts_nothing() -> None:
    client = PureBroker().channel()
    client.declare()
    client.consume()
    client.publish(b"a")
    for tag in range(1, 50):
        client.nack(tag)

    assert not any(b"x-delivery-count" in each.message.properties for each in client.deliveries())


# --- deliveries that are kept too long ---------------------------------------------------------------------------------


def test_a_channel_that_keeps_a_delivery_too_long_is_closed_and_everything_returns() -> None:
    broker = PureBroker(limits=Limits(consumer_timeout=1800.0))
    client = broker.channel()
    client.declare()
    client.consume()
    client.publish(b"a")
    broker.wait(1000.0)
    client.publish(b"b")
    client.ack(1)
    broker.wait(1799.0)
    assert client.closed == []

    broker.wait(1.0)

    assert client.closed == [
        (
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. "
            "This timeout value can be configured, see consumers doc guide to learn more"
        )
    ]
    assert broker.ready() == 1
    with pytest.raises(Refused):
        client.ack(2)


def test_what_was_asked_for_has_to_be_settled_in_time_as_well() -> None:
    client = PureBroker(limits=Limits(consumer_timeout=60.0)).channel()
    client.declare()
    client.publish(b"a")
    client.get()

    client.broker.wait(60.0)

    assert len(client.closed) == 1


def test_a_busy_channel_has_one_timer_and_an_idle_one_none_until_it_is_busy_again() -> None:
    client = PureBroker(limits=Limits(consumer_timeout=60.0)).channel()
    client.declare()
    client.consume()
    for tag in range(1, 1001):
        client.publish(b"a")
        client.ack(tag)
        client.broker.now += 0.01

    assert client.broker.state.due() == START + 60.0
    client.broker.wait(60.0)
    assert (client.broker.state.due(), client.closed) == (None, [])

    client.publish(b"a")
    client.broker.wait(60.0)
    assert len(client.closed) == 1


def test_without_a_limit_a_delivery_may_be_kept_for_ever() -> None:
    client = PureBroker(limits=Limits(consumer_timeout=None)).channel()
    client.declare()
    client.consume()
    client.publish(b"a")

    assert client.broker.state.due() is None
