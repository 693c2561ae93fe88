"""The embedded broker over real sockets: with pika, with hopd itself, and with clients that do everything wrong.

These tests run in plain threads, with the broker in a thread of its own, and once more under gevent (test_embedded_worlds).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
from pika import spec

from hopd import BrokerBlocked, HopError, PutTimeout, Unroutable, WorkQueue
from hopd.broker import doors, switchboard
from hopd.broker.alarms import Bounds
from hopd.broker.clock import TurnedClock
from hopd.broker.listener import Listener
from hopd.broker.model import Limits
from hopd.broker.server import Broker
from hopd.broker.state import State
from hopd.broker.store import Store
from hopd.errors import CannotListen, StoreError
from tests.support.raw_client import RawClient
from tests.support.talk import message, method
from tests.support.waiting import wait_until

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def embedded() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


@contextlib.contextmanager
def pika_client(broker: Broker) -> Iterator[Any]:
    """A channel of pika's BlockingConnection."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def raw(broker: Broker, *channels: int, heartbeat: int = 0) -> RawClient:
    return RawClient(("127.0.0.1", broker.port), heartbeat=heartbeat).come_in(*channels)


def depth(broker: Broker, queue: str) -> tuple[int, int]:
    """Ready and unsettled."""
    return next((one.ready, one.unsettled) for one in broker.queues() if one.name == queue)


# --- clients --------------------------------------------------------------------------------------


def test_pika_publishes_consumes_and_settles(embedded: Broker) -> None:
    with pika_client(embedded) as channel:
        channel.confirm_delivery()
        channel.queue_declare("jobs", durable=True)
        for number in range(10):
            channel.basic_publish("", "jobs", str(number).encode(), PERSISTENT, mandatory=True)

        got = []
        for delivery, _, body in channel.consume("jobs", inactivity_timeout=20):
            got.append(int(body))
            channel.basic_ack(delivery.delivery_tag)
            if len(got) == 10:
                break

        assert got == list(range(10))
        channel.cancel()
        assert channel.queue_declare("jobs", passive=True).method.message_count == 0


def test_pika_is_told_what_is_wrong(embedded: Broker) -> None:
    with pika_client(embedded) as channel:
        channel.confirm_delivery()

        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish("", "nowhere", b"job", mandatory=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="no queue 'nowhere'"):
            channel.queue_declare("nowhere", passive=True)


def test_a_wrong_password_is_told(embedded: Broker) -> None:
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(embedded.url.replace("guest:guest", "guest:wrong")))


def test_hopd_puts_pulls_and_settles(embedded: Broker) -> None:
    with WorkQueue(embedded.url) as queue:
        topic = queue.get_topic("jobs")
        topic.put(b"hello", headers={"a": [1, {"b": None}]})
        job = topic.pull(20)
        assert (job.body, job.headers["a"]) == (b"hello", [1, {"b": None}])
        job.fail(requeue=True)
        job = topic.pull(20)
        assert job.redelivered
        assert job.done()


def test_hopd_is_told_that_a_topic_is_gone(embedded: Broker) -> None:
    with WorkQueue(embedded.url) as queue, pika_client(embedded) as channel:
        topic = queue.get_topic("jobs")
        topic.put(b"1")
        channel.queue_delete("jobs")

        with pytest.raises(Unroutable):
            topic.put(b"2")


def test_a_job_that_is_retried_comes_back_when_the_clock_says_so() -> None:
    clock = TurnedClock()
    with Broker(clock=clock) as broker, WorkQueue(broker.url) as queue:
        topic = queue.get_topic("jobs")
        topic.put(b"later", delay="10m")
        assert depth(broker, "jobs") == (0, 0)

        clock.turn(605.0)
        broker.look_at_clock()

        assert topic.pull(20).body == b"later"


