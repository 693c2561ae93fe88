"""What is declared, and what is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest

from hopd.amqp import topology
from hopd.amqp.connection import Connection
from hopd.amqp.endpoint import Options, parse
from hopd.amqp.recovery import Backoff, Link
from hopd.amqp.topology import QueueSpec
from hopd.demo.node_control import NodeControl
from hopd.errors import BrokerRefused


def soon() -> float:
    return monotonic() + 20.0


@pytest.fixture
def connection(broker: NodeControl) -> Iterator[Connection]:
    link = Link([parse(broker.url)], Options(), backoff=Backoff())
    yield link.connection(soon())
    link.close(soon())


def about(broker: NodeControl, queue: str) -> str:
    """How the broker has a queue: durable or not, and its arguments."""
    find = f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>))'
    return broker.eval(f"begin {find}, rabbit_amqqueue:info(Q, [durable, arguments]) end")


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event") and record.name.startswith("hopd.amqp.topology")]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (QueueSpec(""), "[{durable,true},{arguments,[]}]"),
        (QueueSpec("", durable=False), "[{durable,false},{arguments,[]}]"),
        (QueueSpec("", arguments={"x-max-length": 5}), '[{durable,true},{arguments,[{<<"x-max-length">>,signedint,5}]}]'),
        (QueueSpec("", queue_type="quorum"), '[{durable,true},{arguments,[{<<"x-queue-type">>,longstr,<<"quorum">>}]}]'),
    ],
    ids=["durable", "transient", "arguments", "quorum"],
)
def test_a_queue_that_is_missing_is_declared_as_it_should_be(
    connection: Connection, broker: NodeControl, topic_name: str, spec: QueueSpec, found: str
) -> None:
    topology.ensure_queue(connection, QueueSpec(topic_name, spec.durable, spec.queue_type, spec.arguments), soon())

    assert about(broker, topic_name) == found


def test_a_queue_that_is_there_is_left_as_it_is(
    connection: Connection, broker: NodeControl, topic_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a queue
    topology.ensure_queue(connection, QueueSpec(topic_name, durable=False), soon())

    # When it is wanted otherwise
    topology.ensure_queue(connection, QueueSpec(topic_name, arguments={"x-max-length": 5}), soon())

    # Then it is what it was, and somebody is told in what it differs
    assert about(broker, topic_name) == "[{durable,false},{arguments,[]}]"
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


def test_a_queue_that_another_has_for_itself_is_a_refusal(connection: Connection, broker: NodeControl, topic_name: str) -> None:
    # Given a queue that belongs to somebody alone
    owner = "erlang:whereis(rabbit)"
    broker.eval(f'rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"{topic_name}">>), false, false, [], {owner}, <<"test">>)')

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
    connection: Connection, broker: NodeControl, topic_name: str, exchange_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a queue and an exchange, and a user who may only look
    topology.ensure_exchange(connection, exchange_name, True, soon())
    topology.ensure_queue(connection, QueueSpec(topic_name), soon())
    user = f"user-{topic_name}"
    broker.eval(f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"s3cret">>, <<"test">>)')
    broker.eval(f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"/">>, <<"^$">>, <<"^$">>, <<".*">>, <<"test">>)')
    link = Link([parse(broker.url.replace("guest:guest", f"{user}:s3cret"))], Options(), backoff=Backoff())

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
