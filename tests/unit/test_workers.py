"""A topic's workers: gevent is used without monkey-patching, in the loop of the test's own thread."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from hopd.amqp.wire import Delivery
from hopd.engine.executor import Abandoned
from hopd.engine.workers import TURN, Workers
from tests.support.loop import run_until, take_turns


def delivery(tag: int) -> Delivery:
    return Delivery(1, tag, False, b"", b"", b"")


class Bench:
    """Workers whose jobs are recorded: what began, what ended, and how many ran at once at most."""

    def __init__(self, concurrency: int, job: Callable[[int], object] = lambda tag: None) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.peak = 0
        self._job = job
        self.workers = Workers(concurrency, self._run)

    def add(self, *tags: int) -> None:
        for tag in tags:
            self.workers.add(delivery(tag))

    def empty(self) -> list[int]:
        return [waiting.tag for waiting in self.workers.empty()]

    def _run(self, one: Delivery) -> None:
        self.began.append(one.tag)
        self.peak = max(self.peak, len(self.began) - len(self.ended))
        try:
            self._job(one.tag)
        finally:
            self.ended.append(one.tag)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(concurrency: int, job: Callable[[int], object] = lambda tag: None) -> Bench:
        made.append(Bench(concurrency, job))
        return made[-1]

    yield make
    for one in made:
        one.workers.abandon()


Make = Callable[..., Bench]


def test_every_delivery_is_run_once_in_the_order_of_arrival(bench: Make) -> None:
    one = bench(1)

    one.add(*range(100))
    run_until(lambda: len(one.ended) == 100)

    assert one.began == list(range(100))


def test_never_more_than_concurrency_run_at_once(bench: Make) -> None:
    one = bench(3, lambda tag: gevent.sleep(0.001))

    one.add(*range(30))
    run_until(lambda: len(one.ended) == 30)

    assert one.peak == 3


def test_a_burst_that_meets_idle_workers_runs_as_many_as_concurrency_at_once(bench: Make) -> None:
    # Given two workers that have worked before and are idle
    gate = Event()
    one = bench(5, lambda tag: gate.wait() if tag >= 0 else None)
    one.add(-1, -2)
    run_until(lambda: len(one.ended) == 2)

    # When more jobs arrive in one turn than there are idle workers
    one.add(*range(10))
    run_until(lambda: one.workers.running == 5)
    take_turns(20)

    # Then every slot is used, and no more
    assert one.workers.running == 5
    gate.set()


def test_an_idle_worker_is_used_again(bench: Make) -> None:
    workers: set[object] = set()
    one = bench(10, lambda tag: workers.add(gevent.getcurrent()))

    for tag in range(5):
        one.add(tag)
        run_until(partial(one.ended.__contains__, tag))

    assert len(workers) == 1


def test_jobs_that_never_wait_need_one_worker_however_many_come_at_once(bench: Make) -> None:
    workers: set[object] = set()
    one = bench(10, lambda tag: workers.add(gevent.getcurrent()))

    one.add(*range(100))
    run_until(lambda: len(one.ended) == 100)

    assert len(workers) == 1


def test_jobs_that_wait_all_start_in_the_turn_in_which_they_come(bench: Make) -> None:
    gate = Event()
    one = bench(100, lambda tag: gate.wait())

    one.add(*range(100))
    take_turns(1)
    running = one.workers.running
    gate.set()

    assert running == 100


def test_an_idle_worker_keeps_nothing_of_its_last_job(bench: Make) -> None:
    class Watched(Delivery):
        """A delivery that one can see go."""

    one = bench(1)
    last = Watched(1, 1, False, b"", b"", b"a body of any size")
    gone = weakref.ref(last)

    one.workers.add(last)
    del last
    run_until(lambda: one.ended)
    take_turns(1)

    assert gone() is None


def test_nothing_starts_while_held_and_all_of_it_later(bench: Make) -> None:
    one = bench(2)
    one.workers.hold()

    one.add(*range(10))
    take_turns(20)
    held = list(one.began)
    one.workers.go_on()
    run_until(lambda: len(one.ended) == 10)

    assert held == []


def test_after_a_hold_as_many_as_concurrency_run_at_once_again(bench: Make) -> None:
    gate = Event()
    one = bench(4, lambda tag: gate.wait())
    one.workers.hold()
    one.add(*range(10))
    take_turns(20)

    one.workers.go_on()

    run_until(lambda: one.workers.running == 4)
    gate.set()
    run_until(lambda: len(one.ended) == 10)


def test_jobs_that_run_when_the_hold_comes_finish(bench: Make) -> None:
    gate = Event()
    one = bench(2, lambda tag: gate.wait())
    one.add(1, 2, 3)
    run_until(lambda: one.workers.running == 2)

    one.workers.hold()
    gate.set()
    run_until(lambda: one.workers.running == 0)

    assert one.ended == [1, 2]
    assert one.empty() == [3]


def test_empty_returns_exactly_what_waits_in_its_order(bench: Make) -> None:
    gate = Event()
    one = bench(2, lambda tag: gate.wait())
    one.add(*range(6))
    run_until(lambda: one.workers.running == 2)

    waiting = one.empty()
    gate.set()
    run_until(lambda: one.workers.running == 0)

    assert waiting == [2, 3, 4, 5]
    assert one.began == [0, 1]


def test_jobs_that_never_wait_do_not_keep_others_from_the_loop(bench: Make) -> None:
    # Given jobs that together use many turns' worth of time and never wait
    jobs = 50

    def busy(tag: int) -> None:
        until = perf_counter() + TURN / 5
        while perf_counter() < until:
            pass

    one = bench(2, busy)
    seen: list[int] = []

    def other() -> None:
        while len(one.ended) < jobs:
            seen.append(len(one.ended))
            gevent.sleep(0)

    # When another greenlet wants turns meanwhile
    one.add(*range(jobs))
    gevent.spawn(other).join()

    # Then between two of its turns there is about one turn of jobs, not all of them
    assert max(later - earlier for earlier, later in zip(seen, [*seen[1:], jobs], strict=True)) < jobs / 2


def test_abandon_interrupts_what_runs_and_counts_it(bench: Make) -> None:
    interrupted: list[int] = []

    def job(tag: int) -> None:
        try:
            Event().wait()
        except Abandoned:
            interrupted.append(tag)
            raise

    one = bench(3, job)
    one.add(*range(5))
    run_until(lambda: one.workers.running == 3)

    count = one.workers.abandon()

    assert count == 3
    assert sorted(interrupted) == [0, 1, 2]
    assert one.workers.running == 0
    assert one.empty() == [3, 4]


def test_abandon_does_not_wait_for_a_handler_that_will_not_go(bench: Make) -> None:
    gate = Event()

    def stubborn(tag: int) -> None:
        while not gate.is_set():
            try:
                gate.wait()
            except Abandoned:
                refused.append(tag)

    refused: list[int] = []
    one = bench(1, stubborn)
    one.add(7)
    run_until(lambda: one.workers.running == 1)

    assert one.workers.abandon() == 1
    assert refused == [7]
    gate.set()


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), SystemExit(3), KeyboardInterrupt(), gevent.Timeout(), gevent.GreenletExit()],
    ids=lambda error: type(error).__name__,
)
def test_a_worker_that_dies_in_a_job_is_replaced(bench: Make, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def job(tag: int) -> None:
        if tag == 1:
            raise error

    one = bench(1, job)
    caplog.set_level(logging.ERROR)

    one.add(1, 2, 3)

    run_until(lambda: one.ended == [1, 2, 3])
    assert one.workers.running == 0


def test_a_worker_that_dies_in_a_job_says_so_in_the_log(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    def job(tag: int) -> None:
        raise ValueError("a bug")

    one = bench(1, job)
    one.add(1)
    run_until(lambda: one.ended == [1])
    take_turns(5)

    record = next(record for record in caplog.records if vars(record).get("event") == "worker_failed")
    assert "a bug" in (record.exc_text or str(record.exc_info))


def test_a_timer_that_a_handler_left_behind_costs_no_later_job(bench: Make) -> None:
    # Given a handler that starts a timeout and forgets it, so that it goes off when its worker is idle
    timers: list[gevent.Timeout] = []

    def job(tag: int) -> None:
        if tag == 1:
            timers.append(gevent.Timeout.start_new(0.001))

    one = bench(1, job)
    one.add(1)
    run_until(lambda: timers and not timers[0].pending)
    take_turns(5)

    # When the next job comes
    one.add(2)

    # Then there is somebody to run it
    run_until(lambda: one.ended == [1, 2])


def test_a_timer_that_goes_off_just_when_a_job_arrives_costs_it_nothing(bench: Make) -> None:
    workers: list[gevent.Greenlet[..., None]] = []
    one = bench(1, lambda tag: workers.append(gevent.getcurrent()))
    one.add(1)
    run_until(lambda: one.ended == [1])
    take_turns(5)

    # When the idle worker is woken and interrupted in the same turn of the loop
    one.add(2)
    gevent.get_hub().loop.run_callback(workers[0].throw, gevent.Timeout())

    run_until(lambda: one.ended == [1, 2])


def test_a_worker_in_a_job_is_not_woken_for_another(bench: Make) -> None:
    # Given a worker that was idle, and then interrupted while a wake-up for it was on its way
    gate = Event()
    workers: list[gevent.Greenlet[..., None]] = []

    def job(tag: int) -> None:
        workers.append(gevent.getcurrent())
        if tag == 2:
            gevent.sleep(0.01)  # a wake-up meant for an idle worker would be an invalid switch here
            gate.set()

    one = bench(1, job)
    one.add(1)
    run_until(lambda: one.ended == [1])
    take_turns(5)
    gevent.get_hub().loop.run_callback(workers[0].throw, gevent.Timeout())
    one.add(2)

    run_until(lambda: one.ended == [1, 2])
    assert gate.is_set()


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 6)),
        st.tuples(st.just("turns"), st.integers(1, 4)),
        st.just(("hold", 0)),
        st.just(("go_on", 0)),
        st.just(("empty", 0)),
        st.just(("stray", 0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(concurrency=st.integers(1, 4), waits=st.lists(st.integers(0, 3), min_size=1, max_size=8), steps=_STEPS)
def test_each_delivery_is_run_or_returned_exactly_once(concurrency: int, waits: list[int], steps: list[tuple[str, int]]) -> None:
    """Whatever the order of add, hold, go_on and empty, however long jobs wait, and whatever hits an idle worker."""
    idle: set[gevent.Greenlet[..., None]] = set()

    def job(tag: int) -> None:
        idle.discard(gevent.getcurrent())
        take_turns(waits[tag % len(waits)])
        idle.add(gevent.getcurrent())

    one = Bench(concurrency, job)
    added, returned = 0, list[int]()
    for step, count in steps:
        if step == "add":
            one.add(*range(added, added + count))
            added += count
        elif step == "turns":
            take_turns(count)
        elif step == "hold":
            one.workers.hold()
        elif step == "go_on":
            one.workers.go_on()
        elif step == "empty":
            returned += one.empty()
        else:
            # From the hub, as a timer would: a greenlet that dies returns there, and not to whoever threw.
            for worker in [worker for worker in idle if not worker.dead]:
                gevent.get_hub().loop.run_callback(worker.throw, gevent.Timeout())
            take_turns(1)
    one.workers.go_on()
    run_until(lambda: not one.workers.inbox and one.workers.running == 0)
    one.workers.abandon()

    assert sorted(one.began + returned) == list(range(added))
    assert one.began == [] or one.peak <= concurrency
    assert sorted(one.ended) == sorted(one.began)
