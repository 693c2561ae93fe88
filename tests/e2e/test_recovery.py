"""A broker that dies, stops, freezes, refuses: the daemon stays up and steerable, and consumes again by itself, as it was told to.

Faults 1-3, 6 and 9-12 of the design's table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pika
import pytest

from tests.support.channels import break_channel, channel_pids
from tests.support.daemon import Daemon, handler, put, wait_empty
from tests.support.library import work_queue
from tests.support.node import Node, OwnNode
from tests.support.private_node import free_port
from tests.support.process import Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

Start = Callable[..., Daemon]


@pytest.fixture
def start(processes: Processes, tmp_path: Path) -> Start:
    def start(url: str, topics: dict[str, Any], **options: Any) -> Daemon:
        return Daemon(processes, tmp_path, url, topics, **options)

    return start


def works(daemon: Daemon, url: str, topic: str, count: int = 20) -> None:
    """Put some more jobs and see them done."""
    done = daemon.topic(topic)["done"]
    put(url, daemon.ledger, topic, count)
    daemon.wait_count(topic, "done", done + count)


@contextmanager
def foreign_channel(broker: Node) -> Iterator[Any]:
    """A channel of another client, to hold what the daemon wants."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    try:
        yield connection.channel()
    finally:
        connection.close()


# --- a broker that dies and comes back ------------------------------------------------------------


def test_topics_come_back_as_they_were_wanted_when_the_broker_is_killed_stopped_and_frozen(start: Start, own_node: OwnNode) -> None:
    """One topic that consumes, one that is paused, one that is resumed while the broker is away; three faults in a row."""
    topics = ["runs", "paused", "resumed"]
    daemon = start(own_node.url, {name: handler("nap") for name in topics}, broker={"heartbeat": 2}).wait_consuming()
    daemon.hopctl("pause", "paused", "resumed")

    # Killed in the middle of work, as by a power cut
    put(own_node.url, daemon.ledger, "runs", 2_000)
    daemon.wait_count("runs", "running", 1)
    own_node.kill()
    lost = daemon.wait_broker("recovering")
    away = {name: daemon.topic(name)["state"] for name in topics}
    daemon.control.call("resume", {"topics": ["resumed"]})
    own_node.start()
    own_node.wait_ready()
    daemon.wait_consuming("runs", "resumed")
    assert lost["reason"]
    assert away == {"runs": "recovering", "paused": "paused", "resumed": "paused"}
    assert daemon.topic("paused")["state"] == "paused"
    works(daemon, own_node.url, "runs")
    works(daemon, own_node.url, "resumed")

    # Stopped in order (320): an ordinary loss
    own_node.stop()
    wait_until(lambda: daemon.topic("runs")["state"] == "recovering", 30)
    own_node.start()
    own_node.wait_ready()
    daemon.wait_consuming("runs", "resumed")
    works(daemon, own_node.url, "runs")
    assert daemon.topic("paused")["state"] == "paused"

    # Frozen: noticed by its missing heartbeats
    own_node.freeze()
    began = monotonic()
    daemon.wait_broker("recovering")
    noticed = monotonic() - began
    own_node.thaw()
    daemon.wait_consuming("runs", "resumed")
    assert noticed < 2 + 5
    works(daemon, own_node.url, "runs")

    # At the end the paused one is resumed, and nothing is missing
    put(own_node.url, daemon.ledger, "paused", 20)
    daemon.hopctl("resume", "paused")
    wait_empty(own_node, *topics)
    assert daemon.leave() == 0
    assert daemon.ledger.lost() == set()


def test_jobs_that_run_when_the_connection_goes_run_on_and_are_counted_as_lost(
    start: Start, broker: Node, proxy: Proxy, topic_name: str
) -> None:
    # Given three running jobs
    daemon = start(proxy.through(broker.url), {topic_name: handler("hold", concurrency=3)}).wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 3)
    daemon.wait_count(topic_name, "running", 3)

    # When the connection is reset, the jobs come once more
    proxy.reset()
    daemon.wait_count(topic_name, "redelivered", 3)
    running = daemon.topic(topic_name)["running"]
    daemon.open_gate()
    status = daemon.wait_count(topic_name, "done", 3)

    # Then each ran to its end, twice, and was settled once
    assert running == 3
    assert (status["lost"], daemon.ledger.duplicates()) == (3, 3)
    wait_empty(broker, topic_name)


@pytest.mark.parametrize("fault", ["refused", "unknown name", "silent"])
def test_without_a_broker_the_daemon_is_up_and_says_when_it_tries_again(start: Start, proxy: Proxy, broker: Node, fault: str) -> None:
    if fault == "silent":
        proxy.stay_silent()
    urls = {
        "refused": f"amqp://guest:guest@127.0.0.1:{free_port()}/",
        "unknown name": "amqp://guest:guest@no-such-host.invalid/",
        "silent": proxy.through(broker.url),
    }
    daemon = start(urls[fault], {"emails": handler("record")}, broker={"connect_timeout": "300ms"}).wait_up()

    def tried() -> dict[str, Any] | None:
        status: dict[str, Any] = daemon.status()["broker"]
        return status if status["attempt"] >= 2 and status["next_try"] is not None else None

    status = wait_until(tried, 30, "it has tried twice and waits for the next try") or {}
    assert status["state"] == "recovering"
    assert 0 <= status["next_try"] <= 1
    assert status["reason"]
    assert "***" in status["url"]
    wait_until(lambda: daemon.topic("emails")["reason"], 30, "the topic says why it is not consumed")
    daemon.hopctl("pause", "emails")
    daemon.hopctl("resume", "emails")
    assert daemon.leave() == 0