def test_a_message_expires_by_itself_when_its_time_is_up(embedded: Broker) -> None:
    with pika_client(embedded) as channel:
        channel.queue_declare("dead")
        arguments = {"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("short", arguments=arguments)
        channel.basic_publish("", "short", b"job")

        wait_until(lambda: depth(embedded, "dead") == (1, 0), 10, "the message is dead-lettered")


def test_many_threads_put_and_pull_at_once(embedded: Broker) -> None:
    done: list[str] = []

    def work(name: int) -> None:
        with WorkQueue(embedded.url) as queue:
            topic = queue.get_topic("jobs")
            for number in range(50):
                topic.put(f"{name}.{number}")
                job = topic.pull(20)
                done.append(job.body.decode())
                job.done()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == sorted(f"{name}.{number}" for name in range(8) for number in range(50))


def test_a_body_of_many_frames_comes_back_as_it_went(embedded: Broker) -> None:
    body = os.urandom(3_000_000)

    with WorkQueue(embedded.url) as queue:
        topic = queue.get_topic("jobs")
        topic.put(body)
        job = topic.pull(20)
        assert job.body == body
        job.done()


def test_two_hundred_clients_come_and_go(embedded: Broker) -> None:
    before = len(os.listdir("/proc/self/fd"))

    clients = [raw(embedded, 1) for _ in range(200)]
    assert embedded.connections == 200
    for client in clients:
        client.socket.close()

    wait_until(lambda: embedded.connections == 0, 10, "all clients are gone")
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, 10, "their descriptors are closed")


# --- clients that do wrong --------------------------------------------------------------------------


def test_bytes_that_are_no_amqp_end_that_connection_alone(embedded: Broker) -> None:
    with raw(embedded, 1) as bad, raw(embedded, 1) as good:
        bad.say(b"GET / HTTP/1.1\r\n\r\n")

        assert bad.hear(spec.Connection.Close).method.reply_code == 501
        bad.socket.shutdown(socket.SHUT_WR)
        assert bad.hears_the_end()
        good.say(method(1, spec.Queue.Declare(queue="q")))
        assert good.hear(spec.Queue.DeclareOk)


def test_another_protocol_is_answered_with_ours_and_the_end(embedded: Broker) -> None:
    with RawClient(("127.0.0.1", embedded.port)) as client:
        client.say(b"GET / HTTP/1.1\r\n\r\n")

        assert client.socket.recv(100) == b"AMQP\0\0\x09\x01"
        assert client.hears_the_end()


def test_a_client_that_does_not_come_in_is_dropped(embedded: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchboard, "HANDSHAKE_TIMEOUT", 0.1)

    with RawClient(("127.0.0.1", embedded.port)) as client:
        client.say(b"AMQP\0\0\x09\x01")

        assert client.hears_the_end()


def test_a_client_that_does_not_leave_is_dropped(embedded: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchboard, "CLOSING_TIMEOUT", 0.1)

    with raw(embedded, 1) as client:
        client.say(method(1, spec.Channel.Open()))

        assert client.hears_the_end()


def test_heartbeats_are_sent_and_a_client_that_sends_none_is_dropped(embedded: Broker) -> None:
    with raw(embedded, 1, heartbeat=1) as client:
        client.say(method(1, spec.Queue.Declare(queue="q", exclusive=True)))
        client.hear(spec.Queue.DeclareOk)

        assert client.socket.recv(100).startswith(b"\x08\0\0\0\0\0\0\xce")
        assert client.hears_the_end()
    wait_until(lambda: embedded.queues() == [], 10, "what it had is gone")


