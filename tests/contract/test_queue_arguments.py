"""A queue's arguments: which values they may have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.client import Client, refused, unique

A_NUMBER = '"expected integer, got {}"'
NO_SUCH_TYPE = "{{unacceptable_type,{}}}"

WRONG = [
    *((name, "five", A_NUMBER.format("longstr")) for name in ("x-message-ttl", "x-expires", "x-max-length", "x-max-priority")),
    *((name, True, A_NUMBER.format("bool")) for name in ("x-message-ttl", "x-max-length-bytes")),
    *((name, -1, "{value_negative,-1}") for name in ("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority")),
    ("x-expires", 0, "{value_zero,0}"),
    ("x-message-ttl", 315_360_000_001, "{value_too_large,315360000001}"),
    ("x-expires", 315_360_000_001, "{value_too_large,315360000001}"),
    ("x-max-priority", 256, "{max_value_exceeded,256}"),
    ("x-overflow", "sideways", "invalid_overflow"),
    ("x-overflow", 5, NO_SUCH_TYPE.format("signedint")),
    ("x-queue-type", "sideways", "\"unsupported queue type 'sideways'\""),
    ("x-queue-type", 5, NO_SUCH_TYPE.format("signedint")),
    ("x-single-active-consumer", "yes", NO_SUCH_TYPE.format("longstr")),
    ("x-single-active-consumer", 1, NO_SUCH_TYPE.format("signedint")),
    ("x-queue-mode", "sideways", "\"unsupported queue mode 'sideways'\""),
    ("x-queue-version", 3, "\"unsupported queue version '3'\""),
    ("x-queue-version", "2", A_NUMBER.format("longstr")),
    ("x-dead-letter-routing-key", "key", "routing_key_but_no_dlx_defined"),
]


@pytest.mark.parametrize(("argument", "value", "why"), WRONG)
def test_a_value_that_an_argument_cannot_have_is_refused(client: Client, argument: str, value: Any, why: str) -> None:
    channel, name = client.open(), unique("queue")

    with refused(channel, 406, f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/': {why}"):
        channel.queue_declare(name, exclusive=True, arguments={argument: value})


def test_a_dead_letter_exchange_has_a_name(client: Client) -> None:
    channel, name = client.open(), unique("queue")

    text = f"PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{name}' in vhost '/'"
    with refused(channel, 406, text):
        channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": 5})


def test_a_dead_letter_key_is_a_text(client: Client) -> None:
    channel, name = client.open(), unique("queue")

    text = f"'x-dead-letter-routing-key' for queue '{name}' in vhost '/': {{unacceptable_type,signedint}}"
    with refused(channel, 406, f"PRECONDITION_FAILED - invalid arg {text}"):
        channel.queue_declare(name, exclusive=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 5})


@pytest.mark.parametrize("argument", ["x-delivery-limit", "x-dead-letter-strategy"])
def test_what_only_quorum_queues_can_do_a_classic_queue_refuses(client: Client, argument: str) -> None:
    channel, name = client.open(), unique("queue")

    text = f"'{argument}' for queue '{name}' in vhost '/' of queue type rabbit_classic_queue"
    with refused(channel, 406, f"PRECONDITION_FAILED - invalid arg {text}"):
        channel.queue_declare(name, exclusive=True, arguments={argument: 3 if argument == "x-delivery-limit" else "at-most-once"})


@pytest.mark.parametrize(("argument", "value"), [("x-max-priority", 2), ("x-queue-mode", "lazy"), ("x-queue-version", 2)])
def test_what_only_classic_queues_can_do_a_quorum_queue_refuses(client: Client, argument: str, value: Any) -> None:
    channel, name = client.open(), unique("queue")

    text = f"'{argument}' for queue '{name}' in vhost '/' of queue type rabbit_quorum_queue"
    with refused(channel, 406, f"PRECONDITION_FAILED - invalid arg {text}"):
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", argument: value})


def test_a_dead_letter_strategy_is_one_of_two(client: Client) -> None:
    channel, name = client.open(), unique("queue")

    text = f"'x-dead-letter-strategy' for queue '{name}' in vhost '/': invalid_dlx_strategy"
    with refused(channel, 406, f"PRECONDITION_FAILED - invalid arg {text}"):
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", "x-dead-letter-strategy": "sideways"})


RIGHT = [
    {"x-message-ttl": 0},
    {"x-message-ttl": 315_360_000_000},
    {"x-expires": 60_000},
    {"x-max-length": 0},
    {"x-max-priority": 255},
    {"x-overflow": "drop-head"},
    {"x-overflow": "reject-publish"},
    {"x-overflow": "reject-publish-dlx"},
    {"x-single-active-consumer": False},
    {"x-queue-mode": "lazy"},
    {"x-queue-mode": "default"},
    {"x-queue-version": 2},
    {"x-queue-type": "classic"},
    {"x-dead-letter-exchange": "nowhere", "x-dead-letter-routing-key": "key"},
    {"x-whatever": "anything", "more": [1, {"deep": None}]},
]


@pytest.mark.parametrize("arguments", RIGHT)
def test_a_value_that_an_argument_can_have_is_taken(client: Client, arguments: dict[str, Any]) -> None:
    client.queue(arguments)
    client.queue(arguments)


@pytest.mark.parametrize("arguments", [{"x-delivery-limit": 3}, {"x-dead-letter-strategy": "at-least-once"}, {"x-max-length": 3}])
def test_a_quorum_queue_takes_what_it_can_do(client: Client, arguments: dict[str, Any]) -> None:
    client.quorum_queue(arguments)
