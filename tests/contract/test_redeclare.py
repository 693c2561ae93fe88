"""What is declared again must be what it is: the differences that are refused, in the broker's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.client import Channel, Client, refused

Arguments = Mapping[str, Any]

# --- queues -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["durable", "auto_delete"])
@pytest.mark.parametrize("before", [False, True])
def test_a_queue_keeps_its_options(client: Client, option: str, before: bool) -> None:
    options: dict[str, Any] = {option: before}
    queue, channel = client.queue(shared=True, **options), client.open()

    text = f"'{option}' for queue '{queue}' in vhost '/': received '{_word(not before)}' but current is '{_word(before)}'"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.queue_declare(queue, **{option: not before})


CHANGED = [
    ({"x-message-ttl": 50000}, {"x-message-ttl": 60000}),
    ({"x-expires": 50000}, {"x-expires": 60000}),
    ({"x-max-length": 5}, {"x-max-length": 6}),
    ({"x-max-length-bytes": 5}, {"x-max-length-bytes": 6}),
    ({"x-max-priority": 5}, {"x-max-priority": 6}),
    ({"x-dead-letter-exchange": "a"}, {"x-dead-letter-exchange": "b"}),
    ({"x-overflow": "reject-publish"}, {"x-overflow": "drop-head"}),
    ({"x-single-active-consumer": True}, {"x-single-active-consumer": False}),
    ({"x-queue-version": 1}, {"x-queue-version": 2}),
    ({"x-max-length": 5}, {"x-max-length": "five"}),
]


@pytest.mark.parametrize(("before", "after"), CHANGED)
def test_a_queue_keeps_its_arguments(client: Client, before: Arguments, after: Arguments) -> None:
    queue, channel = client.queue(before), client.open()

    ((name, old),), ((_, new),) = before.items(), after.items()
    text = f"'{name}' for queue '{queue}' in vhost '/': received '{_word(new)}' but current is '{_word(old)}'"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.queue_declare(queue, exclusive=True, arguments=after)


TYPED = [
    ({"x-message-ttl": 50000}, "the value '50000' of type 'signedint'"),
    ({"x-max-length": 2**33}, "the value '8589934592' of type 'long'"),
    ({"x-dead-letter-exchange": "a"}, "the value 'a' of type 'longstr'"),
    ({"x-overflow": "drop-head"}, "the value 'drop-head' of type 'longstr'"),
    ({"x-single-active-consumer": False}, "the value 'false' of type 'bool'"),
    ({"x-queue-mode": "lazy"}, "the value 'lazy' of type 'longstr'"),
]


@pytest.mark.parametrize(("arguments", "words"), TYPED)
def test_an_argument_that_is_new_is_refused(client: Client, arguments: Arguments, words: str) -> None:
    queue, channel, (name,) = client.queue(), client.open(), arguments

    text = f"'{name}' for queue '{queue}' in vhost '/': received {words} but current is none"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.queue_declare(queue, exclusive=True, arguments=arguments)


@pytest.mark.parametrize(("arguments", "words"), TYPED)
def test_an_argument_that_is_left_out_is_refused(client: Client, arguments: Arguments, words: str) -> None:
    queue, channel, (name,) = client.queue(arguments), client.open(), arguments

    text = f"'{name}' for queue '{queue}' in vhost '/': received none but current is {words}"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.queue_declare(queue, exclusive=True)


def test_a_queue_keeps_its_type(client: Client) -> None:
    queue, channel = client.quorum_queue(), client.open()

    text = f"'x-queue-type' for queue '{queue}' in vhost '/': received none but current is the value 'quorum' of type 'longstr'"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.queue_declare(queue, durable=True)


def test_a_queue_keeps_its_delivery_limit(client: Client) -> None:
    queue, channel = client.quorum_queue({"x-delivery-limit": 2}), client.open()

    text = f"'x-delivery-limit' for queue '{queue}' in vhost '/': received '3' but current is '2'"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})


@pytest.mark.parametrize("arguments", [{}, {"x-queue-type": "classic"}])
def test_classic_is_what_a_queue_is_when_nothing_is_said(client: Client, channel: Channel, arguments: Arguments) -> None:
    queue = client.queue(arguments)

    channel.queue_declare(queue, exclusive=True)
    channel.queue_declare(queue, exclusive=True, arguments={"x-queue-type": "classic"})


def test_arguments_that_mean_nothing_to_the_broker_are_not_compared(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-whatever": 1})

    channel.queue_declare(queue, exclusive=True, arguments={"x-whatever": 2, "x-more": 3})


def test_options_are_compared_before_arguments(client: Client) -> None:
    queue, channel = client.queue(shared=True, durable=True), client.open()

    text = f"'durable' for queue '{queue}' in vhost '/': received 'false' but current is 'true'"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.queue_declare(queue, arguments={"x-max-length": 5})


# --- exchanges --------------------------------------------------------------------------------------


def test_an_exchange_keeps_its_type(client: Client) -> None:
    exchange, channel = client.exchange("direct"), client.open()

    text = f"'type' for exchange '{exchange}' in vhost '/': received 'topic' but current is 'direct'"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.exchange_declare(exchange, "topic")


@pytest.mark.parametrize("option", ["durable", "auto_delete", "internal"])
@pytest.mark.parametrize("before", [False, True])
def test_an_exchange_keeps_its_options(client: Client, option: str, before: bool) -> None:
    options: dict[str, Any] = {option: before}
    exchange, channel = client.exchange(**options), client.open()

    text = f"'{option}' for exchange '{exchange}' in vhost '/': received '{_word(not before)}' but current is '{_word(before)}'"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.exchange_declare(exchange, "direct", **{option: not before})


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("a", "b", "received 'b' but current is 'a'"),
        (None, "a", "received the value 'a' of type 'longstr' but current is none"),
        ("a", None, "received none but current is the value 'a' of type 'longstr'"),
    ],
)
def test_an_exchange_keeps_its_alternate(client: Client, before: str | None, after: str | None, words: str) -> None:
    exchange, channel = client.exchange(arguments=_alternate(before)), client.open()

    text = f"'alternate-exchange' for exchange '{exchange}' in vhost '/': {words}"
    with refused(channel, 406, f"PRECONDITION_FAILED - inequivalent arg {text}"):
        channel.exchange_declare(exchange, "direct", arguments=_alternate(after))


def test_an_exchanges_other_arguments_are_not_compared(client: Client, channel: Channel) -> None:
    exchange = client.exchange(arguments={"x-whatever": 1})

    channel.exchange_declare(exchange, "direct", arguments={"x-whatever": 2})


def test_the_exchanges_that_are_always_there_may_be_declared_as_they_are(channel: Channel) -> None:
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(f"amq.{kind}", kind, durable=True)
    channel.exchange_declare("amq.match", "headers", durable=True)


def _alternate(name: str | None) -> dict[str, str]:
    return {} if name is None else {"alternate-exchange": name}


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
