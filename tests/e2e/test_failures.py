"""Handlers that fail in every way: the job fails as its topic wants, the daemon lives. Faults 13 and 19 of the design's table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pika
import pytest

from hopd import names
from tests.support.daemon import Daemon, handler, put, wait_empty, wait_ready
from tests.support.handlers import WAYS
from tests.support.library import work_queue
from tests.support.node import Node

Start = Callable[..., Daemon]


def test_whatever_a_handler_does_its_job_is_buried_and_the_next_one_is_done(start: Start, broker: Node, topic_name: str) -> None:
    """One worker, so that the one that met each fault is the one that has to go on."""
    daemon = start({topic_name: handler("misbehave", concurrency=1)})
    quiet = [b"exit in a greenlet", b"interrupt in a greenlet", b"forgotten timer"]  # these harm a greenlet of theirs, not the job

    for way in WAYS:
        put(broker.url, daemon.ledger, topic_name, 1, way)
        put(broker.url, daemon.ledger, topic_name, 1, b"be good")
    status = daemon.wait_count(topic_name, "done", len(WAYS) + len(quiet))

    assert (status["failed"], status["buried"]) == (len(WAYS) - len(quiet), len(WAYS) - len(quiet))
    assert daemon.status()["state"] == "running"
    wait_ready(broker, names.buried(topic_name), len(WAYS) - len(quiet))
    assert daemon.leave() == 0
    assert (daemon.ledger.lost(), daemon.ledger.duplicates()) == (set(), 0)


def test_a_greenlet_that_fails_unseen_is_told_in_the_log(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start({topic_name: handler("misbehave")})

    put(broker.url, daemon.ledger, topic_name, 1, b"exit in a greenlet")

    assert "SystemExit" in daemon.wait_event("greenlet_failed")["traceback"]


def test_a_buried_job_tells_who_failed_it_and_how(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start({topic_name: handler("misbehave")})

    put(broker.url, daemon.ledger, topic_name, 1, b"Exception")
    daemon.wait_count(topic_name, "buried", 1)

    with work_queue(broker.url) as queue:
        job = queue.get_topic(names.buried(topic_name)).pull(timeout=10)
        assert job.body == b"Exception"
        assert job.message_id == f"{topic_name}-0"
        assert "ValueError: no such user" in job.headers[names.REASON]
        assert "in misbehave" in job.headers[names.ERROR_TRACEBACK]
        assert job.headers[names.ATTEMPTS] == 1
        assert job.headers[names.TOPIC] == topic_name
        job.done()


def test_a_topic_that_drops_keeps_nothing_of_a_failed_job(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start({topic_name: handler("misbehave", on_failure="drop")})

    put(broker.url, daemon.ledger, topic_name, 3, b"Exception")
    status = daemon.wait_count(topic_name, "dropped", 3)

    assert (status["failed"], status["buried"], status["done"]) == (3, 0, 0)
    wait_empty(broker, topic_name)
    assert names.buried(topic_name) not in broker.list_queues()


def test_a_topic_that_requeues_tries_again_but_never_in_a_hot_loop(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start({topic_name: handler("misbehave", on_failure="requeue", concurrency=1)})

    put(broker.url, daemon.ledger, topic_name, 1, b"Exception")
    status = daemon.wait_count(topic_name, "requeued", 2)

    assert status["redelivered"] >= 1
    assert status["failed"] <= daemon.status()["uptime"] + 1  # about one try a second, and not as many as the machine can
    assert daemon.leave() == 0
    wait_ready(broker, topic_name, 1)


@pytest.mark.parametrize("how", [b"twice", b"and raise", b"elsewhere"], ids=["twice", "and raises", "in another greenlet"])
def test_a_job_is_settled_once_however_often_its_handler_does(start: Start, broker: Node, topic_name: str, how: bytes) -> None:
    daemon = start({topic_name: handler("settle_twice", concurrency=1)})

    put(broker.url, daemon.ledger, topic_name, 5, how)
    put(broker.url, daemon.ledger, topic_name, 5, b"be good")
    status = daemon.wait_count(topic_name, "done", 10)

    # No second settlement reached the broker: it would have closed the channel
    assert status["lost"] == status["redelivered"] == 0
    assert not daemon.events("topic_lost")
    assert len(daemon.events("settled_twice")) == (5 if how == b"twice" else 0)
    wait_empty(broker, topic_name)


def test_odd_messages_are_handled_or_buried_as_they_came_and_harm_nobody(start: Start, broker: Node, topic_name: str) -> None:
    """No properties, an empty body, a time in milliseconds, a header nested more deeply than anybody reads: fault 20."""
    daemon = start({topic_name: handler("misbehave", concurrency=1)})
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"x": deep}
    odd = [
        pika.BasicProperties(),
        pika.BasicProperties(timestamp=1_700_000_000_000),
        pika.BasicProperties(timestamp=2**64 - 1),
        pika.BasicProperties(headers={"deep": deep}),
    ]

    with closing(pika.BlockingConnection(pika.URLParameters(broker.url))) as connection:
        channel = connection.channel()
        for properties in odd:
            channel.basic_publish("", topic_name, b"", properties)
    put(broker.url, daemon.ledger, topic_name, 1)
    status = daemon.wait_count(topic_name, "done", len(odd))

    assert (status["failed"], status["buried"], status["lost"]) == (1, 1, 0)
    assert not daemon.events("broker_lost")
    with work_queue(broker.url) as queue:
        job = queue.get_topic(names.buried(topic_name)).pull(timeout=10)
        assert "UndecodableJob" in job.headers[names.REASON]
        assert len(job.headers[names.RAW_PROPERTIES]) > 500
        job.done()
