"""What a client does not want to wait for is done without an answer; a refusal is told all the same."""

from __future__ import annotations

from pika import spec

from tests.contract.client import Client, consumers, get_all, publish, put, ready, unique, wait_ready
from tests.contract.wire import Wire


def synced(wire: Wire) -> None:
    """Everything that was sent is done, and nothing but this was answered."""
    wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


def test_declaring_and_binding(client: Client, wire: Wire) -> None:
    queue, exchange, second = client.queue(shared=True), client.exchange(), unique("queue")
    wire.open()

    wire.send(1, spec.Queue.Declare(queue=second, auto_delete=True, nowait=True))
    wire.send(1, spec.Exchange.Declare(exchange=exchange, type="direct", nowait=True))
    wire.send(1, spec.Queue.Bind(queue=queue, exchange=exchange, routing_key="key", nowait=True))
    wire.send(1, spec.Exchange.Bind(destination=exchange, source="amq.direct", routing_key=exchange, nowait=True))
    synced(wire)

    publish(client.channel, exchange, "key", b"0")
    assert ready(client.channel, second) == 0
    assert get_all(client.channel, queue) == [b"0"]
    client.channel.queue_delete(second)


def test_undoing_it(client: Client, wire: Wire) -> None:
    exchange, source = client.exchange("fanout"), client.exchange("fanout")
    queue = client.queue(shared=True)
    client.channel.exchange_bind(exchange, source)
    put(client.channel, queue, b"0")
    wire.open()

    wire.send(1, spec.Exchange.Unbind(destination=exchange, source=source, nowait=True))
    wire.send(1, spec.Queue.Purge(queue=queue, nowait=True))
    synced(wire)
    assert ready(client.channel, queue) == 0

    wire.send(1, spec.Queue.Delete(queue=queue, nowait=True), spec.Exchange.Delete(exchange=exchange, nowait=True))
    synced(wire)
    wire.send(1, spec.Queue.Declare(queue=queue, passive=True))
    wire.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")


def test_consuming_and_cancelling(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.send(1, spec.Basic.Consume(queue=queue, consumer_tag="mine", nowait=True))
    synced(wire)
    put(client.channel, queue, b"0")
    assert wire.expect_message(spec.Basic.Deliver).method.consumer_tag == "mine"

    wire.send(1, spec.Basic.Cancel("mine", nowait=True))
    synced(wire)

    assert consumers(client.channel, queue) == 0


def test_choosing_confirms(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()

    wire.send(1, spec.Confirm.Select(nowait=True))
    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"0")

    assert wire.expect(spec.Basic.Ack, 1).delivery_tag == 1


def test_recovering_the_old_way(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0")
    wire.open()
    wire.send(1, spec.Basic.Get(queue=queue))
    wire.expect_message(spec.Basic.GetOk)

    wire.send(1, spec.Basic.RecoverAsync(requeue=True))
    synced(wire)

    wait_ready(client.channel, queue, 1)


def test_a_refusal_is_told(wire: Wire) -> None:
    wire.open()
    nowhere = unique("nowhere")

    wire.send(1, spec.Queue.Purge(queue=nowhere, nowait=True))

    wire.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{nowhere}' in vhost '/'")


def test_the_queue_declared_last_is_known_without_an_answer(client: Client, wire: Wire) -> None:
    name = unique("queue")
    wire.open()

    wire.send(1, spec.Queue.Declare(queue=name, auto_delete=True, nowait=True))

    assert wire.ask(1, spec.Queue.Delete(queue=""), spec.Queue.DeleteOk).message_count == 0
    assert client.channel.is_open
