"""`executor: thread`: handlers that cannot yield, because they wait in C, run in threads of the operating system.

A worker waits for its thread as it would wait for a handler, so pausing, draining, timeouts and the failure policy are the
same for both. Nothing of a job's settling happens in the thread: it asks for it, and it is carried out where the
connection lives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, ParamSpec, TypeVar

import gevent
from gevent import getcurrent, monkey
from gevent.event import AsyncResult
from gevent.hub import Hub, get_hub
from gevent.threadpool import ThreadPool

from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.delay import Wait
from hopd.engine import forked
from hopd.engine.timeouts import Greenlet, JobKilled
from hopd.errors import AlreadySettled, JobTimeout
from hopd.job import Job
from hopd.logs import RUNNING

LOGGER = logging.getLogger(__name__)

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

# Those of the operating system, whatever is patched.
_allocate_lock = monkey.get_original("_thread", "allocate_lock")
_current_thread = monkey.get_original("_thread", "get_ident")
_current_frames: Callable[[], dict[int, FrameType]] = monkey.get_original("sys", "_current_frames")


class ThreadJob(Job):
    """A job whose handler runs in a thread. It may be read there; settling it is carried out at home, in the thread of the hub."""

    __slots__ = ("_hub", "abandoned", "settling")

    def __init__(self, delivery: Delivery, aside: Aside) -> None:
        super().__init__(delivery, aside)
        self._hub = get_hub()
        # Both are touched at home only, and so need no lock.
        self.abandoned = False
        self.settling = False

    def done(self) -> bool:
        """See `Job.done`."""
        return self._at_home(super().done)

    def fail(self, requeue: bool = False) -> bool:
        """See `Job.fail`."""
        return self._at_home(lambda: super(ThreadJob, self).fail(requeue))

    def drop(self) -> bool:
        """See `Job.drop`."""
        return self._at_home(super().drop)

    def retry(self, *arguments: Any, **options: Any) -> bool:
        """See `Job.retry`."""
        return self._at_home(lambda: super(ThreadJob, self).retry(*arguments, **options))

    def bury(self, *arguments: Any, **options: Any) -> bool:
        """See `Job.bury`."""
        return self._at_home(lambda: super(ThreadJob, self).bury(*arguments, **options))

    def give_back(self) -> bool:
        """See `Job.give_back`."""
        return self._at_home(super().give_back)

    def wait_on(self, wait: Wait) -> bool:
        """See `Job.wait_on`."""
        return self._at_home(lambda: super(ThreadJob, self).wait_on(wait))

    def elsewhere(self) -> bool:
        """Whether this is asked in a thread, and not at home."""
        return bool(_current_thread() != self._hub.thread_ident)

    def at_home(self, do: Callable[[], Result]) -> Result:
        """Have something done at home, in a greenlet, and wait for its result, in a thread."""
        return Errand(do).run_at(self._hub)

    def _at_home(self, settle: Callable[[], bool]) -> bool:
        return self.at_home(lambda: self._settle(settle)) if self.elsewhere() else settle()

    def _settle(self, settle: Callable[[], bool]) -> bool:
        if self.abandoned:
            raise AlreadySettled(f"the job ran longer than the timeout of {self.topic}, which has decided about it meanwhile")
        self.settling = True
        try:
            return settle()
        finally:
            self.settling = False


def in_loop(function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
    """For handlers in threads: call the function in the event loop, and return or raise as it does.

    A thread sleeps between two jobs, and its connections with it. What has to live on, and what all threads share (a `WorkQueue` to
    put jobs with, for one), therefore lives in the loop. Anywhere but in a handler's thread it is an ordinary call.
    """
    job = RUNNING.get()
    if isinstance(job, ThreadJob) and job.elsewhere():
        return job.at_home(lambda: function(*arguments, **options))
    return function(*arguments, **options)


class Errand(Generic[Result]):
    """Something that a thread wants done in the thread of a hub, its home, and its result."""

    def __init__(self, do: Callable[[], Result]) -> None:
        self._do = do
        self._over = _allocate_lock()
        self._over.acquire()
        self._results: list[Result] = []
        self._error: BaseException | None = None

    def run_at(self, home: Hub) -> Result:
        """Have it done, and wait for the result in the thread, which has nothing else to do."""
        # A greenlet, because retry and bury wait for the broker, which a callback of the hub must not.
        home.loop.run_callback_threadsafe(gevent.spawn, self._carry_out)
        self._over.acquire()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _carry_out(self) -> None:
        try:
            self._results.append(self._do())
        except BaseException as error:  # noqa: BLE001 - it is the thread's, whatever it is, and is raised there
            self._error = error
        finally:
            self._over.release()


class _Call:
    """One job's handler in its thread, and where to find it."""

    __slots__ = ("_greenlet", "_handler", "_thread", "job")

    def __init__(self, handler: Callable[[Job], object], job: Job) -> None:
        self.job = job
        self._handler = handler
        self._thread = 0
        self._greenlet: Greenlet = None

    def run(self) -> BaseException | None:
        """In the thread: what the handler raised. Returned, because a pool takes what is raised for its own trouble, and reports it."""
        self._thread, self._greenlet = _current_thread(), getcurrent()
        RUNNING.set(self.job)
        failure: BaseException | None = None
        try:
            self._handler(self.job)
        except BaseException as error:  # noqa: BLE001 - the worker raises it
            failure = error
        finally:
            RUNNING.set(None)
        if forked.in_child:
            forked.leave(failure)
        return failure

    @property
    def frame(self) -> FrameType | None:
        """The handler's innermost call. When it waits in gevent (patched code in a thread), its greenlet knows, else its thread."""
        waiting = None if self._greenlet is None else self._greenlet.gr_frame
        return waiting or _current_frames().get(self._thread)


