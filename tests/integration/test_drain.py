"""`hopd broker drain-to`: what is in a store goes to another broker, all of it, and is safe there before it is gone here."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from hopd import WorkQueue
from hopd.broker.server import Broker
from hopd.cli import drain as command
from hopd.cli import exitcodes
from tests.support.broker import unique_name
from tests.support.node_control import NodeControl
from tests.support.process import Processes

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@contextlib.contextmanager
def channel(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        opened = connection.channel()
        opened.confirm_delivery()
        yield opened
    finally:
        if connection.is_open:
            connection.close()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def target() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


def fill(store: str, queue: str, count: int, **arguments: Any) -> None:
    """A store with a queue of that many jobs."""
    with Broker(store=store) as broker, channel(broker.url) as filling:
        filling.queue_declare(queue, durable=True, arguments=arguments or None)
        for number in range(count):
            filling.basic_publish("", queue, str(number).encode(), PERSISTENT)


def bodies(url: str, queue: str) -> list[bytes]:
    """Everything in a queue."""
    with channel(url) as emptying:
        got = []
        while (body := emptying.basic_get(queue, auto_ack=True)[2]) is not None:
            got.append(body)
        return got


def left(store: str) -> dict[str, int]:
    with Broker(store=store) as broker:
        return {queue.name: queue.ready for queue in broker.queues()}


def test_everything_is_there_then_and_nothing_here(store: str, target: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    # Given queues, exchanges, bindings of all kinds, and messages
    with Broker(store=store) as broker, channel(broker.url) as filling:
        filling.exchange_declare("orders", "topic", durable=True)
        filling.exchange_declare("all", "headers", durable=True, arguments={"alternate-exchange": "orders"})
        filling.exchange_bind("orders", "all", arguments={"x-match": "any", "a": 1})
        filling.queue_declare("emails", durable=True, arguments={"x-max-priority": 5})
        filling.queue_declare("empty", durable=True)
        filling.queue_bind("emails", "orders", "mail.#")
        for number in range(1200):
            properties = pika.BasicProperties(delivery_mode=2, message_id=str(number), headers={"n": [number]}, priority=number % 2)
            filling.basic_publish("orders", "mail.x", str(number).encode(), properties, mandatory=True)

    # When they are moved
    assert command.drain(store, target.url) == exitcodes.STOPPED

    # Then they are as they were
    assert "moved 1,200 of 1,200 jobs in 2 queues to amqp://guest:***@127.0.0.1" in capsys.readouterr().out
    assert left(store) == {"emails": 0, "empty": 0}
    with channel(target.url) as looking:
        looking.queue_declare("emails", durable=True, arguments={"x-max-priority": 5})
        looking.exchange_declare("all", "headers", durable=True, arguments={"alternate-exchange": "orders"})
        looking.basic_publish("all", "mail.y", b"bound", pika.BasicProperties(headers={"a": 1}, priority=5), mandatory=True)
        _, properties, body = looking.basic_get("emails", auto_ack=True)
        assert (body, properties.priority) == (b"bound", 5)
        _, properties, body = looking.basic_get("emails", auto_ack=True)
        assert (body, properties.message_id, properties.headers, properties.delivery_mode) == (b"1", "1", {"n": [1]}, 2)
    odd, even = [str(number).encode() for number in range(3, 1200, 2)], [str(number).encode() for number in range(0, 1200, 2)]
    assert bodies(target.url, "emails") == odd + even


def test_rabbitmq_takes_it_all(store: str, rabbitmq: NodeControl) -> None:
    queue = unique_name("drained")
    fill(store, queue, 50, **{"x-queue-type": "quorum", "x-delivery-limit": 5})

    assert command.drain(store, rabbitmq.url) == exitcodes.STOPPED

    assert bodies(rabbitmq.url, queue) == [str(number).encode() for number in range(50)]
    assert left(store) == {queue: 0}


def test_a_delay_does_not_begin_anew(store: str, target: Broker) -> None:
    with Broker(store=store) as broker, WorkQueue(broker.url) as queue:
        queue.get_topic("jobs").put(b"later", delay="1h")
        (waiting,) = (one.name for one in broker.queues() if one.ready)

    assert command.drain(store, target.url) == exitcodes.STOPPED

    with channel(target.url) as looking:
        _, properties, body = looking.basic_get(waiting, auto_ack=True)
    assert body == b"later"
    assert 3_500_000 < int(properties.expiration) < 3_650_000


def test_what_is_refused_stays_and_goes_the_next_time(store: str, target: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    # Given a queue there that takes three
    fill(store, "jobs", 10)
    with channel(target.url) as there:
        there.queue_declare("jobs", durable=True, arguments={"x-max-length": 3, "x-overflow": "reject-publish"})

    # When it is full, then the rest stays
    assert command.drain(store, target.url) == exitcodes.CRASHED_OR_FORCED
    assert "the queue 'jobs' is not empty" in capsys.readouterr().err
    assert left(store) == {"jobs": 7}

    # And goes when there is room
    got = bodies(target.url, "jobs")
    with channel(target.url) as there:
        there.queue_delete("jobs")
    assert command.drain(store, target.url) == exitcodes.STOPPED
    assert got + bodies(target.url, "jobs") == [str(number).encode() for number in range(10)]


def test_what_one_queue_is_refused_for_stops_no_other(store: str, target: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    fill(store, "jobs", 3)
    with Broker(store=store) as broker, channel(broker.url) as filling:
        named = filling.queue_declare("", durable=True).method.queue
        filling.basic_publish("", named, b"x", PERSISTENT)

    assert command.drain(store, target.url) == exitcodes.CRASHED_OR_FORCED

    said = capsys.readouterr()
    assert "moved 3 of 4 jobs" in said.out
    assert f"the queue '{named}' is refused: ACCESS_REFUSED" in said.err
    assert left(store) == {"jobs": 0, named: 1}


def test_one_that_is_interrupted_is_run_again_and_nothing_is_lost(processes: Processes, store: str, target: Broker) -> None:
    # Given more than is moved in a moment
    count = 20_000
    with Broker(store=store) as broker, WorkQueue(broker.url) as queue:
        queue.get_topic("jobs").put_many(str(number) for number in range(count))

    # When it is interrupted in the middle, and run again
    first = processes.hopd("broker", "drain-to", target.url, "--store", store)
    with channel(target.url) as looking:
        looking.queue_declare("jobs", durable=True)
        while not looking.queue_declare("jobs", passive=True).method.message_count:
            assert first.alive, first.stderr
    first.signal(signal.SIGINT)
    code = first.wait()
    second = processes.hopd("broker", "--store", store, "drain-to", target.url)

    # Then all is there, and at most one batch of it twice
    assert code in (exitcodes.INTERRUPTED, exitcodes.STOPPED), first.stderr
    assert "Traceback" not in first.stderr
    assert second.wait() == exitcodes.STOPPED, second.stderr
    got = [int(body) for body in bodies(target.url, "jobs")]
    assert set(got) == set(range(count))
    assert len(got) - count <= 500
    assert left(store) == {"jobs": 0}


# --- what it cannot use -----------------------------------------------------------------------------


def test_a_broker_that_is_not_there_is_told(store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "GIVE_UP_AFTER", 0.2)
    fill(store, "jobs", 3)

    assert command.drain(store, "amqp://guest:secret@127.0.0.1:1/") == exitcodes.CRASHED_OR_FORCED

    said = capsys.readouterr().err
    assert "no connection to amqp://guest:***@127.0.0.1:1" in said
    assert "secret" not in said
    assert left(store) == {"jobs": 3}


def test_a_store_that_is_not_there_is_not_made(store: str, target: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.drain(store, target.url) == exitcodes.BAD_CONFIG

    assert f"there is no store at {store}" in capsys.readouterr().err
    assert not Path(store).exists()


def test_a_store_in_use_is_told(store: str, target: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    with Broker(store=store):
        assert command.drain(store, target.url) == exitcodes.BAD_CONFIG

    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["amqp://127.0.0.1/"], [], ["http://127.0.0.1/", "--store", "/dev/null"]], ids=" ".join)
def test_wrong_usage_is_told(processes: Processes, arguments: list[str]) -> None:
    process = processes.hopd("broker", "drain-to", *arguments)

    assert process.wait() == exitcodes.USAGE
    assert process.stderr
    assert "Traceback" not in process.stderr
