"""py-amqp and kombu, which Celery stands on, work as they are."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import amqp
import pytest
from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed
from kombu import Connection as KombuConnection
from kombu import Message, Queue

from tests.contract.client import PATIENCE, unique
from tests.support.node import Node


@pytest.fixture
def connection(contract_broker: Node) -> Iterator[amqp.Connection]:
    with amqp.Connection(f"127.0.0.1:{contract_broker.port}", heartbeat=10, confirm_publish=True) as connection:
        yield connection


@pytest.fixture
def channel(connection: amqp.Connection) -> amqp.Channel:
    return connection.channel()


@pytest.fixture
def queue(channel: amqp.Channel) -> str:
    return str(channel.queue_declare(unique("queue"), exclusive=True).queue)


def drained(connection: amqp.Connection, found: list[amqp.Message], count: int) -> list[amqp.Message]:
    while len(found) < count:
        connection.drain_events(PATIENCE)
    return found


def test_messages_go_round(connection: amqp.Connection, channel: amqp.Channel, queue: str) -> None:
    found: list[amqp.Message] = []
    channel.basic_qos(0, 10, False)
    channel.basic_consume(queue, callback=found.append)
    for number in range(20):
        channel.basic_publish(amqp.Message(str(number), application_headers={"n": number}, delivery_mode=2), routing_key=queue)

    for message in drained(connection, found, 10):
        channel.basic_ack(message.delivery_tag)

    assert [(each.body, each.headers["n"]) for each in drained(connection, found, 20)] == [(str(n), n) for n in range(20)]


def test_messages_are_refused_got_and_purged(channel: amqp.Channel, queue: str) -> None:
    for body in ("0", "1", "2"):
        channel.basic_publish(amqp.Message(body), routing_key=queue)
    channel.basic_reject(channel.basic_get(queue).delivery_tag, requeue=True)

    again = channel.basic_get(queue)

    assert (again.body, again.delivery_info["redelivered"], again.delivery_info["message_count"]) == ("0", True, 2)
    assert channel.queue_purge(queue) == 2
    assert channel.basic_get(queue) is None


def test_exchanges_route(channel: amqp.Channel, queue: str) -> None:
    exchange = unique("exchange")
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    channel.queue_bind(queue, exchange, "a.#")

    channel.basic_publish(amqp.Message("0"), exchange=exchange, routing_key="a.b.c")

    assert channel.basic_get(queue, no_ack=True).delivery_info["routing_key"] == "a.b.c"


def test_what_cannot_be_routed_comes_back(connection: amqp.Connection, channel: amqp.Channel) -> None:
    returned: list[tuple[object, ...]] = []
    channel.events["basic_return"].add(lambda *arguments: returned.append(arguments))

    channel.basic_publish(amqp.Message("0"), routing_key=unique("nowhere"), mandatory=True)

    assert isinstance(returned[0][0], amqp.exceptions.ChannelError)
    assert connection.connected


def test_refusals_are_the_exceptions_they_should_be(connection: amqp.Connection, queue: str) -> None:
    with pytest.raises(NotFound):
        connection.channel().queue_declare(unique("nowhere"), passive=True)
    with pytest.raises(PreconditionFailed):
        connection.channel().queue_declare(queue, exclusive=True, arguments={"x-max-length": 3})
    with pytest.raises(AccessRefused):
        connection.channel().queue_declare("amq.mine")

    assert connection.channel().is_open


def test_heartbeats_are_spoken(contract_broker: Node) -> None:
    with amqp.Connection(f"127.0.0.1:{contract_broker.port}", heartbeat=1) as connection:
        for _ in range(12):  # for longer than the broker bears silence
            connection.heartbeat_tick()
            with contextlib.suppress(socket.timeout):
                connection.drain_events(0.3)

        assert connection.channel().is_open


def test_kombu_puts_and_gets(contract_broker: Node) -> None:
    fleeting = {"auto_delete": True}
    with (
        KombuConnection(contract_broker.url) as connection,
        connection.SimpleQueue(unique("queue"), queue_opts=fleeting, exchange_opts=fleeting) as simple,
    ):
        simple.put({"a": [1, 2, None]})

        message = simple.get(timeout=PATIENCE)
        message.ack()

        assert message.payload == {"a": [1, 2, None]}


def test_kombu_consumes_with_priorities_and_dead_letters(contract_broker: Node) -> None:
    dead = Queue(unique("queue"), exclusive=True)
    work = Queue(
        unique("queue"),
        exclusive=True,
        max_priority=5,
        queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name},
    )
    found: list[object] = []

    def on_message(body: object, message: Message) -> None:
        found.append(body)
        message.reject() if message.delivery_info["routing_key"] == work.name else message.ack()

    with KombuConnection(contract_broker.url) as connection:
        producer = connection.Producer(serializer="json")
        for priority in (1, 5, 3):
            producer.publish(priority, routing_key=work.name, priority=priority, declare=[dead, work], retry=True)
        with connection.Consumer([work, dead], callbacks=[on_message], prefetch_count=1):
            while len(found) < 6:
                connection.drain_events(timeout=PATIENCE)

    assert sorted(map(str, found)) == ["1", "1", "3", "3", "5", "5"]
