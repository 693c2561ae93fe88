"""The watchdog, over the loop of the test's own thread: what keeps it from running is this very thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest

from hopd.amqp.settlement import Settlement
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.config.model import WatchdogSettings
from hopd.config.retry import FailurePolicy
from hopd.engine.executor import Executor
from hopd.engine.lockhog import LockHog
from hopd.engine.watchdog import Watchdog
from hopd.job import Job
from tests.support.loop import PATIENCE, run_until

Logged = Callable[[str], list[dict[str, Any]]]


class NoTimers(LockHog):
    """Signals are the whole process's: they are tested in one of their own."""

    def __init__(self) -> None:
        super().__init__(1.0, None)

    def start(self) -> None:
        """Leave SIGVTALRM alone."""


class Bench:
    def __init__(self, report_after: float, exit_after: float | None) -> None:
        self.left: list[float] = []
        settings = WatchdogSettings.model_construct(report_after=report_after, exit_after=exit_after)
        self.dog = Watchdog(settings, lambda: self.left.append(monotonic()), NoTimers())
        self.dog.start()

    def hog(self, until: Callable[[], object]) -> None:
        """Keep the loop from running until something has happened."""
        deadline = monotonic() + PATIENCE
        while not until():
            assert monotonic() < deadline

    def hog_in_a_job(self, until: Callable[[], object]) -> None:
        one = Delivery(1, 7, False, b"", b"\0\0", b"")
        one.settlement = Settlement(1, lambda settlement: None)
        one.settlement.opened(7)
        aside = Aside(QueueSpec("emails"), None, None)  # type: ignore[arg-type]

        def handler(job: Job) -> None:
            self.hog(until)

        gevent.spawn(Executor(handler, FailurePolicy(), aside).run, one).join()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(report_after: float = 0.1, exit_after: float | None = None) -> Bench:
        made.append(Bench(report_after, exit_after))
        return made[-1]

    yield make
    for one in made:
        one.dog.stop()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    return lambda event: [vars(record) for record in caplog.records if vars(record).get("event") == event]


def test_a_handler_that_does_not_yield_is_reported_with_topic_job_and_stack(bench: Callable[..., Bench], logged: Logged) -> None:
    one = bench()

    one.hog_in_a_job(lambda: one.dog.blocked)

    (line,) = logged("event_loop_blocked")
    text = logging.Formatter().formatException(line["exc_info"])
    assert (line["topic"], line["job"]) == ("emails", "delivery-7")
    assert line["seconds"] >= 0.1
    assert "in handler" in text
    assert "in hog\n" in text
    assert "A job of emails keeps everything else from running" in text


def test_each_occasion_is_reported_and_counted_once(bench: Callable[..., Bench], logged: Logged) -> None:
    one = bench()

    def hog(count: int) -> None:
        start = monotonic()
        one.hog_in_a_job(lambda: one.dog.blocked.get("emails", 0) == count and monotonic() > start + 0.5)
        run_until(lambda: len([line for line in logged("event_loop_back") if "topic" in line]) == count)

    hog(1)
    hog(2)

    assert len([line for line in logged("event_loop_blocked") if "topic" in line]) == one.dog.blocked["emails"] == 2


def test_it_says_when_it_is_over_and_how_long_it_took(bench: Callable[..., Bench], logged: Logged) -> None:
    one = bench()
    start = monotonic()

    one.hog_in_a_job(lambda: one.dog.blocked and monotonic() > start + 0.4)
    run_until(lambda: logged("event_loop_back"))

    (line,) = logged("event_loop_back")
    assert (line["topic"], line["job"]) == ("emails", "delivery-7")
    assert line["seconds"] >= 0.4


def test_what_is_not_a_job_is_reported_too(bench: Callable[..., Bench], logged: Logged) -> None:
    one = bench()

    one.hog(lambda: one.dog.blocked)

    (line,) = logged("event_loop_blocked")
    assert "topic" not in line
    assert one.dog.blocked == {None: 1}
    assert "in hog" in logging.Formatter().formatException(line["exc_info"])


def test_a_loop_that_runs_is_left_alone(bench: Callable[..., Bench], logged: Logged) -> None:
    one = bench(report_after=1.0)  # long enough for a busy machine
    until = monotonic() + 1.5

    run_until(lambda: monotonic() > until)

    assert one.dog.blocked == {}


def test_it_leaves_when_there_is_no_hope_and_says_why_first(bench: Callable[..., Bench], logged: Logged) -> None:
    one = bench(exit_after=0.3)
    start = monotonic()

    one.hog_in_a_job(lambda: one.left)

    assert one.left[0] - start >= 0.3 - 0.1  # the loop was last seen up to a tick before
    assert [line["topic"] for line in logged("event_loop_hopeless")] == ["emails"]
    assert len(one.left) == 1


def test_a_watchdog_that_stumbles_goes_on(bench: Callable[..., Bench], logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    one = bench()
    report = one.dog._report

    def stumble(seconds: float) -> None:
        monkeypatch.setattr(one.dog, "_report", report)
        raise ValueError("stumbled")

    monkeypatch.setattr(one.dog, "_report", stumble)
    one.hog(lambda: logged("watchdog_failed"))
    run_until(lambda: logged("event_loop_back"))

    one.hog(lambda: one.dog.blocked)

    assert one.dog.blocked == {None: 1}
