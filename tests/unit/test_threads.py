"""Handlers in threads: what they return and raise, how they settle, and what becomes of those that run too long."""

from __future__ import annotations

import inspect
import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event

from hopd.amqp import frames
from hopd.amqp.settlement import Settlement
from hopd.amqp.wire import Delivery
from hopd.aside import COUNTED
from hopd.engine.threads import ThreadJob, Threads, in_loop
from hopd.engine.timeouts import JobKilled, Watch
from hopd.errors import AlreadySettled, JobTimeout, PutTimeout
from hopd.job import Job
from hopd.logs import RUNNING
from tests.support.loop import PATIENCE, run_until

Handler = Callable[[Job], object]


class Aside:
    """Where jobs are put aside, once its gate is open; keeps in which thread that was asked for."""

    def __init__(self) -> None:
        self.topic = "emails"
        self.instance: str | None = None
        self.counts: dict[str, int] = dict.fromkeys(COUNTED, 0)
        self.threads: set[int] = set()
        self.trouble: BaseException | None = None
        self.gate = Event()
        self.gate.set()

    def bury(self, delivery: Delivery, headers: Mapping[str, Any], deadline: float) -> None:
        self.threads.add(threading.get_ident())
        self.gate.wait()
        if self.trouble is not None:
            raise self.trouble

    def retry(self, delivery: Delivery, after: float, headers: Mapping[str, Any], deadline: float) -> None:
        self.bury(delivery, headers, deadline)


