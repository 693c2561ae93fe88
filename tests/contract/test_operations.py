"""What operators and time do to a broker's clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pika import spec

from tests.contract.client import Client, hung_up, put, ready, take, wait_ready
from tests.contract.conftest import CONSUMER_TIMEOUT
from tests.contract.wire import Wire
from tests.support.node import OwnNode

#: A client that wants to hear of an alarm.
TOLD = {"connection.blocked": True}


@contextmanager
def alarmed(broker: OwnNode, resource: str) -> Iterator[None]:
    """The broker is short of something."""
    broker.set_alarm(resource)
    try:
        yield
    finally:
        broker.clear_alarm(resource)


@pytest.fixture
def client(own_broker: OwnNode) -> Iterator[Client]:
    with Client(own_broker.url) as client:
        yield client


@pytest.fixture
def wire(own_broker: OwnNode) -> Iterator[Wire]:
    with Wire(own_broker.port) as wire:
        yield wire


def test_a_delivery_that_is_not_settled_in_time_closes_its_channel(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0")
    wire.open().open_channel(2)
    wire.ask(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
    wire.expect_message(spec.Basic.Deliver)

    limit = f"{CONSUMER_TIMEOUT} ms. This timeout value can be configured, see consumers doc guide to learn more"
    text = f"PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: {limit}"
    wire.expect_channel_close(1, 406, text)

    wire.ask(2, spec.Basic.Qos(), spec.Basic.QosOk)
    wait_ready(client.channel, queue, 1)
    assert take(client.channel, queue).redelivered


# --- alarms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
def test_a_client_that_publishes_under_an_alarm_is_read_no_further(own_broker: OwnNode, client: Client, wire: Wire, told: bool) -> None:
    queue = client.queue(shared=True)
    wire.open(TOLD if told else None)
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)

    with alarmed(own_broker, "memory"):
        wire.publish(1, spec.Basic.Publish(routing_key=queue), b"0")
        wire.send(1, spec.Queue.Declare(queue=queue, passive=True))
        if told:
            assert wire.expect(spec.Connection.Blocked).reason == "low on memory"
        assert ready(client.channel, queue) == 0

    expected = {spec.Basic.Ack, spec.Queue.DeclareOk} | ({spec.Connection.Unblocked} if told else set())
    assert {type(wire.read().method) for _ in expected} == expected  # in no certain order
    assert ready(client.channel, queue) == 1


def test_a_client_is_told_when_it_publishes_and_not_before(own_broker: OwnNode, wire: Wire) -> None:
    wire.open(TOLD)
    wire.publish(1, spec.Basic.Publish(routing_key="nobody"), b"0")
    wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)

    with alarmed(own_broker, "disk"):
        wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)
        wire.publish(1, spec.Basic.Publish(routing_key="nobody"), b"1")
        assert wire.expect(spec.Connection.Blocked).reason == "low on disk"

    wire.expect(spec.Connection.Unblocked)


def test_who_only_consumes_notices_no_alarm(own_broker: OwnNode, client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0", b"1")

    with alarmed(own_broker, "memory"):
        wire.open(TOLD)
        wire.ask(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
        wire.ask(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
        for tag in (1, 2):
            assert wire.expect_message(spec.Basic.Deliver).method.delivery_tag == tag
            wire.send(1, spec.Basic.Ack(tag))
        wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


# --- ends -------------------------------------------------------------------------------------------


def test_an_operator_closes_connections_with_a_reason(own_broker: OwnNode, client: Client) -> None:
    with hung_up(client.channel, 320, "CONNECTION_FORCED - for a test"):
        own_broker.close_all_connections("for a test")
