"""A topic whose jobs keep failing rests, tries one, and goes on: in a real daemon, with operators and lost connections in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hopd import Topic, WorkQueue
from tests.support.hopd_process import HopdProcess
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

HANDLER = "tests.support.bad_handlers:need"

#: Seconds.
PATIENCE = 60.0

#: Rests soon, and long enough to be looked at.
BREAKER = {"failures": 5, "within": "30s", "pause": "1s"}
LONG_REST = {**BREAKER, "pause": "1h"}


class Bench:
    """A daemon with one topic, whose handler fails as long as a file is missing."""

    def __init__(self, daemon: HopdProcess, topic: Topic, ledger: Ledger, service: Path) -> None:
        self.daemon = daemon
        self.topic = topic
        self.begun = Ledger(Path(f"{ledger.path}.begun"))
        self.ledger = ledger
        self._service = service
        self._put = 0

    def put(self, count: int) -> None:
        self._put += count
        self.topic.put_many([b"{}"] * count)

    def repair(self) -> None:
        """From now on the handler succeeds."""
        self._service.touch()

    def call(self, command: str) -> None:
        self.daemon.control.call(command, {"topics": [self.topic.name]})

    @property
    def status(self) -> dict[str, Any]:
        return self.daemon.topic(self.topic.name)

    def wait_breaker(self, state: str) -> None:
        wait_until(lambda: self.status["breaker"] == state, PATIENCE, f"the breaker is {state}")

    def wait_log(self, event: str) -> None:
        self.daemon.process.wait_for(f"event={event}")


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def bench(
    tmp_path: Path, processes: Processes, proxy: Proxy, broker: Node, queue: WorkQueue, topic_name: str, ledger: Ledger
) -> Callable[..., Bench]:
    def start(breaker: dict[str, Any], **options: Any) -> Bench:
        topic = {"handler": HANDLER, "on_failure": "drop", "concurrency": 1, "breaker": breaker, **options}
        service = tmp_path / "service"
        env = {**ledger.environment, "SERVICE": str(service)}
        url, exchange = proxy.through(broker.url), {"exchange": queue.exchange}
        daemon = HopdProcess(processes, tmp_path, url, {topic_name: topic}, broker=exchange, env=env)
        return Bench(daemon.wait_consuming(), queue.get_topic(topic_name), ledger, service)

    return start


def test_a_topic_that_keeps_failing_rests_and_says_why(bench: Callable[..., Bench]) -> None:
    # Given a topic with many jobs that will fail
    one = bench(LONG_REST)
    one.put(500)
    # When as many have failed as its breaker allows
    one.wait_breaker("open")
    # Then it is paused, and tells why and until when
    status = one.status
    assert status["state"] == "paused"
    assert status["reason"].startswith("breaker: 5 jobs failed within 30 s; one is tried in ")
    assert status["breaker_opened"] == 1
    one.wait_log("breaker_opened")
    # And the jobs that did not start are in the broker
    wait_until(lambda: one.topic.ready() == 495, PATIENCE, "the others are back")
    assert one.status["failed"] == one.begun.count() == 5


def test_each_pause_ends_with_one_job_until_one_succeeds(bench: Callable[..., Bench]) -> None:
    # Given a topic that rests
    one = bench(BREAKER, concurrency=3, prefetch=50)
    one.put(500)
    one.wait_breaker("open")
    wait_until(lambda: not one.status["running"], PATIENCE, "those that ran have failed, too")
    before = one.status
    # When its pause is over, three times
    wait_until(lambda: one.status["breaker_opened"] >= before["breaker_opened"] + 3, PATIENCE, "it has opened again")
    # Then one job was tried each time
    after = one.status
    assert after["failed"] - before["failed"] == after["breaker_opened"] - before["breaker_opened"]
    # And when one succeeds it goes on by itself, with all it has
    one.repair()
    wait_until(lambda: one.ledger.count() + one.status["failed"] == 500, PATIENCE, "all others are done")
    one.wait_log("breaker_closed")
    assert one.status["state"] == "consuming"
    assert one.status["reason"] is None
    assert one.status["breaker"] == "closed"


def test_a_probe_that_takes_long_is_the_only_one(bench: Callable[..., Bench]) -> None:
    # Given a topic that rests, and whose next job will take a while
    one = bench({**BREAKER, "failures": 2}, concurrency=10)
    one.put(2)
    one.wait_breaker("open")
    one.topic.put_many([{"after": 1.0}] * 10)
    one.repair()
    # When it probes
    wait_until(lambda: one.status["running"], PATIENCE, "one job is tried")
    # Then no other is started, nor even taken from the broker, as long as it runs
    status = one.status
    assert (status["breaker"], status["reason"]) == ("probing", "breaker: trying one job")
    assert (status["running"], status["waiting"]) == (1, 0)
    wait_until(lambda: one.status["running"] > 1, PATIENCE, "the others follow")


def test_an_operators_pause_wins_over_the_breaker(bench: Callable[..., Bench]) -> None:
    # Given a topic that rests, paused by an operator
    one = bench({**BREAKER, "pause": "300ms"})
    one.put(100)
    one.wait_breaker("open")
    one.call("pause")
    begun = one.begun.count()
    wait_until(lambda: one.status["state"] == "paused" and one.status["reason"] is None, PATIENCE, "it is the operator's pause")
    # When the breaker's pause is over
    probes_due = one.daemon.status()["uptime"] + 1.0
    wait_until(lambda: one.daemon.status()["uptime"] > probes_due, PATIENCE, "a second has passed")
    # Then no job is tried
    assert one.begun.count() <= begun + 1
    assert one.status["state"] == "paused"


def test_an_operators_resume_ends_the_rest(bench: Callable[..., Bench]) -> None:
    # Given a topic that rests for an hour, and works again
    one = bench(LONG_REST)
    one.put(100)
    one.wait_breaker("open")
    one.repair()
    # When an operator resumes it, Then it goes on at once
    one.call("resume")
    wait_until(lambda: one.ledger.count() == 95, PATIENCE, "the rest is done")
    assert one.status["breaker"] == "closed"


def test_a_rest_outlasts_a_lost_connection(bench: Callable[..., Bench], proxy: Proxy) -> None:
    # Given a topic that rests for an hour
    one = bench(LONG_REST)
    one.put(100)
    one.wait_breaker("open")
    # When the connection is lost and made again
    proxy.reset()
    wait_until(lambda: one.daemon.status()["broker"]["state"] != "open", PATIENCE, "the connection is lost")
    wait_until(lambda: one.daemon.status()["broker"]["state"] == "open", PATIENCE, "the connection is back")
    # Then it still rests
    assert (one.status["state"], one.status["breaker"]) == ("paused", "open")
    assert one.begun.count() == 5


def test_a_rest_that_is_over_while_the_connection_is_away_ends_when_it_is_back(bench: Callable[..., Bench], proxy: Proxy) -> None:
    # Given a topic that rests
    one = bench(BREAKER)
    one.put(100)
    one.wait_breaker("open")
    # When its rest is over while there is no connection
    proxy.refuse()
    proxy.reset()
    over = one.daemon.status()["uptime"] + 3
    wait_until(lambda: one.daemon.status()["uptime"] >= over, PATIENCE, "the rest is over")
    one.repair()
    proxy.heal()
    # Then it goes on by itself as soon as there is one
    wait_until(lambda: one.topic.ready() == 0 and one.status["breaker"] == "closed", PATIENCE, "it goes on")