class Bench:
    """A topic's threads, and workers that wait for them."""

    def __init__(self, concurrency: int, handler: Handler) -> None:
        self.aside = Aside()
        self.settlement = Settlement(1, lambda settlement: None)
        self.threads = Threads("emails", concurrency, handler)
        self.handler: Handler = self.threads
        self.workers: list[gevent.Greenlet[..., BaseException | None]] = []
        self.jobs: list[ThreadJob] = []

    def start(self) -> gevent.Greenlet[..., BaseException | None]:
        """One more job in a worker, which returns what the job ended with."""
        one = Delivery(1, len(self.jobs) + 1, False, b"", b"\0\0", b"hello")
        one.settlement = self.settlement
        self.settlement.opened(one.tag)
        self.jobs.append(ThreadJob(one, self.aside))  # type: ignore[arg-type]

        def work(job: ThreadJob) -> BaseException | None:
            try:
                self.handler(job)
            except BaseException as error:  # noqa: BLE001 - what it ends with is what is tested
                return error
            return None

        self.workers.append(gevent.spawn(work, self.jobs[-1]))
        return self.workers[-1]

    def run(self) -> BaseException | None:
        worker = self.start()
        run_until(worker.ready)
        end: BaseException | None = worker.value
        return end

    def throw(self, number: int, error: BaseException) -> None:
        """What a watch does to a worker that waits for its thread."""
        run_until(lambda: self.threads.frame_of(self.workers[number]) is not None)
        gevent.get_hub().loop.run_callback(self.workers[number].throw, error)
        gevent.sleep(0)

    def close(self) -> None:
        run_until(lambda: self.threads.busy == 0)
        self.threads.stop()
        run_until(lambda: self.threads._pool.size == 0)

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.aside.counts.items() if count}


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(handler: Handler, concurrency: int = 4) -> Bench:
        made.append(Bench(concurrency, handler))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Gate:
    """Something that a handler in a thread waits for as C code would: nothing of gevent notices."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.entered = 0
        self.ended: list[BaseException | None] = []

    def __call__(self, job: Job) -> None:
        self.entered += 1
        assert self._event.wait(PATIENCE)

    def open(self) -> None:
        self._event.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if vars(record).get("event") == event]


# --- running ----------------------------------------------------------------------------------------


def test_a_handler_runs_in_a_thread_of_the_operating_system(bench: Callable[..., Bench]) -> None:
    seen: list[int] = []

    assert bench(lambda job: seen.append(threading.get_ident())).run() is None
    assert seen != [threading.get_ident()]


def test_the_loop_goes_on_while_a_thread_blocks(bench: Callable[..., Bench], gate: Gate) -> None:
    one = bench(gate)
    worker = one.start()

    run_until(lambda: gate.entered)  # which the loop's own timers do, while the thread waits
    gate.open()
    run_until(worker.ready)

    assert worker.value is None


def test_as_many_run_at_once_as_the_concurrency_says(bench: Callable[..., Bench]) -> None:
    barrier = threading.Barrier(4)
    one = bench(lambda job: barrier.wait(PATIENCE), concurrency=4)
    for _ in range(4):
        one.start()

    run_until(lambda: all(worker.ready() for worker in one.workers))

    assert [worker.value for worker in one.workers] == [None] * 4


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such user"),
        SystemExit(3),
        KeyboardInterrupt(),
        gevent.GreenletExit(),
        gevent.Timeout(1),
        StopIteration(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_comes_back_with_its_traceback(
    bench: Callable[..., Bench], error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    def handler(job: Job) -> None:
        raise error

    end = bench(handler).run()

    assert end is error
    assert "in handler" in "".join(traceback.format_exception(end))
    assert capfd.readouterr() == ("", "")  # the pool has nothing to say about it


def test_a_thread_serves_the_next_job_whatever_the_last_one_raised(bench: Callable[..., Bench]) -> None:
    def handler(job: Job) -> None:
        raise SystemExit(job.delivery.tag)

    one = bench(handler, concurrency=1)

    assert [getattr(one.run(), "code", None) for _ in range(3)] == [1, 2, 3]
    assert one.threads.busy == 0


def test_the_log_knows_the_job_inside_the_thread(bench: Callable[..., Bench]) -> None:
    seen: list[Any] = []
    one = bench(lambda job: seen.append(RUNNING.get()))

    one.run()

    assert seen == one.jobs


def test_a_job_can_be_read_in_the_thread(bench: Callable[..., Bench]) -> None:
    seen: list[Any] = []

    bench(lambda job: seen.append((job.body, job.topic, job.attempt, dict(job.headers), job.outcome))).run()

    assert seen == [(b"hello", "emails", 1, {}, None)]


# --- settling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settle", "sent", "outcome"),
    [
        (lambda job: job.done(), frames.ack(1, 1, False), "done"),
        (lambda job: job.fail(requeue=True), frames.reject(1, 1, True), "requeued"),
        (lambda job: job.fail(), frames.reject(1, 1, False), "dropped"),
        (lambda job: job.drop(), frames.ack(1, 1, False), "dropped"),
        (lambda job: job.give_back(), frames.nack(1, 1, True), "requeued"),
        (lambda job: job.retry(5), frames.ack(1, 1, False), "delayed"),
        (lambda job: job.bury("broken"), frames.ack(1, 1, False), "buried"),
    ],
    ids=["done", "requeue", "fail", "drop", "give back", "retry", "bury"],
)
def test_a_handler_settles_its_job_from_the_thread(bench: Callable[..., Bench], settle: Handler, sent: bytes, outcome: str) -> None:
    said: list[object] = []
    one = bench(lambda job: said.append(settle(job)))

    assert one.run() is None
    assert said == [True]
    assert one.settlement.take(0.0) == sent
    assert one.jobs[0].outcome == outcome
    assert one.counts == {outcome: 1}


def test_every_way_to_settle_a_job_is_carried_out_at_home() -> None:
    settle = {name for name, method in vars(Job).items() if inspect.isfunction(method) and method.__annotations__.get("return") == "bool"}

    assert {"done", "fail", "retry", "bury", "_settled"} <= settle
    assert {name for name in settle if not name.startswith("_")} <= vars(ThreadJob).keys()


def test_nothing_of_the_connection_is_touched_in_the_thread(bench: Callable[..., Bench]) -> None:
    one = bench(lambda job: job.bury("broken"))

    one.run()

    assert one.aside.threads == {threading.get_ident()}


def test_the_worker_itself_settles_at_once(bench: Callable[..., Bench]) -> None:
    one = bench(lambda job: None)
    one.run()

    assert one.jobs[0].done() is True
    assert one.settlement.take(0.0) == frames.ack(1, 1, False)


def test_settling_twice_is_an_error_in_the_thread(bench: Callable[..., Bench]) -> None:
    def handler(job: Job) -> None:
        job.done()
        job.fail()

    one = bench(handler)

    assert isinstance(one.run(), AlreadySettled)
    assert one.counts == {"done": 1}


def test_a_settlement_that_fails_at_home_fails_in_the_thread(bench: Callable[..., Bench]) -> None:
    one = bench(lambda job: job.bury("broken"))
    one.aside.trouble = PutTimeout()

    assert isinstance(one.run(), PutTimeout)
    assert one.jobs[0].outcome is None


# --- what has to live in the loop ------------------------------------------------------------------


def test_a_handler_can_have_something_called_in_the_loop(bench: Callable[..., Bench]) -> None:
    seen: list[Any] = []

    def where(*arguments: int, **options: int) -> tuple[int, Any, Any]:
        gevent.sleep(0.001)  # it may wait there as any greenlet
        return threading.get_ident(), arguments, options

    bench(lambda job: seen.append(in_loop(where, 1, two=2))).run()

    assert seen == [(threading.get_ident(), (1,), {"two": 2})]


def test_what_it_raises_there_is_raised_in_the_thread(bench: Callable[..., Bench]) -> None:
    def fails() -> None:
        raise ValueError("in the loop")

    end = bench(lambda job: in_loop(fails)).run()

    assert isinstance(end, ValueError)
    assert "in fails" in "".join(traceback.format_exception(end))


def test_elsewhere_it_is_an_ordinary_call() -> None:
    assert in_loop(threading.get_ident) == threading.get_ident()


# --- too long ---------------------------------------------------------------------------------------


def test_a_timeout_abandons_the_thread_and_frees_the_worker(bench: Callable[..., Bench], gate: Gate) -> None:
    one = bench(gate, concurrency=1)
    worker = one.start()

    one.throw(0, JobTimeout())
    run_until(worker.ready)

    assert isinstance(worker.value, JobTimeout)
    assert (one.threads.abandoned, one.threads.busy) == (1, 1)


def test_another_thread_takes_the_place_of_an_abandoned_one(bench: Callable[..., Bench], gate: Gate) -> None:
    one = bench(gate, concurrency=1)
    one.start()
    one.throw(0, JobTimeout())

    one.start()

    run_until(lambda: gate.entered == 2)


def test_an_abandoned_thread_that_comes_back_makes_room_again(
    bench: Callable[..., Bench], gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = bench(gate, concurrency=1)
    one.start()
    one.throw(0, JobTimeout())

    gate.open()
    run_until(lambda: one.threads.abandoned == 0)

    assert one.threads.busy == 0
    assert [line["job"] for line in logged(caplog, "thread_returned")] == ["delivery-1"]
    assert one.run() is None
    run_until(lambda: one.threads._pool.size == 1)


def test_what_an_abandoned_thread_still_does_about_its_job_comes_too_late(bench: Callable[..., Bench], gate: Gate) -> None:
    late: list[object] = []

    def handler(job: Job) -> None:
        gate(job)
        try:
            late.append(job.done())
        except AlreadySettled as error:
            late.append(error)

    one = bench(handler)
    one.start()
    one.throw(0, JobTimeout())

    gate.open()  # although the policy has not settled the job so far: the broker may be away
    run_until(lambda: late)

    assert isinstance(late[0], AlreadySettled)
    assert one.jobs[0].outcome is None
    assert one.settlement.take(0.0) == b""


def test_what_an_abandoned_thread_raises_is_nobodys_any_more(
    bench: Callable[..., Bench], gate: Gate, capfd: pytest.CaptureFixture[str]
) -> None:
    def handler(job: Job) -> None:
        gate(job)
        raise SystemExit(1)

    one = bench(handler)
    one.start()
    one.throw(0, JobTimeout())
    gate.open()
    run_until(lambda: one.threads.abandoned == 0)

    assert capfd.readouterr() == ("", "")


def test_no_more_threads_are_abandoned_than_may_run(bench: Callable[..., Bench], gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    # Given as many abandoned threads as there may be, and one more job that runs too long
    one = bench(gate, concurrency=2)
    for number in range(3):
        one.start()
        one.throw(number, JobTimeout())
    held = not one.workers[2].ready()

    # When the others come back
    gate.open()
    run_until(one.workers[2].ready)

    # Then it could go on to its end
    assert held
    assert len(logged(caplog, "thread_limit")) == 1
    assert one.workers[2].value is None
    run_until(lambda: one.threads.abandoned == 0)


def test_a_timeout_that_had_to_wait_is_made_good_by_the_kill_that_follows(bench: Callable[..., Bench]) -> None:
    gates = [Gate(), Gate()]
    one = bench(lambda job: gates[job.delivery.tag - 1](job), concurrency=1)
    one.start()
    one.throw(0, JobTimeout())
    one.start()
    one.throw(1, JobTimeout())
    held = not one.workers[1].ready()

    gates[0].open()
    run_until(lambda: one.threads.abandoned == 0)
    one.throw(1, JobKilled())
    run_until(one.workers[1].ready)

    assert held
    assert isinstance(one.workers[1].value, JobKilled)
    gates[1].open()


def test_a_job_that_settles_itself_is_not_abandoned_meanwhile(bench: Callable[..., Bench]) -> None:
    one = bench(lambda job: job.bury("broken"))
    one.aside.gate.clear()
    worker = one.start()
    run_until(lambda: one.jobs[0].settling)

    one.throw(0, JobTimeout())
    held = not worker.ready()
    one.aside.gate.set()
    run_until(worker.ready)

    assert held
    assert worker.value is None
    assert one.jobs[0].outcome == "buried"
    assert one.threads.abandoned == 0


def test_a_result_that_arrives_with_the_timeout_counts(bench: Callable[..., Bench]) -> None:
    one = bench(lambda job: None)
    result: AsyncResult[BaseException | None] = AsyncResult()
    one.run()
    worker = gevent.spawn(one.threads._wait, one.jobs[0], result)
    gevent.sleep(0)

    # When the throw is due first, and then the result is there before it happens
    gevent.get_hub().loop.run_callback(worker.throw, JobTimeout())
    result.set(None)
    run_until(worker.ready)

    assert worker.successful()
    assert one.threads.abandoned == 0


def test_a_worker_that_is_thrown_out_leaves_its_thread_behind(bench: Callable[..., Bench], gate: Gate) -> None:
    """At the end of the daemon's grace period."""

    class Abandoned(BaseException):
        pass

    one = bench(gate)
    worker = one.start()
    one.throw(0, Abandoned())
    run_until(worker.ready)

    assert isinstance(worker.value, Abandoned)
    assert one.threads.busy == 1


# --- under a watch ------------------------------------------------------------------------------------


def blocks_in_c(job: Job) -> None:
    GATE.wait(PATIENCE)


def waits_in_gevent(job: Job) -> None:
    while not GATE.is_set():
        gevent.sleep(0.001)


GATE = threading.Event()


@pytest.mark.parametrize("handler", [blocks_in_c, waits_in_gevent])
def test_the_log_of_a_timeout_tells_where_the_thread_was(
    bench: Callable[..., Bench], handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    GATE.clear()
    one = bench(handler)
    watch = Watch("emails", 0.05, 0.05, one.threads.frame_of)
    one.handler = watch.guard(one.threads)
    watch.start()
    try:
        worker = one.start()
        run_until(worker.ready)
    finally:
        GATE.set()
        watch.stop()

    (line,) = logged(caplog, "job_timeout")
    assert isinstance(worker.value, JobTimeout)
    assert f"in {handler.__name__}" in logging.Formatter().formatException(line["exc_info"])
