"""What the broker's state has the disk keep, and what it makes of that after a restart."""

from __future__ import annotations

import pytest

from hopd.broker.model import Bound, Counted, DeliveredUpTo, Gone, Op, PutMessage, QueueDeclared, QueueDeleted, QueuePurged, Unbound
from tests.support.pure_broker import Hand, PureBroker, message


def durable() -> Hand:
    """A client of a broker with a store, and a durable queue whose declaration is saved."""
    client = PureBroker(paging=True).channel()
    client.declare(durable=True)
    return client


def journal_of(client: Hand, *bodies: bytes, ack: int = 0, nack: int = 0) -> list[Op]:
    """What is in the journal when this happens between two looks at it."""
    state, now = client.broker.state, client.broker.now
    for body in bodies:
        state.publish(message(body, persistent=True), now)
    if ack:
        state.ack(client.channel, ack, False, now)
    if nack:
        state.nack(client.channel, nack, False, True, now)
    return state.take_journal()


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_persistent_messages_in_durable_queues_are_kept_and_no_others() -> None:
    client = PureBroker(paging=True).channel()
    client.declare("durable", durable=True)
    client.declare("transient")
    client.declare("own", durable=True, exclusive=True)
    state, now = client.broker.state, client.broker.now

    kept = [state.publish(message(b"", key=key, persistent=True), now).durable for key in ("durable", "transient", "own")]
    kept.append(state.publish(message(b"", key="durable"), now).durable)

    assert kept == [True, False, False, False]
    assert [type(op) for op in state.take_journal()] == [PutMessage]


def test_a_message_that_came_and_went_between_two_looks_leaves_no_trace_but_waits_for_its_confirm() -> None:
    client = durable()
    client.consume(no_ack=True)

    published = client.broker.state.publish(message(b"", persistent=True), client.broker.now)

    assert published.durable
    assert client.broker.state.take_journal() == []


def test_a_message_that_went_later_is_noted_and_how_far_was_delivered_once() -> None:
    client = durable()
    client.consume()

    first = journal_of(client, b"a", b"b", b"c")
    second = journal_of(client, ack=2)

    assert [type(op) for op in first] == [PutMessage, PutMessage, PutMessage, DeliveredUpTo]
    assert second == [Gone("q", 2)]
    assert isinstance(first[-1], DeliveredUpTo)
    assert first[-1].id == 3


