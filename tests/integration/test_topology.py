"""What is declared, and what is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from hopd.amqp import topology
from hopd.amqp.connection import Connection
from hopd.amqp.endpoint import Options, parse
from hopd.amqp.recovery import Backoff, Link
from hopd.amqp.topology import QueueSpec
from hopd.errors import BrokerRefused
from tests.support.node import Node
from tests.support.node_control import NodeControl


def soon() -> float:
    return monotonic() + 20.0


@pytest.fixture
def connection(broker: Node) -> Iterator[Connection]:
    link = Link([parse(broker.url)], Options(), backoff=Backoff())
    yield link.connection(soon())
    link.close(soon())


@contextmanager
def another(broker: Node) -> Iterator[BlockingChannel]:
    """A channel of somebody else's."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        yield connection.channel()


def assert_is(broker: Node, queue: str, durable: bool, arguments: dict[str, object]) -> None:
    """The broker has that queue, and just so: else it would refuse to have it declared so again."""
    with another(broker) as channel:
        channel.queue_declare(queue, passive=True)
        channel.queue_declare(queue, durable=durable, arguments=arguments)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event") and record.name.startswith("hopd.amqp.topology")]


@pytest.mark.parametrize(
    ("spec", "durable", "arguments"),
    [
        (QueueSpec(""), True, {}),
        (QueueSpec("", durable=False), False, {}),
        (QueueSpec("", arguments={"x-max-length": 5}), True, {"x-max-length": 5}),
        (QueueSpec("", queue_type="quorum"), True, {"x-queue-type": "quorum"}),
    ],
    ids=["durable", "transient", "arguments", "quorum"],
)
def test_a_queue_that_is_missing_is_declared_as_it_should_be(
    connection: Connection, broker: Node, topic_name: str, spec: QueueSpec, durable: bool, arguments: dict[str, object]
) -> None:
    topology.ensure_queue(connection, QueueSpec(topic_name, spec.durable, spec.queue_type, spec.arguments), soon())

    assert_is(broker, topic_name, durable, arguments)


def test_a_queue_that_is_there_is_left_as_it_is(
    connection: Connection, broker: Node, topic_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a queue
    topology.ensure_queue(connection, QueueSpec(topic_name, durable=False), soon())

    # When it is wanted otherwise
    topology.ensure_queue(connection, QueueSpec(topic_name, arguments={"x-max-length": 5}), soon())

    # Then it is what it was, and somebody is told in what it differs
    assert_is(broker, topic_name, False, {})
    assert events(caplog) == ["queue_differs"]
    assert "inequivalent arg" in caplog.text


def test_a_queue_that_is_as_wanted_is_no_news(connection: Connection, topic_name: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        topology.ensure_queue(connection, QueueSpec(topic_name, arguments={"x-max-length": 5}), soon())

    assert events(caplog) == []


def test_a_queue_that_nobody_may_declare_is_a_refusal(connection: Connection) -> None:
    with pytest.raises(BrokerRefused, match="403") as caught:
        topology.ensure_queue(connection, QueueSpec("amq.mine"), soon())

    assert caught.value.code == 403


def test_a_queue_that_another_has_for_itself_is_a_refusal(connection: Connection, broker: Node, topic_name: str) -> None:
    # Given a queue that belongs to somebody alone
    with another(broker) as channel:
        channel.queue_declare(topic_name, exclusive=True)

        # When it is wanted, then the broker's reason is given
        with pytest.raises(BrokerRefused, match="RESOURCE_LOCKED") as caught:
            topology.ensure_queue(connection, QueueSpec(topic_name), soon())
    assert caught.value.code == 405


def test_an_exchange_that_is_missing_is_declared(connection: Connection, exchange_name: str, topic_name: str) -> None:
    topology.ensure_exchange(connection, exchange_name, True, soon())

    topology.ensure_queue(connection, QueueSpec(topic_name), soon())
    topology.ensure_bound(connection, topic_name, exchange_name, soon())


def test_an_exchange_that_is_there_is_left_as_it_is(connection: Connection, exchange_name: str) -> None:
    topology.ensure_exchange(connection, exchange_name, False, soon())

    topology.ensure_exchange(connection, exchange_name, True, soon())


def test_the_default_exchange_needs_nothing(connection: Connection, topic_name: str) -> None:
    topology.ensure_exchange(connection, "", True, soon())
    topology.ensure_bound(connection, topic_name, "", soon())


def test_a_queue_cannot_be_bound_to_what_is_not_there(connection: Connection, topic_name: str) -> None:
    topology.ensure_queue(connection, QueueSpec(topic_name), soon())

    with pytest.raises(BrokerRefused, match="no exchange"):
        topology.ensure_bound(connection, topic_name, f"no-{topic_name}", soon())


def test_what_one_may_not_bind_is_used_as_it_is_bound(
    rabbitmq: NodeControl, topic_name: str, exchange_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a queue and an exchange, and a user who may only look
    ours = Link([parse(rabbitmq.url)], Options(), backoff=Backoff())
    connection = ours.connection(soon())
    topology.ensure_exchange(connection, exchange_name, True, soon())
    topology.ensure_queue(connection, QueueSpec(topic_name), soon())
    ours.close(soon())
    user = f"user-{topic_name}"
    rabbitmq.eval(f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"s3cret">>, <<"test">>)')
    rabbitmq.eval(f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"/">>, <<"^$">>, <<"^$">>, <<".*">>, <<"test">>)')
    link = Link([parse(rabbitmq.url.replace("guest:guest", f"{user}:s3cret"))], Options(), backoff=Backoff())

    # When they want the topic
    theirs = link.connection(soon())
    topology.ensure_exchange(theirs, exchange_name, True, soon())
    topology.ensure_queue(theirs, QueueSpec(topic_name), soon())
    topology.ensure_bound(theirs, topic_name, exchange_name, soon())
    link.close(soon())

    # Then it is used as it is, and what could not be done is told
    assert events(caplog) == ["bind_refused"]


def test_a_queue_tells_how_much_is_ready(connection: Connection, topic_name: str) -> None:
    topology.ensure_queue(connection, QueueSpec(topic_name), soon())

    assert topology.ready(connection, topic_name, soon()) == 0


def test_deleting_what_is_not_there_is_done(connection: Connection, topic_name: str) -> None:
    assert topology.delete_queue(connection, topic_name, soon()) == 0


def test_no_question_leaves_a_channel_behind(connection: Connection, topic_name: str) -> None:
    for _ in range(3):
        topology.ensure_queue(connection, QueueSpec(topic_name), soon())
    with pytest.raises(BrokerRefused):
        topology.ready(connection, f"no-{topic_name}", soon())

    assert connection._channels == {}
