"""What the broker says to wrong arguments, and to declaring again: RabbitMQ 3.10's own words, taken from a node of it."""

from __future__ import annotations

from typing import Any

import pytest

from hopd.broker.refusal import Code, Refused
from tests.support.pure_broker import PureBroker

WRONG = [
    ({"x-expires": 0}, "invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}"),
    ({"x-expires": -1}, "invalid arg 'x-expires' for queue 'q' in vhost '/': {value_negative,-1}"),
    ({"x-expires": "a"}, "invalid arg 'x-expires' for queue 'q' in vhost '/': \"expected integer, got longstr\""),
    ({"x-expires": True}, "invalid arg 'x-expires' for queue 'q' in vhost '/': \"expected integer, got bool\""),
    ({"x-expires": 400000000000}, "invalid arg 'x-expires' for queue 'q' in vhost '/': {value_too_large,400000000000}"),
    ({"x-message-ttl": -1}, "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}"),
    ({"x-message-ttl": None}, "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': \"expected integer, got void\""),
    ({"x-dead-letter-exchange": 5}, "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"),
    (
        {"x-dead-letter-routing-key": "k"},
        "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': routing_key_but_no_dlx_defined",
    ),
    (
        {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 5},
        "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': {unacceptable_type,signedint}",
    ),
    (
        {"x-dead-letter-strategy": "at-least-once"},
        "invalid arg 'x-dead-letter-strategy' for queue 'q' in vhost '/' of queue type rabbit_classic_queue",
    ),
    ({"x-max-length": "3"}, "invalid arg 'x-max-length' for queue 'q' in vhost '/': \"expected integer, got longstr\""),
    ({"x-max-length-bytes": [1]}, "invalid arg 'x-max-length-bytes' for queue 'q' in vhost '/': \"expected integer, got array\""),
    ({"x-max-priority": 256}, "invalid arg 'x-max-priority' for queue 'q' in vhost '/': {max_value_exceeded,256}"),
    ({"x-overflow": "foo"}, "invalid arg 'x-overflow' for queue 'q' in vhost '/': invalid_overflow"),
    ({"x-overflow": 3}, "invalid arg 'x-overflow' for queue 'q' in vhost '/': {unacceptable_type,signedint}"),
    ({"x-queue-mode": "foo"}, "invalid arg 'x-queue-mode' for queue 'q' in vhost '/': \"unsupported queue mode 'foo'\""),
    ({"x-queue-version": 3}, "invalid arg 'x-queue-version' for queue 'q' in vhost '/': \"unsupported queue version '3'\""),
    ({"x-single-active-consumer": 1}, "invalid arg 'x-single-active-consumer' for queue 'q' in vhost '/': {unacceptable_type,signedint}"),
    ({"x-queue-type": "foo"}, "invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'foo'\""),
    ({"x-queue-type": 7}, "invalid arg 'x-queue-type' for queue 'q' in vhost '/': {unacceptable_type,signedint}"),
    ({"x-delivery-limit": 3}, "invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"),
    ({"x-max-age": "1h"}, "invalid arg 'x-max-age' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"),
    (
        {"x-queue-type": "quorum", "x-max-priority": 3},
        "invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue",
    ),
    (
        {"x-queue-type": "quorum", "x-dead-letter-strategy": "foo"},
        "invalid arg 'x-dead-letter-strategy' for queue 'q' in vhost '/': invalid_dlx_strategy",
    ),
    (
        {"x-queue-type": "quorum", "x-quorum-initial-group-size": 0},
        "invalid arg 'x-quorum-initial-group-size' for queue 'q' in vhost '/': {value_zero,0}",
    ),
]

RIGHT: list[dict[str, Any]] = [
    {},
    {"x-expires": 1},
    {"x-message-ttl": 0},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"},
    {"x-max-length": 0, "x-max-length-bytes": 10**12},
    {"x-max-priority": 255},
    {"x-overflow": "reject-publish-dlx"},
    {"x-queue-mode": "lazy", "x-queue-version": 2, "x-queue-type": "classic", "x-queue-master-locator": "min-masters"},
    {"x-something-of-a-plugin": {"a": [1]}},
    {"x-queue-type": "quorum", "x-delivery-limit": 3, "x-dead-letter-strategy": "at-least-once", "x-single-active-consumer": True},
    {"x-queue-type": "quorum", "x-delivery-limit": "many"},
]