def test_a_dead_letter_arrives_in_the_batch_in_which_it_leaves() -> None:
    client = PureBroker(paging=True).channel()
    client.declare("dead", durable=True)
    client.declare(durable=True, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    client.publish(b"a", persistent=True)
    client.get()

    client.broker.state.reject(client.channel, 1, False, client.broker.now)

    went, came = client.broker.state.take_journal()
    assert went == Gone("q", 1)
    assert isinstance(came, PutMessage)
    assert (came.queue, came.message.body) == ("dead", b"a")


def test_a_quorum_queue_keeps_how_often_a_message_came_back() -> None:
    client = PureBroker(paging=True).channel()
    client.declare(durable=True, x_queue_type="quorum", x_delivery_limit=9)
    client.publish(b"a", persistent=True)
    client.consume()

    assert journal_of(client, nack=1)[0] == Counted("q", 1, 1)


def test_a_quorum_queue_keeps_what_its_publisher_called_transient() -> None:
    client = PureBroker(paging=True).channel()
    client.declare(durable=True, x_queue_type="quorum")

    (published,) = client.publish(b"a", persistent=False)

    assert published.durable
    assert client.broker.shelf.read("q", [1])[0][1] is not None


def test_what_goes_to_the_end_of_a_quorum_queue_goes_and_comes() -> None:
    client = PureBroker(paging=True).channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.publish(b"a", persistent=True)
    client.get()

    went, came = journal_of(client, nack=1)

    assert went == Gone("q", 1)
    assert isinstance(came, PutMessage)
    assert (came.id, came.message.body, came.delivery_count) == (2, b"a", 1)
    client.broker.shelf.play([went, came])
    client.broker.restart()
    delivery = client.broker.channel().get()
    assert delivery is not None
    assert delivery.redelivered


def test_purging_keeps_what_is_unsettled() -> None:
    client = durable()
    client.prefetch(2)
    client.consume()
    client.publish(*[b""] * 5, persistent=True)

    client.broker.state.queue_purge(client, "q")

    assert client.broker.state.take_journal() == [QueuePurged("q", [1, 2])]


def test_a_queue_that_goes_leaves_nothing_to_say_about_its_messages() -> None:
    client = durable()
    client.consume()
    client.publish(b"a", b"b", persistent=True)

    client.broker.state.queue_delete(client, "q", if_unused=False, if_empty=False)
    client.broker.state.ack(client.channel, 2, True, client.broker.now)

    assert client.broker.state.take_journal() == [QueueDeleted("q")]


def test_a_queue_that_is_made_anew_begins_anew() -> None:
    client = durable()
    client.consume()
    state, now = client.broker.state, client.broker.now
    state.publish(message(b"a", persistent=True), now)

    state.queue_delete(client, "q", if_unused=False, if_empty=False)
    state.queue_declare(client, "q", passive=False, durable=True, exclusive=False, auto_delete=False, arguments={}, now=now)

    assert [type(op) for op in state.take_journal()] == [PutMessage, QueueDeleted, QueueDeclared]


def test_what_is_bound_is_kept_between_durable_ends_only() -> None:
    client = PureBroker(paging=True).channel()
    state = client.broker.state
    client.declare("durable", durable=True)
    client.declare("transient")
    client.exchange("durable", durable=True)
    client.exchange("transient")
    state.take_journal()

    for queue in ("durable", "transient"):
        for exchange in ("durable", "transient", "amq.direct"):
            client.bind(queue, exchange, "k")
    state.exchange_bind("durable", "amq.direct", "k", {})
    state.queue_unbind(client, "durable", "durable", "k", {})

    assert state.take_journal() == [
        Bound("durable", "durable", False, "k", {}),
        Bound("amq.direct", "durable", False, "k", {}),
        Bound("amq.direct", "durable", True, "k", {}),
        Unbound("durable", "durable", False, "k", {}),
    ]


def test_declaring_twice_is_noted_once() -> None:
    client = PureBroker(paging=True).channel()
    state, now = client.broker.state, client.broker.now
    for _ in range(2):
        state.queue_declare(
            client, "q", passive=False, durable=True, exclusive=False, auto_delete=True, arguments={"x-expires": 9}, now=now
        )

    assert state.take_journal() == [QueueDeclared("q", {"x-expires": 9}, True)]


# --- after a restart --------------------------------------------------------------------------------------------------


def test_after_a_restart_what_was_durable_is_there_in_its_order() -> None:
    client = durable()
    client.publish(b"a", b"b", b"c", persistent=True)
    client.publish(b"transient")
    client.declare("transient")

    client.broker.restart()

    again = client.broker.channel()
    assert not client.broker.exists("transient")
    assert again.drain() == [b"a", b"b", b"c"]


def test_after_a_restart_what_may_have_been_delivered_says_so() -> None:
    client = durable()
    client.prefetch(2)
    client.consume()
    client.publish(b"a", b"b", b"c", persistent=True)

    client.broker.restart()

    again = client.broker.channel()
    again.consume()
    assert [(each.message.body, each.redelivered) for each in again.deliveries()] == [(b"a", True), (b"b", True), (b"c", False)]


def test_two_restarts_later_it_still_says_so() -> None:
    client = durable()
    client.consume()
    client.publish(b"a", b"b", persistent=True)
    client.broker.restart()
    client.broker.channel().get()  # the first of them only

    client.broker.restart()

    again = client.broker.channel()
    again.consume()
    assert [each.redelivered for each in again.deliveries()] == [True, True]


def test_after_a_restart_exchanges_and_bindings_lead_where_they_led() -> None:
    client = durable()
    client.exchange("e", "topic", durable=True, alternate_exchange="f")
    client.exchange("f", "fanout", durable=True, internal=True)
    client.bind("q", "e", "a.*")
    client.bind("q", "amq.headers", x_match="any", kind="mail")
    client.broker.state.exchange_bind("f", "amq.direct", "g", {})
    client.bind("q", "f")
    client.broker.save()

    client.broker.restart()

    again = client.broker.channel()
    for exchange, key, headers in (("e", "a.b", {}), ("e", "z", {}), ("amq.headers", "", {"kind": "mail"}), ("amq.direct", "g", {})):
        assert again.publish(b"", exchange=exchange, key=key, headers=headers)[0].routed, exchange
    assert again.broker.ready() == 4


def test_after_a_restart_priorities_counts_and_lifetimes_go_on() -> None:
    client = PureBroker(paging=True).channel()
    client.declare("priority", durable=True, x_max_priority=5)
    client.publish(b"low", key="priority", persistent=True, priority=1)
    client.publish(b"high", key="priority", persistent=True, priority=9)
    client.declare("quorum", durable=True, x_queue_type="quorum", x_delivery_limit=1)
    client.publish(b"counted", key="quorum", persistent=True)
    client.get("quorum")
    client.nack(1)
    client.declare("short", durable=True, x_message_ttl=5000)
    client.publish(b"", key="short", persistent=True)
    client.broker.now += 4.0

    client.broker.restart()

    again = client.broker.channel()
    assert again.drain("priority") == [b"high", b"low"]
    delivery = again.get("quorum")
    assert delivery is not None
    again.nack(delivery.tag)
    assert again.get("quorum") is None
    again.broker.wait(0.9)
    assert again.broker.ready("short") == 1
    again.broker.wait(0.1)
    assert again.broker.ready("short") == 0


def test_after_a_restart_ids_go_on_and_limits_hold() -> None:
    client = PureBroker(paging=True).channel()
    client.declare(durable=True, x_max_length=3, x_max_length_bytes=10)
    client.publish(b"aaa", b"bbb", b"ccc", persistent=True)

    client.broker.restart()
    again = client.broker.channel()
    again.publish(b"ddd", persistent=True)
    assert again.broker.ready() == 3
    again.publish(b"eeeeee", persistent=True)

    assert again.drain() == [b"ddd", b"eeeeee"]


def test_a_queue_that_was_restored_expires_when_nobody_comes() -> None:
    client = PureBroker(paging=True).channel()
    client.declare(durable=True, x_expires=1000)

    client.broker.restart()
    client.broker.wait(1.0)

    assert not client.broker.exists("q")
    assert client.broker.shelf.queues == {}


@pytest.mark.parametrize("name", ["q", "e"])
def test_what_was_deleted_is_gone_after_a_restart(name: str) -> None:
    client = durable()
    client.exchange("e", durable=True)
    client.bind("q", "e", "k")
    client.publish(b"a", persistent=True)
    if name == "q":
        client.delete()
    else:
        client.broker.state.exchange_delete("e", if_unused=False)
        client.broker.save()

    client.broker.restart()

    assert client.broker.shelf.bindings == []
    assert client.broker.exists("q") is (name == "e")