class Threads:
    """A topic's threads. Called with a job it runs the handler in one of them, and returns or raises as the handler does.

    A thread cannot be interrupted. When `JobTimeout` is raised in the worker that waits for one, the thread is abandoned: the
    worker goes on, a new thread takes the place of the old one, and what the old one still does about its job comes too late.
    At most as many are left behind as may run; at that limit a timeout has to wait for a thread to come back.
    """

    def __init__(self, topic: str, concurrency: int, handler: Callable[[Job], object]) -> None:
        self.abandoned = 0
        self._topic = topic
        self._limit = concurrency
        self._handler = handler
        self._pool = ThreadPool(concurrency)
        self._calls: dict[Greenlet, _Call] = {}

    def __call__(self, job: Job) -> None:
        """Run the job's handler in a thread, and wait for it. `job` is a `ThreadJob`."""
        assert isinstance(job, ThreadJob)
        call = _Call(self._handler, job)
        worker = getcurrent()
        self._calls[worker] = call
        try:
            failure = self._wait(job, self._pool.spawn(call.run))
        finally:
            del self._calls[worker]
        if failure is not None:
            raise failure

    def frame_of(self, worker: Greenlet) -> FrameType | None:
        """The innermost call of the handler that `worker` waits for."""
        call = self._calls.get(worker)
        return None if call is None else call.frame

    @property
    def busy(self) -> int:
        """How many threads run a handler, abandoned ones included."""
        return len(self._pool)

    def stop(self) -> None:
        """Let idle threads end, and busy ones when their handlers do. The process cannot wait for them; see `busy`."""
        self._pool.maxsize = 0

    def _wait(self, job: ThreadJob, result: AsyncResult[BaseException | None]) -> BaseException | None:
        while True:
            try:
                failure: BaseException | None = result.get()
                return failure
            except (JobTimeout, JobKilled) as timeout:
                if result.ready():
                    continue  # it made it just in time
                if not job.settling and self.abandoned < self._limit:
                    self._abandon(job, result)
                    raise
                # The kills that follow a timeout ask again: the job settles itself just now, or there is no room yet.
                if isinstance(timeout, JobTimeout) and not job.settling:
                    self._report_limit(job)
            except BaseException:
                # The daemon leaves. Nobody waits for the thread any more.
                self._abandon(job, result)
                raise

    def _report_limit(self, job: ThreadJob) -> None:
        extra = {"event": "thread_limit", "topic": self._topic, "job": job.log_id, "abandoned": self.abandoned}
        text = "A job of %s goes on after its timeout: %d threads are abandoned already, and no more can be"
        LOGGER.warning(text, self._topic, self.abandoned, extra=extra)

    def _abandon(self, job: ThreadJob, result: AsyncResult[BaseException | None]) -> None:
        job.abandoned = True
        self.abandoned += 1
        self._pool.maxsize += 1
        result.rawlink(lambda _result: self._came_back(job))

    def _came_back(self, job: ThreadJob) -> None:
        self.abandoned -= 1
        self._pool.maxsize = max(0, self._pool.maxsize - 1)
        extra = {"event": "thread_returned", "topic": self._topic, "job": job.log_id, "abandoned": self.abandoned}
        LOGGER.info("An abandoned thread of %s has come back", self._topic, extra=extra)
