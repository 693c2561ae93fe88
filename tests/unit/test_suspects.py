"""Suspects between the reader that brings them and the workers that run them. The loop is the test's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event

from hopd import names
from hopd.amqp.properties import Properties, encode
from hopd.amqp.wire import Delivery
from hopd.engine import suspects as suspects_module
from hopd.engine.executor import Executor
from hopd.engine.poison import JobKey, Journal, parse
from hopd.engine.suspects import Hunt, Suspects
from hopd.engine.workers import Workers
from tests.support.loop import run_until, take_turns


class FakeExecutor(Executor):
    """Notes what it runs and buries. A job whose id starts with `wait` runs until the gate opens."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.ran: list[str] = []
        self.buried: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self.gate = Event()

    def run(self, delivery: Delivery) -> None:
        name = delivery.body.decode()
        self.running.append(name)
        if name.startswith("wait"):
            self.gate.wait()
        self.running.remove(name)
        self.ran.append(name)

    def bury_unrun(self, delivery: Delivery, reason: str, headers: Mapping[str, Any]) -> None:
        self.buried[delivery.body.decode()] = reason, headers


def delivery(name: str) -> Delivery:
    return Delivery(1, 1, True, b"", encode(Properties(message_id=name)), name.encode())


class Scene:
    """A process that came after one that died, and one topic of it."""

    def __init__(self, prefix: str, max_crashes: int = 3, concurrency: int = 5) -> None:
        self.prefix = prefix
        self.suspects = Suspects(prefix)
        self.suspects.begin()
        self.executor = FakeExecutor()
        self.workers = Workers(concurrency, self.executor.run)
        self.over = False
        hunt = self.suspects.hunt("emails", self.workers, self.executor, max_crashes, self._finish)
        assert hunt is not None
        self.hunt: Hunt = hunt
        self.workers.run = hunt.run
        hunt.consuming(True)

    def _finish(self) -> None:
        self.over = True

    def add(self, *arrivals: str) -> None:
        for name in arrivals:
            self.hunt.add(delivery(name))

    @property
    def journal(self) -> bytes:
        return Path(self.prefix + ".suspects").read_bytes()

    def end(self) -> None:
        self.executor.gate.set()
        run_until(lambda: not self.workers.running)
        self.suspects.end()
        self.workers.abandon()


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return str(tmp_path / "hopd")


def die(prefix: str, *running: str, times: int = 1) -> None:
    """Leave files as a process does that dies while these run."""
    for _ in range(times):
        journal = Journal(prefix, 0.0)
        for name in running:
            journal.started(JobKey("emails", name), alone=len(running) == 1)
        journal.release()