OTHERWISE = [
    ({}, {"x-max-length": 5}, "'x-max-length' for queue 'q' in vhost '/': received the value '5' of type 'signedint' but current is none"),
    ({"x-max-length": 5}, {}, "'x-max-length' for queue 'q' in vhost '/': received none but current is the value '5' of type 'signedint'"),
    (
        {"x-max-length": 5 * 10**9},
        {},
        "'x-max-length' for queue 'q' in vhost '/': received none but current is the value '5000000000' of type 'long'",
    ),
    ({"x-max-length": 5}, {"x-max-length": 6}, "'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'"),
    (
        {"x-single-active-consumer": True},
        {"x-single-active-consumer": False},
        "'x-single-active-consumer' for queue 'q' in vhost '/': received 'false' but current is 'true'",
    ),
    (
        {},
        {"x-queue-type": "quorum"},
        "'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of type 'longstr' but current is none",
    ),
]

THE_SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"x-max-length": 5}, {"x-max-length": 5}),
    ({"x-queue-type": "classic"}, {}),
    ({}, {"x-queue-type": "classic"}),
    ({"x-something": 1}, {"x-something": 2}),
]


def refused(*declared: dict[str, Any], durable: bool = True, exclusive: bool = False, auto_delete: bool = False) -> str | None:
    """What is said to the last of these arguments of the same queue."""
    client = PureBroker().channel()
    properties = {"durable": durable, "exclusive": exclusive, "auto_delete": auto_delete}
    for arguments in declared[:-1]:
        client.broker.state.queue_declare(client, "q", passive=False, **properties, arguments=arguments, now=1.0)
    try:
        client.broker.state.queue_declare(client, "q", passive=False, **properties, arguments=declared[-1], now=1.0)
    except Refused as error:
        return error.text.removeprefix("PRECONDITION_FAILED - ")
    return None


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_a_wrong_argument_is_refused_in_rabbitmqs_words(arguments: dict[str, Any], said: str) -> None:
    assert refused(arguments) == said


@pytest.mark.parametrize("arguments", RIGHT)
def test_a_right_argument_is_taken_and_one_that_nobody_knows(arguments: dict[str, Any]) -> None:
    assert refused(arguments) is None


@pytest.mark.parametrize(("first", "then", "said"), OTHERWISE)
def test_declaring_again_with_other_arguments_is_refused_in_rabbitmqs_words(first: dict[str, Any], then: dict[str, Any], said: str) -> None:
    assert refused(first, then) == f"inequivalent arg {said}"


@pytest.mark.parametrize(("first", "then"), THE_SAME)
def test_declaring_again_with_what_means_the_same_is_taken(first: dict[str, Any], then: dict[str, Any]) -> None:
    assert refused(first, then) is None


@pytest.mark.parametrize(
    ("properties", "what"),
    [({"durable": False}, "non-durable"), ({"auto_delete": True}, "auto-delete"), ({"exclusive": True}, "exclusive-owner")],
)
def test_a_quorum_queue_is_durable_and_nobodys(properties: dict[str, bool], what: str) -> None:
    assert refused({"x-queue-type": "quorum"}, **properties) == f"invalid property '{what}' for queue 'q' in vhost '/'"


def test_a_quorum_queue_has_a_name() -> None:
    client = PureBroker().channel()

    with pytest.raises(Refused, match="Cannot declare a server-named queue for type rabbit_quorum_queue"):
        client.declare("", durable=True, x_queue_type="quorum")


def test_a_stream_is_refused_as_not_implemented() -> None:
    client = PureBroker().channel()

    with pytest.raises(Refused) as caught:
        client.declare(durable=True, x_queue_type="stream")

    assert (caught.value.code, caught.value.hard) == (Code.NOT_IMPLEMENTED, True)


def test_a_text_that_is_too_long_for_the_wire_is_cut_as_rabbitmq_cuts_it() -> None:
    too_long = Refused(Code.NOT_FOUND, "\u00fc" * 200)

    assert len(too_long.text.encode()) <= 255
    assert too_long.text.endswith("\u00fc...")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"x-priority": "high"}, "invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\""),
        (
            {"x-cancel-on-ha-failover": 5},
            "invalid arg 'x-cancel-on-ha-failover' for queue 'q' in vhost '/': {unacceptable_type,signedint}",
        ),
    ],
)
def test_a_wrong_argument_of_a_consumer_is_refused_and_there_is_no_consumer(arguments: dict[str, Any], said: str) -> None:
    client = PureBroker().channel()
    client.declare()

    with pytest.raises(Refused) as caught:
        client.consume(**{name.replace("-", "_"): value for name, value in arguments.items()})

    assert caught.value.text == f"PRECONDITION_FAILED - {said}"
    assert client.declare().consumers == 0