def test_a_client_that_sends_heartbeats_stays(embedded: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = pika.URLParameters(embedded.url)
    parameters.heartbeat = 1
    connection = pika.BlockingConnection(parameters)

    connection.process_data_events(time_limit=3.5)

    assert connection.is_open
    connection.close()


def test_a_consumer_that_does_not_read_holds_no_more_than_its_share() -> None:
    body, count = bytes(64_000), 600
    with Broker(limits=Limits(max_unwritten=1 << 20)) as broker, raw(broker, 1) as reader, raw(broker, 1) as writer:
        writer.say(method(1, spec.Queue.Declare(queue="q")), *[message(1, body, routing_key="q") for _ in range(count)])
        wait_until(lambda: depth(broker, "q") == (count, 0), 20, "all are there")

        # When it consumes without a bound, and does not read
        reader.say(method(1, spec.Basic.Consume(queue="q", no_ack=False)))
        wait_until(lambda: depth(broker, "q")[1] > 0, 10, "it is being delivered to")
        writer.say(method(1, spec.Queue.Declare(queue="q", passive=True)))

        # Then most stays where it was: what the kernel's buffers hold, and one share
        assert writer.hear(spec.Queue.DeclareOk)
        assert depth(broker, "q")[0] > count / 2

        # And it gets all when it reads
        tags = [reader.hear(spec.Basic.Deliver).method.delivery_tag for _ in range(count)]
        assert tags == list(range(1, count + 1))


def test_an_error_of_ours_leaves_the_broker_serving(
    embedded: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    with raw(embedded, 1) as client:
        monkeypatch.setattr(State, "due", fail)
        client.say(method(1, spec.Queue.Declare(queue="q")))

        assert client.hear(spec.Queue.DeclareOk)
        assert "broker_failed" in [vars(record).get("event") for record in caplog.records]
        monkeypatch.undo()


def test_when_no_descriptor_is_left_clients_wait_and_those_that_are_there_are_served(
    embedded: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exhausted = threading.Event()
    accept = Listener.accept

    def refuse_once(listener: Listener) -> Any:
        if exhausted.is_set():
            return accept(listener)
        exhausted.set()
        raise OSError(errno.EMFILE, "Too many open files")

    with raw(embedded, 1) as there:
        monkeypatch.setattr(Listener, "accept", refuse_once)
        with raw(embedded, 1):
            there.say(method(1, spec.Queue.Declare(queue="q")))
            assert there.hear(spec.Queue.DeclareOk)

    assert [vars(record)["event"] for record in caplog.records if record.name == doors.__name__] == ["broker_accept_failed"]


# --- when the broker is short of something ----------------------------------------------------------


def test_publishers_are_blocked_while_memory_is_short_and_consumers_are_not() -> None:
    with Broker(bounds=Bounds(memory=1_000_000)) as broker, raw(broker, 1) as writer, raw(broker, 1) as reader:
        # Given more than fits
        writer.say(method(1, spec.Queue.Declare(queue="q")), *[message(1, bytes(100_000), routing_key="q") for _ in range(12)])
        assert writer.hear(spec.Connection.Blocked).method.reason == "low on memory"

        # When it says more, then nobody listens
        writer.say(message(1, bytes(1), routing_key="q"))
        reader.say(method(1, spec.Basic.Consume(queue="q", no_ack=True)))
        for _ in range(12):
            assert len(reader.hear(spec.Basic.Deliver).body or b"") == 100_000

        # Until there is room again
        assert writer.hear(spec.Connection.Unblocked)
        assert len(reader.hear(spec.Basic.Deliver).body or b"") == 1


def test_messages_are_bounded_in_number_too() -> None:
    with Broker(bounds=Bounds(messages=10)) as broker, raw(broker, 1) as writer:
        writer.say(method(1, spec.Queue.Declare(queue="q")), *[message(1, routing_key="q") for _ in range(11)])
        writer.hear(spec.Queue.DeclareOk)
        wait_until(lambda: depth(broker, "q") == (11, 0))

        writer.say(message(1, routing_key="q"))

        assert writer.hear(spec.Connection.Blocked).method.reason == "too many messages"


def test_who_published_before_may_say_other_things_under_an_alarm(embedded: Broker) -> None:
    with raw(embedded, 1) as client:
        client.say(method(1, spec.Queue.Declare(queue="q")), message(1, routing_key="q"))
        client.hear(spec.Queue.DeclareOk)
        embedded.block()

        client.say(method(1, spec.Queue.Declare(queue="q", passive=True)))
        assert client.hear(spec.Queue.DeclareOk).method.message_count == 1
        client.say(message(1, routing_key="q"))
        assert client.hear(spec.Connection.Blocked)


def test_hopd_says_that_the_broker_is_blocked_until_it_is_not(embedded: Broker) -> None:
    with WorkQueue(embedded.url) as queue:
        topic = queue.get_topic("jobs")
        topic.put(b"1")
        embedded.block("low on disk")

        with pytest.raises(BrokerBlocked):
            topic.put(b"2", timeout=0.5)
        assert topic.pull(20).body == b"1"

        embedded.unblock()
        topic.put(b"3", timeout=20)


def test_what_cannot_be_written_is_not_confirmed_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = threading.Event()
    commit = Store.commit

    def commit_or_fail(store: Store) -> int:
        if full.is_set():
            raise StoreError("the disk is full")
        return commit(store)

    monkeypatch.setattr(Store, "commit", commit_or_fail)
    with Broker(store=str(tmp_path / "store")) as broker, raw(broker, 1) as client:
        client.say(method(1, spec.Queue.Declare(queue="q", durable=True)), method(1, spec.Confirm.Select()))
        client.hear(spec.Confirm.SelectOk)
        full.set()

        client.say(message(1, routing_key="q", properties=PERSISTENT))
        assert client.hear(spec.Connection.Blocked).method.reason == "low on disk"
        full.clear()

        assert client.hear(spec.Basic.Ack).method.delivery_tag == 1
        assert client.hear(spec.Connection.Unblocked)


# --- what a test may do to it -----------------------------------------------------------------------


def test_a_frozen_broker_does_nothing_until_it_is_thawed(embedded: Broker) -> None:
    with WorkQueue(embedded.url) as queue:
        topic = queue.get_topic("jobs")
        topic.put(b"1")
        embedded.freeze()

        with pytest.raises(PutTimeout):
            topic.put(b"2", timeout=0.3)

        embedded.thaw()
        topic.put(b"3", timeout=20)
        assert [topic.pull(20).body for _ in range(3)] == [b"1", b"2", b"3"]


def test_clients_come_back_after_their_connections_were_closed(embedded: Broker) -> None:
    with WorkQueue(embedded.url) as queue:
        topic = queue.get_topic("jobs")
        topic.put(b"1")
        embedded.close_connections("maintenance")
        assert topic.pull(20).body == b"1"
        embedded.cut_connections()
        topic.put(b"2", timeout=20, retry_uncertain=True)


# --- start and stop ---------------------------------------------------------------------------------


def test_clients_are_told_that_the_broker_stops(embedded: Broker) -> None:
    with raw(embedded, 1) as client:
        stopping = threading.Thread(target=embedded.stop)
        stopping.start()

        close = client.hear(spec.Connection.Close).method
        client.say(method(0, spec.Connection.CloseOk()))
        assert client.hears_the_end()
        client.socket.close()
        stopping.join()

    assert (close.reply_code, close.reply_text) == (
        320,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
    )


def test_a_client_that_stays_does_not_keep_the_broker_from_stopping(embedded: Broker) -> None:
    with raw(embedded, 1) as client:
        embedded.stop(timeout=0.1)

        assert client.hears_the_end()


def test_stopping_twice_is_stopping_once_and_nothing_is_answered_then(embedded: Broker) -> None:
    embedded.stop()
    embedded.stop()

    with pytest.raises(HopError, match="not running"):
        embedded.queues()


def test_durable_jobs_are_there_after_a_restart_at_the_same_address(tmp_path: Path) -> None:
    broker = Broker(store=str(tmp_path / "store"))
    broker.start()
    try:
        url = broker.url
        with WorkQueue(url) as queue:
            topic = queue.get_topic("jobs")
            topic.put_many([b"1", b"2"])
            assert topic.pull(20).body == b"1"

        broker.stop()
        broker.start()

        assert broker.url == url
        with WorkQueue(url) as queue:
            jobs = [queue.get_topic("jobs").pull(20) for _ in range(2)]
            assert (jobs[0].body, jobs[0].redelivered) == (b"1", True)
            assert all(job.done() for job in jobs)
    finally:
        broker.stop()


def test_what_was_published_just_before_the_stop_is_confirmed_and_kept(tmp_path: Path) -> None:
    broker = Broker(store=str(tmp_path / "store"))
    broker.start()
    try:
        with raw(broker, 1) as client:
            client.say(method(1, spec.Queue.Declare(queue="q", durable=True)), method(1, spec.Confirm.Select()))
            client.hear(spec.Confirm.SelectOk)
            client.say(*[message(1, routing_key="q", properties=PERSISTENT) for _ in range(100)])
            wait_until(lambda: depth(broker, "q") == (100, 0), 10, "all have arrived")
            broker.stop(timeout=0.1)
            assert client.hear(spec.Basic.Ack)

        broker.start()
        assert depth(broker, "q") == (100, 0)
    finally:
        broker.stop()


def test_a_port_that_is_taken_is_told(embedded: Broker) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{embedded.port}: Address already in use"):
        Broker(listen=f"127.0.0.1:{embedded.port}").start()


def test_a_store_that_is_in_use_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "store")

    with Broker(store=path), pytest.raises(StoreError, match="in use"):
        Broker(store=path).start()


def test_a_unix_socket_serves_as_well_and_goes_with_the_broker(tmp_path: Path) -> None:
    path = str(tmp_path / "broker.sock")

    with Broker(listen=None, unix=path), RawClient(path).come_in(1) as client:
        client.say(method(1, spec.Queue.Declare(queue="q")))
        assert client.hear(spec.Queue.DeclareOk)
        assert os.stat(path).st_mode & 0o777 == 0o600

    assert not os.path.exists(path)


def test_a_socket_path_that_cannot_be_used_leaves_no_port_taken(tmp_path: Path) -> None:
    (tmp_path / "broker.sock").write_text("precious")
    broker = Broker(unix=str(tmp_path / "broker.sock"))

    with pytest.raises(CannotListen, match="remove it or name another path"):
        broker.start()

    with Broker(listen=f"127.0.0.1:{broker.port}"):
        assert (tmp_path / "broker.sock").read_text() == "precious"
