"""How queues and exchanges come to be, whose they are, and how they end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hopd.broker.refusal import Code, Refused
from tests.support.pure_broker import Hand, PureBroker

IN_USE_BY_ANOTHER = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another "
    "connection or the exclusive property value does not match that of the original declaration."
)

REFUSED: list[tuple[Callable[[Hand], object], str]] = [
    (lambda client: client.passive("none"), "NOT_FOUND - no queue 'none' in vhost '/'"),
    (lambda client: client.get("none"), "NOT_FOUND - no queue 'none' in vhost '/'"),
    (lambda client: client.consume("none"), "NOT_FOUND - no queue 'none' in vhost '/'"),
    (lambda client: client.purge("none"), "NOT_FOUND - no queue 'none' in vhost '/'"),
    (lambda client: client.bind("none", "amq.direct"), "NOT_FOUND - no queue 'none' in vhost '/'"),
    (lambda client: client.bind("q", "none"), "NOT_FOUND - no exchange 'none' in vhost '/'"),
    (lambda client: client.bind("none", "none too"), "NOT_FOUND - no exchange 'none too' in vhost '/'"),
    (lambda client: client.bind("q", ""), "ACCESS_REFUSED - operation not permitted on the default exchange"),
    (lambda client: client.publish(b"", exchange="none"), "NOT_FOUND - no exchange 'none' in vhost '/'"),
    (lambda client: client.declare("amq.mine"), "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"),
    (
        lambda client: client.declare(durable=True),
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    ),
    (
        lambda client: client.declare(auto_delete=True),
        "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    ),
    (lambda client: client.declare(exclusive=True), IN_USE_BY_ANOTHER),
    (lambda client: client.exchange("amq.mine"), "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"),
    (lambda client: client.exchange(""), "ACCESS_REFUSED - operation not permitted on the default exchange"),
    (lambda client: client.exchange("e", "sideways"), "COMMAND_INVALID - unknown exchange type 'sideways'"),
    (
        lambda client: client.exchange("e", "topic"),
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'topic' but current is 'direct'",
    ),
    (
        lambda client: client.exchange("e", internal=True),
        "PRECONDITION_FAILED - inequivalent arg 'internal' for exchange 'e' in vhost '/': received 'true' but current is 'false'",
    ),
    (
        lambda client: client.exchange("e", alternate_exchange="f"),
        (
            "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': "
            "received the value 'f' of type 'longstr' but current is none"
        ),
    ),
    (
        lambda client: client.exchange("new", alternate_exchange=5),
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'new' in vhost '/'",
    ),
    (
        lambda client: client.broker.state.exchange_delete("amq.topic", if_unused=False),
        "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed",
    ),
    (
        lambda client: client.broker.state.exchange_delete("", if_unused=False),
        "ACCESS_REFUSED - operation not permitted on the default exchange",
    ),
    (lambda client: client.broker.state.exchange_delete("e", if_unused=True), "PRECONDITION_FAILED - exchange 'e' in vhost '/' in use"),
    (lambda client: client.broker.state.exchange_bind("e", "", "", {}), "ACCESS_REFUSED - operation not permitted on the default exchange"),
    (lambda client: client.broker.state.exchange_bind("", "e", "", {}), "ACCESS_REFUSED - operation not permitted on the default exchange"),
    (lambda client: client.broker.state.exchange_bind("none", "e", "", {}), "NOT_FOUND - no exchange 'none' in vhost '/'"),
    (
        lambda client: client.broker.state.queue_bind(client, "q", "amq.headers", "", {"x-match": "most"}),
        'PRECONDITION_FAILED - Invalid x-match field value <<"most">>; expected all, any, all-with-x, or any-with-x',
    ),
    (
        lambda client: client.broker.state.queue_bind(client, "q", "amq.headers", "", {"x-match": 5}),
        "PRECONDITION_FAILED - Invalid x-match field type signedint (value 5); expected longstr",
    ),
    (lambda client: client.publish(b"", exchange="inside"), "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'"),
    (lambda client: client.delete(if_empty=True), "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"),
    (lambda client: client.delete("used", if_unused=True), "PRECONDITION_FAILED - queue 'used' in vhost '/' in use"),
    (lambda client: client.consume("used", "c"), "NOT_ALLOWED - attempt to reuse consumer tag 'c'"),
    (lambda client: client.consume("used", "d", exclusive=True), "ACCESS_REFUSED - queue 'used' in vhost '/' in exclusive use"),
    (lambda client: client.ack(7), "PRECONDITION_FAILED - unknown delivery tag 7"),
    (lambda client: client.ack(0), "PRECONDITION_FAILED - unknown delivery tag 0"),
    (lambda client: client.ack(7, multiple=True), "PRECONDITION_FAILED - unknown delivery tag 7"),
    (lambda client: client.nack(7), "PRECONDITION_FAILED - unknown delivery tag 7"),
    (lambda client: client.reject(7), "PRECONDITION_FAILED - unknown delivery tag 7"),
    (lambda client: client.broker.state.recover(client.channel, False, 1.0), "NOT_IMPLEMENTED - requeue=false"),
]

#: What RabbitMQ answers by ending the connection.
HARD = {"COMMAND_INVALID", "NOT_ALLOWED", "NOT_IMPLEMENTED"}


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_what_is_refused_is_refused_in_rabbitmqs_words(call: Callable[[Hand], object], said: str) -> None:
    client = PureBroker().channel()
    client.declare()
    client.declare("used")
    client.consume("used", "c")
    client.exchange("e")
    client.exchange("inside", internal=True)
    client.bind("q", "e")
    client.publish(b"ready")

    with pytest.raises(Refused) as caught:
        call(client)

    assert caught.value.text == said
    assert caught.value.hard is (said.split(" - ")[0] in HARD)


def test_what_is_not_there_can_be_deleted_unbound_and_cancelled() -> None:
    client = PureBroker().channel()
    client.declare()
    state = client.broker.state

    assert client.delete("none") == 0
    state.exchange_delete("none", if_unused=True)
    state.queue_unbind(client, "q", "amq.direct", "k", {})
    state.queue_unbind(client, "none", "amq.direct", "k", {})
    state.queue_unbind(client, "q", "none", "k", {})
    state.exchange_unbind("none", "amq.direct", "k", {})
    client.cancel("none")


def test_a_queue_without_a_name_is_given_one_that_nobody_can_guess() -> None:
    client = PureBroker().channel()

    names = {client.declare("").name for _ in range(3)}

    assert len(names) == 3
    assert {name[:8] for name in names} == {"amq.gen-"}
    assert {len(name) for name in names} == {30}


def test_a_queue_that_was_given_its_name_is_found_by_it_but_not_declared() -> None:
    client = PureBroker().channel()
    name = client.declare("").name

    assert client.passive(name).name == name
    with pytest.raises(Refused, match="contains reserved prefix"):
        client.declare(name)


def test_a_consumer_without_a_tag_is_given_one() -> None:
    client = PureBroker().channel()
    client.declare()

    assert client.consume()[:9] == "amq.ctag-"


def test_declaring_tells_what_is_ready_and_who_consumes() -> None:
    client = PureBroker().channel()
    client.declare()
    client.publish(b"", b"")
    assert client.declare() == client.passive("q") == ("q", 2, 0)

    client.consume()

    assert client.declare() == ("q", 0, 1)


def test_the_exchanges_of_the_broker_are_there_and_durable() -> None:
    client = PureBroker().channel()

    for name, kind in (("direct", "direct"), ("fanout", "fanout"), ("topic", "topic"), ("headers", "headers"), ("match", "headers")):
        client.exchange(f"amq.{name}", kind, durable=True)


# --- whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda other: other.declare(),
        lambda other: other.declare(exclusive=True),
        lambda other: other.passive("q"),
        lambda other: other.consume(),
        lambda other: other.get(),
        lambda other: other.purge(),
        lambda other: other.delete(),
        lambda other: other.bind("q", "amq.direct"),
        lambda other: other.broker.state.queue_unbind(other, "q", "amq.direct", "", {}),
    ],
)
def test_an_exclusive_queue_is_its_owners_alone(call: Callable[[Hand], object]) -> None:
    broker = PureBroker()
    broker.channel().declare(exclusive=True)

    with pytest.raises(Refused) as caught:
        call(broker.channel())

    assert caught.value.text == IN_USE_BY_ANOTHER


def test_an_exclusive_queue_takes_messages_from_everybody_and_ends_with_its_owner() -> None:
    broker = PureBroker()
    owner, other = broker.channel(), broker.channel()
    owner.declare(exclusive=True, durable=True)
    owner.declare(exclusive=True)  # durable means nothing then
    assert other.publish(b"")[0].routed

    owner.close()
    assert broker.exists("q")
    owner.leave()

    assert not broker.exists("q")
    assert not other.publish(b"")[0].routed


def test_an_exclusive_consumer_keeps_others_away() -> None:
    broker = PureBroker()
    first, second = broker.channel(), broker.channel()
    first.declare()
    first.consume(tag="c", exclusive=True)

    with pytest.raises(Refused, match="in exclusive use"):
        second.consume()
    first.cancel("c")
    second.consume()


def test_a_queue_with_a_single_active_consumer_takes_no_exclusive_one() -> None:
    client = PureBroker().channel()
    client.declare(x_single_active_consumer=True)

    with pytest.raises(Refused, match="in exclusive use"):
        client.consume(exclusive=True)


def test_nobody_asks_a_quorum_queue_with_a_single_active_consumer() -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_queue_type="quorum", x_single_active_consumer=True)

    with pytest.raises(Refused) as caught:
        client.get()

    assert caught.value.text == (
        "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. "
        "basic.get operations are not supported by quorum queues with single active consumer"
    )


def test_a_quorum_queue_does_not_know_a_prefetch_of_a_whole_channel() -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.prefetch(5, whole_channel=True)

    with pytest.raises(Refused) as caught:
        client.consume()

    assert caught.value.text == "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos"


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_deleting_a_queue_tells_its_consumers_and_its_bindings_end() -> None:
    broker = PureBroker()
    client, other = broker.channel(), broker.channel()
    client.declare()
    client.bind("q", "amq.fanout")
    client.prefetch(1)
    client.consume(tag="c")
    client.publish(b"a", b"b")

    assert other.delete() == 1

    assert client.cancelled == ["c"]
    assert not client.publish(b"", exchange="amq.fanout")[0].routed
    client.ack(1)
    assert (broker.state.messages, broker.state.memory) == (0, 0)


@pytest.mark.parametrize("settle", [lambda client: client.nack(1), lambda client: client.reject(1), lambda client: client.close()])
def test_what_was_unsettled_of_a_deleted_queue_is_gone_whatever_becomes_of_it(settle: Callable[[Hand], None]) -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    client.declare("dead")
    client.consume()
    client.publish(b"a", persistent=True)
    client.delete()
    client.declare(durable=True)

    settle(client)

    assert (client.broker.state.messages, client.broker.state.memory) == (0, 0)


def test_an_auto_delete_queue_ends_with_its_last_consumer_and_not_before_its_first() -> None:
    broker = PureBroker()
    first, second = broker.channel(), broker.channel()
    first.declare(auto_delete=True)
    first.consume(tag="c")
    second.consume()

    first.cancel("c")
    assert broker.exists("q")
    second.close()

    assert not broker.exists("q")


def test_an_auto_delete_exchange_ends_with_its_last_binding_and_so_on_down() -> None:
    client = PureBroker().channel()
    client.declare()
    client.exchange("e", auto_delete=True)
    client.exchange("f", auto_delete=True)
    client.broker.state.exchange_bind("f", "e", "", {})
    client.bind("q", "f")

    client.delete()

    for name in ("e", "f"):
        with pytest.raises(Refused, match=f"no exchange '{name}'"):
            client.publish(b"", exchange=name)


def test_an_auto_delete_exchange_ends_when_its_last_binding_is_undone_and_not_before() -> None:
    client = PureBroker().channel()
    client.declare()
    client.exchange("e", auto_delete=True)
    client.bind("q", "e", "one")
    client.bind("q", "e", "two")

    client.broker.state.queue_unbind(client, "q", "e", "one", {})
    assert client.publish(b"", exchange="e", key="two")[0].routed
    client.broker.state.queue_unbind(client, "q", "e", "two", {})

    with pytest.raises(Refused, match="no exchange 'e'"):
        client.publish(b"", exchange="e")


def test_purging_drops_what_is_ready_only() -> None:
    client = PureBroker().channel()
    client.declare()
    client.prefetch(1)
    client.consume()
    client.publish(b"a", b"b", b"c")

    assert client.purge() == 2

    client.nack(1)
    assert client.bodies() == [b"a", b"a"]


def test_a_channel_may_be_closed_twice() -> None:
    client = PureBroker().channel()
    client.declare()
    client.consume()
    client.publish(b"a")

    client.close()
    client.close()

    assert client.broker.ready() == 1


def test_a_refusal_knows_which_codes_end_the_connection() -> None:
    hard = {code.name for code in Code if Refused(code, "").hard}

    assert {code.name for code in Code} - hard == {
        "CONTENT_TOO_LARGE",
        "ACCESS_REFUSED",
        "NOT_FOUND",
        "RESOURCE_LOCKED",
        "PRECONDITION_FAILED",
    }
