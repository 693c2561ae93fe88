"""The time limit of jobs: what it hits, when, and above all what it never hits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from hopd.amqp.settlement import Settlement
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.engine.timeouts import JobKilled, Watch
from hopd.errors import JobTimeout
from hopd.job import Job
from tests.support.loop import run_until, take_turns

#: Seconds: what a handler may take here, and how long it has to end afterwards.
TIMEOUT, KILL_AFTER = 0.02, 0.02

Handler = Callable[[Job], object]


def a_job(tag: int = 1) -> Job:
    one = Delivery(1, tag, False, b"", b"\0\0", b"")
    one.settlement = Settlement(1, lambda settlement: None)
    return Job(one, Aside(QueueSpec("emails"), None, None))  # type: ignore[arg-type]


class Bench:
    """Runs handlers under a watch, each in a worker, and keeps what each ended with."""

    def __init__(self, timeout: float = TIMEOUT, kill_after: float = KILL_AFTER) -> None:
        self.watch = Watch("emails", timeout, kill_after)
        self.ends: list[BaseException | None] = []
        self.workers: list[gevent.Greenlet[..., None]] = []
        self.watch.start()

    def start(self, handler: Handler, job: Job | None = None, afterwards: Callable[[], object] = lambda: None) -> None:
        guarded = self.watch.guard(handler)

        def work() -> None:
            end: BaseException | None = None
            try:
                guarded(job or a_job())
            except BaseException as error:  # noqa: BLE001 - what it ends with is what is tested
                end = error
            afterwards()
            self.ends.append(end)

        self.workers.append(gevent.spawn(work))

    def run(self, handler: Handler) -> BaseException | None:
        self.start(handler)
        run_until(lambda: self.ends)
        return self.ends[0]


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(timeout: float = TIMEOUT, kill_after: float = KILL_AFTER) -> Bench:
        made.append(Bench(timeout, kill_after))
        return made[-1]

    yield make
    for one in made:
        one.watch.stop()
        gevent.killall(one.workers)


@pytest.fixture
def one(bench: Callable[..., Bench]) -> Bench:
    return bench()


def hangs(job: Job) -> None:
    Event().wait()


class Stubborn:
    """A handler that goes on for as many exceptions of any kind as it was made for."""

    def __init__(self, times: int) -> None:
        self.seen: list[BaseException] = []
        self._times = times

    def __call__(self, job: Job) -> None:
        while True:
            try:
                Event().wait()
            except BaseException as error:
                self.seen.append(error)
                if len(self.seen) > self._times:
                    raise


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if vars(record).get("event") == event]


# --- a handler that hangs -------------------------------------------------------------------------


def test_a_handler_that_hangs_gets_a_job_timeout_that_says_which_limit(one: Bench) -> None:
    error = one.run(hangs)

    assert type(error) is JobTimeout
    assert "emails is 20ms" in str(error)
    assert one.watch.timed_out == 1


def test_a_job_timeout_is_an_exception_that_a_handler_can_clean_up_after(one: Bench) -> None:
    cleaned: list[str] = []

    def handler(job: Job) -> None:
        try:
            hangs(job)
        except Exception as error:
            cleaned.append(type(error).__name__)
            raise

    one.run(handler)

    assert cleaned == ["JobTimeout"]


def test_a_job_timeout_is_no_oserror_which_handlers_take_for_the_networks() -> None:
    assert not issubclass(JobTimeout, OSError)


def test_a_handler_that_catches_it_and_returns_has_done_its_job(one: Bench) -> None:
    def handler(job: Job) -> None:
        try:
            hangs(job)
        except JobTimeout:
            return

    assert one.run(handler) is None
    assert one.watch.timed_out == 1


def test_a_handler_that_makes_another_error_of_it_has_raised_that(one: Bench) -> None:
    def handler(job: Job) -> None:
        try:
            hangs(job)
        except JobTimeout as error:
            raise ValueError("the shop is closed") from error

    assert isinstance(one.run(handler), ValueError)


def test_the_log_tells_where_the_handler_was_and_of_which_job(one: Bench, caplog: pytest.LogCaptureFixture) -> None:
    one.run(hangs)

    (line,) = logged(caplog, "job_timeout")
    text = logging.Formatter().formatException(line["exc_info"])
    assert (line["topic"], line["job"]) == ("emails", "delivery-1")
    assert "in hangs" in text
    assert "Event().wait()" in text


def test_jobs_in_time_are_left_alone(bench: Callable[..., Bench]) -> None:
    one = bench(timeout=5.0)
    for _ in range(50):
        one.start(lambda job: gevent.sleep(0.001))

    run_until(lambda: len(one.ends) == 50)

    assert one.ends == [None] * 50
    assert one.watch.timed_out == 0


def test_only_those_that_are_over_their_time_are_hit_in_the_order_of_their_start(bench: Callable[..., Bench]) -> None:
    one = bench(timeout=0.05)
    hit: list[int] = []

    def handler(job: Job) -> None:
        try:
            gevent.sleep(0.01 if job.delivery.tag % 2 else 60)
        except JobTimeout:
            hit.append(job.delivery.tag)
            raise

    for tag in range(10):
        one.start(handler, a_job(tag))
    run_until(lambda: len(one.ends) == 10)

    assert hit == [0, 2, 4, 6, 8]
    assert one.watch.timed_out == 5


def test_a_worker_that_timed_out_is_watched_again_with_its_next_job(one: Bench) -> None:
    for count in range(1, 4):
        one.ends.clear()
        one.start(hangs)
        run_until(lambda: one.ends)
        assert one.watch.timed_out == count


# --- a handler that will not go --------------------------------------------------------------------


def test_a_handler_that_swallows_the_timeout_is_killed_and_its_job_fails_as_timed_out(one: Bench) -> None:
    stubborn = Stubborn(times=1)

    error = one.run(stubborn)

    assert [type(each) for each in stubborn.seen] == [JobTimeout, JobKilled]
    assert type(error) is JobTimeout
    assert "killed" in str(error)
    assert isinstance(error.__cause__, JobKilled)


def test_except_exception_does_not_swallow_the_kill(one: Bench) -> None:
    def handler(job: Job) -> None:
        while True:
            try:
                hangs(job)
            except Exception as error:  # noqa: BLE001 - that is what such handlers do
                last.append(error)

    last: list[Exception] = []

    assert type(one.run(handler)) is JobTimeout
    assert len(last) == 1


def test_a_handler_that_survives_a_kill_is_killed_again_until_it_goes(one: Bench, caplog: pytest.LogCaptureFixture) -> None:
    stubborn = Stubborn(times=5)

    one.run(stubborn)

    assert [type(each) for each in stubborn.seen] == [JobTimeout] + 5 * [JobKilled]
    assert one.watch.timed_out == 1
    # The first, the second and the fourth kill are logged: a handler that holds out for days must not fill the disk.
    assert len(logged(caplog, "job_killed")) == 3


def test_the_kill_comes_not_before_its_time(bench: Callable[..., Bench]) -> None:
    one = bench(kill_after=0.1)
    times: list[float] = []

    def handler(job: Job) -> None:
        while True:
            try:
                hangs(job)
            finally:
                times.append(monotonic())
                if len(times) < 2:
                    continue  # noqa: B012 - swallows JobTimeout, and the kill as well were it first

    began = monotonic()
    one.run(handler)

    assert times[1] - began >= TIMEOUT + 0.1


# --- what must never be hit -------------------------------------------------------------------------


def test_what_a_worker_does_after_the_handler_is_not_hit_however_long_it_takes(one: Bench) -> None:
    """Burying a failed job, for one: the broker may be away for hours."""
    gate = Event()
    one.start(hangs, afterwards=gate.wait)
    one.start(hangs)
    run_until(lambda: one.ends)  # the second: so the first has failed as well, and is at its settling

    gevent.sleep(5 * (TIMEOUT + KILL_AFTER))
    undisturbed = not one.workers[0].dead
    gate.set()
    run_until(lambda: len(one.ends) == 2)

    assert undisturbed
    assert [type(end) for end in one.ends] == [JobTimeout, JobTimeout]


def test_a_worker_is_not_hit_for_a_job_that_ends_between_the_look_and_the_throw(one: Bench) -> None:
    # Given a job whose end is due in the hub, just ahead of the throw
    gate = Event()
    one.start(lambda job: gate.wait(), afterwards=lambda: gevent.sleep(3 * TIMEOUT))
    take_turns(2)
    gate.set()
    one.watch._expire(monotonic() + TIMEOUT)

    run_until(lambda: one.ends)

    assert one.ends == [None]
    assert one.watch.timed_out == 0


_WAITS = st.lists(st.integers(0, 4), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(waits=_WAITS, looks=st.lists(st.integers(0, 3), max_size=20), workers=st.integers(1, 4))
def test_no_exception_ever_leaves_the_handler_of_the_job_it_is_meant_for(waits: list[int], looks: list[int], workers: int) -> None:
    """Whatever the interleaving: each throw lands in a handler, and in one that was over its time at the sweeper's look."""
    watch = Watch("emails", 1000.0, 1000.0)
    clock = [monotonic()]
    astray: list[BaseException] = []
    landed: list[int] = []
    queue = list(enumerate(waits))

    def handler(job: Job) -> None:
        try:
            take_turns(waits[job.delivery.tag])
        except (JobTimeout, JobKilled):
            landed.append(job.delivery.tag)
            raise

    guarded = watch.guard(handler)

    def work() -> None:
        while queue:
            tag, turns = queue.pop(0)
            try:
                guarded(a_job(tag))
            except JobTimeout:
                pass
            try:
                take_turns(turns)  # the settling, and the pause between two jobs
            except BaseException as error:  # noqa: BLE001 - nothing at all may come here
                astray.append(error)

    greenlets = [gevent.spawn(work) for _ in range(workers)]
    for turns in looks:
        take_turns(turns)
        clock[0] += 1001.0
        watch._expire(clock[0])
        watch._kill(clock[0])
    gevent.joinall(greenlets)

    assert astray == []
    assert len(landed) == len(set(landed)) == watch.timed_out
    assert not watch._running
    assert not watch._overdue


def test_the_sweeper_ends_when_it_is_told_to(one: Bench) -> None:
    one.watch.stop()

    run_until(lambda: one.watch._sweeper.dead)


def test_short_jobs_do_not_keep_the_sweeper_busy(bench: Callable[..., Bench]) -> None:
    """It sleeps until the oldest job may be overdue, and a whole limit when nothing runs."""
    one = bench(timeout=10.0)
    one.start(lambda job: gevent.sleep(1))
    take_turns(2)
    now = monotonic()

    assert one.watch._pause(now) == pytest.approx(10.0, abs=0.1)
    assert one.watch._pause(now + 9.99) == pytest.approx(0.1)  # a hundredth of the limit: late rather than all the time
    assert Watch("idle", 10.0, 5.0)._pause(now) == 10.0
