"""Our adapter on a real broker, over networks good and bad: frames arrive as they were sent, and every end is noticed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing
from queue import Queue
from time import monotonic

import pytest

from hopd import WorkQueue
from hopd.amqp import frames, topology
from hopd.amqp.connection import HEARTBEAT_GRACE, Connection
from hopd.amqp.endpoint import Options, parse
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, encode
from hopd.amqp.publisher import Publisher
from hopd.amqp.recovery import Backoff, Link
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.errors import BrokerRefused, BrokerTimeout, ChannelLost
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.node_control import NodeControl, QueueDepth
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


def soon(seconds: float = 20.0) -> float:
    return monotonic() + seconds


def open_link(url: str, *, heartbeat: float = 60.0, name: str = "hopd") -> Link:
    return Link([parse(url)], Options(name=name, heartbeat=heartbeat), backoff=Backoff(cap=0.2))


@pytest.fixture
def link(broker: Node) -> Iterator[Link]:
    link = open_link(broker.url)
    yield link
    link.close(soon())


@pytest.fixture
def connection(link: Link) -> Connection:
    return link.connection(soon())


@pytest.fixture
def filled(link: Link, connection: Connection, topic_name: str) -> str:
    """The name of a queue with three messages."""
    topology.ensure_queue(connection, QueueSpec(topic_name), soon())
    with closing(Publisher(link)) as publisher:
        publisher.publish_many((Outgoing("", topic_name, encode(Properties()), str(number).encode()) for number in (1, 2, 3)), 20.0)
    return topic_name


# --- channels -----------------------------------------------------------------------------------


def test_a_connection_knows_its_brokers_version(connection: Connection) -> None:
    assert connection.server_version >= (3,)


def test_deliveries_come_in_order_and_no_more_than_the_prefetch(connection: Connection, filled: str) -> None:
    # Given a channel that takes two at a time
    arrived: Queue[Delivery] = Queue()
    channel = connection.channel(soon(), ack_window=0.0)
    channel.qos(2, soon())

    # When it consumes, and settles the first
    channel.consume(filled, "c", arrived.put, soon())
    first, second = arrived.get(timeout=20), arrived.get(timeout=20)
    none_more = arrived.empty()
    first.settlement.ack(first.tag)

    # Then the third comes
    third = arrived.get(timeout=20)
    assert [delivery.body for delivery in (first, second, third)] == [b"1", b"2", b"3"]
    assert none_more
    assert (first.consumer_tag, first.exchange, first.routing_key) == ("c", "", filled)


def test_after_a_cancel_nothing_more_is_delivered(connection: Connection, filled: str, broker: Node) -> None:
    # Given a consumer that has one of three
    arrived: Queue[Delivery] = Queue()
    channel = connection.channel(soon(), ack_window=0.0)
    channel.qos(1, soon())
    channel.consume(filled, "c", arrived.put, soon())
    delivery = arrived.get(timeout=20)

    # When it is cancelled, and then settles
    channel.cancel("c", soon())
    delivery.settlement.ack(delivery.tag)
    wait_until(lambda: broker.list_queues()[filled] == QueueDepth(2, 0, 0))

    # Then it has not got another
    assert arrived.empty()


def test_a_channel_that_is_closed_returns_what_is_unsettled_and_keeps_what_is_not(
    connection: Connection, filled: str, broker: Node
) -> None:
    # Given three deliveries, one of which is settled just before the channel is closed
    arrived: Queue[Delivery] = Queue()
    channel = connection.channel(soon(), ack_window=60.0)
    channel.consume(filled, "c", arrived.put, soon())
    deliveries = [arrived.get(timeout=20) for _ in range(3)]
    deliveries[1].settlement.ack(deliveries[1].tag)

    # When it is closed, then the broker has heard of that one
    channel.close(soon())
    assert broker.list_queues()[filled] == QueueDepth(2, 0, 0)


def test_a_channel_that_the_broker_closes_is_lost_alone(connection: Connection) -> None:
    # Given two channels, one of which breaks a rule: it settles what it never got
    wrong, right = (connection.channel(soon(), ack_window=0.0) for _ in range(2))
    lost: Queue[Exception] = Queue()
    wrong.on_lost(lost.put)
    with connection.lock:
        connection.send(frames.ack(wrong.number, 7, False))

    # When the broker closes it
    reason = lost.get(timeout=20)

    # Then it says why, and the other goes on
    assert isinstance(reason, BrokerRefused)
    assert (reason.code, "unknown delivery tag 7" in str(reason)) == (406, True)
    right.qos(1, soon())


def test_a_channel_whose_queue_is_deleted_is_lost(connection: Connection, filled: str) -> None:
    # Given a consumer
    channel = connection.channel(soon(), ack_window=0.0)
    lost: Queue[Exception] = Queue()
    channel.on_lost(lost.put)
    channel.consume(filled, "c", lambda _delivery: None, soon())

    # When its queue is deleted
    topology.delete_queue(connection, filled, soon())

    # Then it is told, and the connection goes on
    reason = lost.get(timeout=20)
    assert isinstance(reason, ChannelLost)
    assert "cancelled" in str(reason)
    assert connection.is_open


def test_a_lost_channels_number_can_be_used_again(connection: Connection, topic_name: str) -> None:
    # More than a connection has channels: RabbitMQ allows 2047 at once.
    for _ in range(100):
        with pytest.raises(BrokerRefused, match="NOT_FOUND"):
            topology.ready(connection, topic_name, soon())

    assert connection.channel(soon(), ack_window=0.0).number < 10


# --- networks -----------------------------------------------------------------------------------


def body_of(number: int) -> bytes:
    """A body that tells whether it is whole."""
    text = f"{number} ".encode() * (number % 7 * 40)
    return hashlib.sha256(text).digest() + text


def is_whole(body: bytes) -> bool:
    return hashlib.sha256(body[32:]).digest() == body[:32]


def pull_all(queue: WorkQueue, name: str, count: int) -> set[bytes]:
    """Pull until `count` different bodies were done."""
    topic = queue.get_topic(name)
    seen: set[bytes] = set()
    while len(seen) < count:
        job = topic.pull(timeout=20)
        seen.add(job.body)
        job.done()
    return seen


def test_bytes_that_come_one_at_a_time_are_the_same_jobs(broker: Node, proxy: Proxy, topic_name: str, exchange_name: str) -> None:
    # Given a network that passes on one byte at a time, both ways
    proxy.up.slice = proxy.down.slice = 1
    bodies = {body_of(number) for number in range(20)}

    # When jobs go through it
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        queue.get_topic(topic_name).put_many(sorted(bodies))

        # Then they come out as they went in
        assert pull_all(queue, topic_name, len(bodies)) == bodies


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_connection_cut_in_the_middle_of_a_frame_never_gives_a_wrong_body(
    broker: Node, proxy: Proxy, topic_name: str, exchange_name: str, direction: str
) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        # Given jobs, and a network that cuts connections wherever it comes to it
        bodies = {body_of(number) for number in range(200)}
        queue.get_topic(topic_name).put_many(sorted(bodies))
        proxy.cut(direction, after=1777, times=5)

        # When they are pulled
        seen = pull_all(queue, topic_name, len(bodies))

    # Then each came, whole
    assert seen == bodies
    assert all(map(is_whole, seen))


def test_an_idle_connection_lives_by_its_heartbeats(rabbitmq: NodeControl, topic_name: str) -> None:
    # Given a connection on which nothing happens, and which would be dead by now without a sign of life
    link = open_link(rabbitmq.url, heartbeat=1.0, name=topic_name)
    connection = link.connection(soon())

    # When the broker has heard so many heartbeats of it as are sent in longer than it would wait
    heard = times_heard(rabbitmq, topic_name)
    wait_until(lambda: times_heard(rabbitmq, topic_name) >= heard + 5)

    # Then it is the same connection still
    assert link.open_connection() is connection
    link.close(soon())


def times_heard(rabbitmq: NodeControl, name: str) -> int:
    """How often the broker received something over the connection of that name."""
    # Connections of other tests come and go while they are asked.
    infos = "[catch rabbit_networking:connection_info(C, [client_properties, recv_cnt]) || C <- rabbit_networking:connections()]"
    known = f"[{{P, N}} || [{{client_properties, P}}, {{recv_cnt, N}}] <- {infos}, is_list(P)]"
    return int(rabbitmq.eval(f'lists:sum([N || {{P, N}} <- {known}, lists:member({{<<"connection_name">>, longstr, <<"{name}">>}}, P)])'))


def test_a_peer_that_is_gone_without_a_word_is_noticed_in_time(broker: Node, proxy: Proxy) -> None:
    # Given an open connection
    heartbeat = 1.0
    link = open_link(proxy.through(broker.url), heartbeat=heartbeat)
    connection = link.connection(soon())

    # When nothing passes any more, and nobody is told
    proxy.black_hole()

    # Then that is noticed, for the broker was silent
    wait_until(lambda: not connection.is_open, timeout=heartbeat + 5.0)
    wait_until(lambda: "silent" in (link.status().reason or ""), why="the link says so")
    proxy.heal()
    assert link.connection(soon()) is not connection
    link.close(soon())


def test_a_question_to_a_broker_that_is_gone_ends_at_its_deadline(broker: Node, proxy: Proxy) -> None:
    link = open_link(proxy.through(broker.url))
    connection = link.connection(soon())
    proxy.black_hole()

    with pytest.raises(BrokerTimeout, match="did not answer in time"):
        connection.channel(monotonic() + 0.1, ack_window=0.0)
    proxy.heal()
    link.close(soon())


def test_closing_does_not_wait_for_a_broker_that_is_gone(broker: Node, proxy: Proxy) -> None:
    # Given a connection whose peer is gone without a word
    before = threading.active_count()
    link = open_link(proxy.through(broker.url))
    link.connection(soon())
    proxy.black_hole()

    # When it is closed, with a deadline
    began = monotonic()
    link.close(monotonic() + 0.2)

    # Then it is closed soon after that, and nothing is left of it
    assert monotonic() - began < 0.2 + 2.0
    wait_until(lambda: threading.active_count() <= before)


def test_there_is_time_for_two_heartbeats_of_the_peer_to_get_lost() -> None:
    # RabbitMQ sends one in half the interval: within heartbeat + 5 s is the promise, and two are due before we give up.
    assert 0 < HEARTBEAT_GRACE < 5