@pytest.fixture
def scene(prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    # The dead left these files in 1970; nobody is forgotten all the same.
    monkeypatch.setattr("time.time", lambda: 1.0)
    scenes: list[Scene] = []

    def make(*running: str, times: int = 1, **options: Any) -> Scene:
        die(prefix, *running, times=times)
        scenes.append(Scene(prefix, **options))
        return scenes[-1]

    yield make
    for one in scenes:
        one.end()


def test_a_process_that_follows_none_that_died_hunts_nobody(prefix: str) -> None:
    suspects = Suspects(prefix)
    suspects.begin()
    assert suspects.hunt("emails", Workers(1, print), FakeExecutor(), 3, print) is None
    suspects.end()


def test_without_a_place_for_the_journal_nobody_is_hunted() -> None:
    suspects = Suspects(None)
    suspects.begin()
    assert suspects.hunt("emails", Workers(1, print), FakeExecutor(), 3, print) is None
    suspects.end()


def test_suspects_run_one_at_a_time_and_healthy_jobs_beside_them(scene: Callable[..., Scene]) -> None:
    one = scene()
    # Given a suspect that runs
    one.add("wait-1", "two", "three")
    run_until(lambda: one.executor.running == ["wait-1"])
    # Then the next ones wait, but an ordinary job does not
    one.workers.add(delivery("healthy"))
    run_until(lambda: one.executor.ran == ["healthy"])
    assert one.hunt.waiting == 2
    # And they follow when it has ended
    one.executor.gate.set()
    run_until(lambda: len(one.executor.ran) == 4)
    assert one.executor.ran == ["healthy", "wait-1", "two", "three"]


def test_each_is_in_the_journal_before_it_starts_and_when_it_has_ended(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.add("wait-1")
    run_until(lambda: one.executor.running)
    assert parse(one.journal).running == (JobKey("emails", "wait-1"),)
    one.executor.gate.set()
    run_until(lambda: one.executor.ran)
    take_turns(2)
    assert parse(one.journal).running == ()


def test_one_that_was_running_at_too_many_deaths_is_buried_unrun(scene: Callable[..., Scene]) -> None:
    one = scene("killer", times=3)
    one.add("killer", "innocent")
    run_until(lambda: one.executor.ran and one.executor.buried)
    assert one.executor.ran == ["innocent"]
    assert one.executor.buried == {"killer": ("the process died 3 times while this job ran", {names.CRASHES: 3})}
    # And it begins anew should somebody put it back
    take_turns(2)
    assert parse(one.journal).named == {}


def test_one_below_its_topics_limit_is_run_again(scene: Callable[..., Scene]) -> None:
    one = scene("killer", times=3, max_crashes=4)
    one.add("killer")
    run_until(lambda: one.executor.ran == ["killer"])
    assert not one.executor.buried


def test_one_that_has_shown_itself_harmless_is_no_suspect_when_it_comes_again(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.add("wait-1")
    run_until(lambda: one.executor.running)
    one.executor.gate.set()
    run_until(lambda: one.executor.ran)
    take_turns(2)
    one.executor.gate.clear()
    # When another suspect runs, and the first comes once more
    one.add("wait-2", "wait-1")
    # Then it does not wait for the other
    run_until(lambda: sorted(one.executor.running) == ["wait-1", "wait-2"])
    assert one.hunt.waiting == 0


def test_a_topic_whose_workers_are_busy_has_its_suspects_run_when_one_is_free(scene: Callable[..., Scene]) -> None:
    one = scene(concurrency=1)
    one.workers.add(delivery("wait-healthy"))
    run_until(lambda: one.executor.running)
    one.add("suspect")
    gevent.sleep(0.1)
    assert one.hunt.waiting == 1
    # And before what waits behind it
    one.workers.add(delivery("healthy"))
    one.workers.add(delivery("healthy"))
    one.executor.gate.set()
    run_until(lambda: len(one.executor.ran) == 4)


def test_what_waits_can_be_taken_back(scene: Callable[..., Scene]) -> None:
    one = scene()
    one.add("wait-1", "two", "three")
    run_until(lambda: one.executor.running)
    # When what waits is taken out
    taken = [waiting.body for waiting in one.hunt.empty() + one.workers.empty()]
    # Then it is not run, and what comes afterwards is
    assert taken == [b"two", b"three"]
    one.executor.gate.set()
    one.add("four")
    run_until(lambda: one.executor.ran == ["wait-1", "four"])


def test_one_that_was_handed_over_and_taken_back_holds_up_nobody(scene: Callable[..., Scene]) -> None:
    # Given one that was handed over, before a worker has had its turn
    one = scene()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one.workers, "add_first", one.workers.inbox.appendleft)
        one.add("one")
        run_until(lambda: one.workers.inbox)
    # When it is taken back, Then the next one runs
    assert [waiting.body for waiting in one.hunt.empty() + one.workers.empty()] == [b"one"]
    one.add("two")
    run_until(lambda: one.executor.ran == ["two"])


def test_a_topic_that_is_quiet_has_no_suspects_left(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects_module, "QUIET", 0.2)
    one = scene()
    # Given a topic that does not consume
    one.hunt.consuming(False)
    gevent.sleep(0.3)
    assert not one.over
    # When it does, and a suspect runs for longer than the topic would have to be quiet
    one.hunt.consuming(True)
    one.add("wait-1")
    gevent.sleep(0.4)
    assert not one.over
    # Then the hunt goes on until that long after its end
    one.executor.gate.set()
    run_until(lambda: one.executor.ran)
    ended = monotonic()
    run_until(lambda: one.over)
    assert monotonic() - ended > 0.15


def test_a_job_that_is_cut_off_by_the_end_of_hopd_is_not_cleared(scene: Callable[..., Scene], prefix: str) -> None:
    one = scene("wait-1", times=2)
    one.add("wait-1")
    run_until(lambda: one.executor.running)
    one.workers.abandon()
    one.suspects.end()
    assert Journal(prefix, 1.0).named[JobKey("emails", "wait-1")].crashes == 2


def test_a_journal_that_cannot_be_written_is_told_once_and_stops_nothing(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Journal, "started", refuse)
    monkeypatch.setattr(Journal, "ended", refuse)
    with caplog.at_level(logging.WARNING):
        one = scene()
        one.add("one", "two")
        run_until(lambda: one.executor.ran == ["one", "two"])
    assert [getattr(record, "event", "") for record in caplog.records].count("poison_unprotected") == 1
