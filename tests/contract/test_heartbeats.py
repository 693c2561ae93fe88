"""Heartbeats: both sides tell that they live, and the broker drops a client that does not."""

from __future__ import annotations

from pika import frame, spec

from tests.contract.client import Client, put, wait_ready
from tests.contract.wire import Wire


def test_the_broker_sends_heartbeats_as_often_as_was_agreed(wire: Wire) -> None:
    wire.open(heartbeat=1)

    assert isinstance(wire.read(), frame.Heartbeat)


def test_a_client_that_falls_silent_is_dropped_and_gives_everything_back(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0")
    wire.open(heartbeat=1)
    wire.send(1, spec.Basic.Get(queue=queue))
    wire.expect_message(spec.Basic.GetOk)

    while wire.read() is not None:
        pass

    wait_ready(client.channel, queue, 1)


def test_a_client_that_sends_heartbeats_is_kept(wire: Wire) -> None:
    wire.open(heartbeat=1)

    for _ in range(4):  # longer than silence is endured
        assert isinstance(wire.read(), frame.Heartbeat)
        wire.send_bytes(frame.Heartbeat().marshal())

    wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


def test_whatever_a_client_sends_is_a_sign_of_life(wire: Wire) -> None:
    wire.open(heartbeat=1)

    for _ in range(4):
        assert isinstance(wire.read(), frame.Heartbeat)
        wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


def test_a_heartbeat_may_come_where_none_were_agreed(wire: Wire) -> None:
    wire.open(heartbeat=0)

    wire.send_bytes(frame.Heartbeat().marshal())

    wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


def test_a_heartbeat_may_come_in_the_middle_of_a_message(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)

    wire.send(1, spec.Basic.Publish(routing_key=queue))
    wire.send_bytes(frame.Heartbeat().marshal())
    wire.send_bytes(frame.Header(1, 3, spec.BasicProperties()).marshal())
    wire.send_bytes(frame.Heartbeat().marshal())
    wire.send_bytes(frame.Body(1, b"abc").marshal())

    wire.expect(spec.Basic.Ack, 1)
