"""Steering a daemon that is busy, and one whose broker is away."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hopd.errors import ControlError
from tests.support.daemon import Daemon, handler, put, wait_empty
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.proxy import Proxy

#: The longest that an answer may take while jobs keep the daemon busy; in practice it is some 10 ms. Seconds.
WORST_ANSWER = 2.0

Start = Callable[..., Daemon]


@pytest.fixture
def start(processes: Processes, tmp_path: Path) -> Start:
    def start(url: str, topics: dict[str, Any], **options: Any) -> Daemon:
        return Daemon(processes, tmp_path, url, topics, **options)

    return start


def test_a_busy_daemon_answers_at_once(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start(broker.url, {topic_name: handler("record", concurrency=100, paused=True)}).wait_up()
    put(broker.url, daemon.ledger, topic_name, 20_000)
    daemon.control.call("resume", {"topics": [topic_name]})
    answers: list[float] = []
    done = 0

    while done < 20_000:
        asked = monotonic()
        done = daemon.topic(topic_name)["done"]
        answers.append(monotonic() - asked)

    assert len(answers) > 5
    assert max(answers) < WORST_ANSWER


def test_a_topic_paused_and_resumed_again_and_again_under_load_loses_and_repeats_nothing(
    start: Start, broker: Node, topic_name: str
) -> None:
    """Without a fault nothing is run twice: what waits goes back, and what runs is settled here."""
    daemon = start(broker.url, {topic_name: handler("nap", concurrency=50)}).wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 10_000)
    dice = random.Random(7)

    steered = 0
    while daemon.topic(topic_name)["done"] < 9_000:
        daemon.control.call("pause", {"topics": [topic_name]})
        paused = daemon.topic(topic_name)
        assert (paused["state"], paused["waiting"]) == ("paused", 0)
        if dice.random() < 0.5:
            daemon.control.call("drain", {"topics": [topic_name]})
            assert daemon.topic(topic_name)["running"] == 0
        daemon.control.call("resume", {"topics": [topic_name]})
        steered += 1
        daemon.wait_count(topic_name, "done", daemon.topic(topic_name)["done"] + dice.randint(0, 500))
    status = daemon.wait_count(topic_name, "done", 10_000)

    assert steered > 5
    assert (status["lost"], status["requeued"], status["failed"]) == (0, 0, 0)
    wait_empty(broker, topic_name)
    assert (daemon.ledger.lost(), daemon.ledger.unexpected(), daemon.ledger.duplicates()) == (set(), set(), 0)


def test_everything_but_putting_works_while_the_broker_is_away(start: Start, broker: Node, proxy: Proxy, topic_name: str) -> None:
    daemon = start(proxy.through(broker.url), {topic_name: handler("hold", concurrency=2)}).wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 2)
    daemon.wait_count(topic_name, "running", 2)
    proxy.refuse()
    proxy.reset()
    daemon.wait_broker("recovering")

    daemon.hopctl("pause", topic_name)
    paused = daemon.topic(topic_name)
    daemon.hopctl("resume", topic_name)
    resumed = daemon.topic(topic_name)
    with pytest.raises(ControlError) as refused:
        daemon.control.call("put", {"topic": topic_name, "body": "x", "timeout": 0.2})
    daemon.open_gate()
    daemon.hopctl("drain", "--all")
    drained = daemon.topic(topic_name)

    assert (paused["state"], paused["running"]) == ("paused", 2)
    assert resumed["state"] == "recovering"
    assert refused.value.code in ("timeout", "broker_unavailable")
    assert (drained["running"], drained["lost"]) == (0, 2)

    # And when the broker is back, the last word counts
    proxy.heal()
    daemon.wait_broker("open")
    assert daemon.topic(topic_name)["state"] == "paused"
    daemon.hopctl("resume", topic_name)
    daemon.wait_count(topic_name, "done", 2)
    assert daemon.leave() == 0
    wait_empty(broker, topic_name)


def test_a_shutdown_asked_for_by_hopctl_works_while_the_broker_is_away(start: Start, broker: Node, proxy: Proxy) -> None:
    proxy.refuse()
    daemon = start(proxy.through(broker.url), {"emails": handler("record")}).wait_up()

    daemon.hopctl("shutdown")

    assert daemon.process.wait() == 0