def test_a_password_that_is_refused_is_the_reason_and_is_shown_nowhere(start: Start, broker: Node) -> None:
    daemon = start(broker.url.replace("guest:guest", "guest:hunter2"), {"emails": handler("record")}, logging={"level": "debug"}).wait_up()

    wait_until(lambda: "403" in (daemon.status()["broker"]["reason"] or ""), 30, "the refusal is the reason")

    shown = json.dumps(daemon.status()) + daemon.hopctl("status") + daemon.hopctl("status", "--json")
    assert daemon.leave() == 0
    assert "hunter2" not in shown + daemon.process.stdout + daemon.process.stderr


def test_a_broker_that_comes_late_is_found(start: Start, broker: Node, proxy: Proxy, topic_name: str) -> None:
    proxy.refuse()
    daemon = start(proxy.through(broker.url), {topic_name: handler("record")}).wait_up()
    daemon.wait_broker("recovering")

    proxy.heal()

    daemon.wait_consuming()
    works(daemon, broker.url, topic_name)


# --- one topic in trouble ---------------------------------------------------------------------------


def test_only_the_topic_whose_channel_was_closed_opens_a_new_one(start: Start, broker: Node, topic_name: str) -> None:
    # Given two topics, each on a channel, one of them with a running job
    hit, spared = f"{topic_name}.hit", f"{topic_name}.spared"
    daemon = start(broker.url, {hit: handler("hold"), spared: handler("record")}, broker={"connection_name": topic_name}).wait_consuming()
    put(broker.url, daemon.ledger, hit, 1)
    daemon.wait_count(hit, "running", 1)
    before = channel_pids(broker, f"{topic_name}-consume")

    # When the broker closes a channel (406)
    assert break_channel(broker, f"{topic_name}-consume")
    wait_until(lambda: len(channel_pids(broker, f"{topic_name}-consume") - before) == 1, 30, "there is one new channel")
    daemon.wait_consuming()

    # Then the other one is what it was, and whatever the job of the closed one says later is not sent
    assert len(channel_pids(broker, f"{topic_name}-consume") & before) == 1
    daemon.open_gate()
    works(daemon, broker.url, hit)
    works(daemon, broker.url, spared)
    assert daemon.status()["broker"]["attempt"] == 0
    assert not daemon.events("broker_lost")
    wait_empty(broker, hit, spared)


def test_a_queue_that_is_deleted_is_declared_again_and_consumed(start: Start, broker: Node, topic_name: str) -> None:
    other = f"{topic_name}.other"
    daemon = start(broker.url, {topic_name: handler("record"), other: handler("record")}).wait_consuming()

    for _ in range(3):
        with work_queue(broker.url) as queue:
            queue.topic(topic_name).delete()
        wait_until(lambda: broker.list_queues().get(topic_name), 30, "the queue is there again")
        daemon.wait_consuming()
        works(daemon, broker.url, topic_name)
        works(daemon, broker.url, other)

    assert daemon.events("topic_lost")
    assert not daemon.events("broker_lost")


def test_a_queue_with_other_arguments_is_used_as_it_is_with_a_warning(start: Start, broker: Node, topic_name: str) -> None:
    with work_queue(broker.url) as queue:
        queue.topic(topic_name, arguments={"x-max-length": 1000}).declare()

    daemon = start(broker.url, {topic_name: handler("record", arguments={"x-max-length": 5})}).wait_consuming()

    warning = daemon.wait_event("queue_differs")
    assert (warning["level"], warning["queue"]) == ("warning", topic_name)
    works(daemon, broker.url, topic_name)


def test_a_topic_the_broker_refuses_has_failed_with_the_reason_and_the_others_run(start: Start, broker: Node, topic_name: str) -> None:
    """Its queue is another connection's alone (405); once that one is gone, the topic is consumed."""
    held, free = f"{topic_name}.held", f"{topic_name}.free"
    with foreign_channel(broker) as channel:
        channel.queue_declare(held, exclusive=True)
        daemon = start(broker.url, {held: handler("record"), free: handler("record")}).wait_consuming(free)
        status = daemon.wait_state(held, "failed")
        works(daemon, broker.url, free)
        assert "405" in status["reason"]
        assert not daemon.events("broker_lost")

    assert daemon.wait_state(held, "consuming")["reason"] is None
    works(daemon, broker.url, held)


def test_a_consumer_the_broker_refuses_is_tried_again_until_it_is_not(start: Start, broker: Node, topic_name: str) -> None:
    """Somebody else consumes the queue exclusively: declaring it succeeds, consuming does not (403)."""
    with work_queue(broker.url) as queue:
        queue.get_topic(topic_name)
    with foreign_channel(broker) as channel:
        channel.basic_consume(topic_name, lambda *_: None, exclusive=True)
        daemon = start(broker.url, {topic_name: handler("record")}).wait_up()
        wait_until(lambda: len(daemon.events("topic_refused")) >= 3, 30, "it was refused three times")
        status = daemon.wait_state(topic_name, "failed")

    assert "403" in status["reason"]
    daemon.wait_consuming()
    works(daemon, broker.url, topic_name)
