"""A topic's time limit: `JobTimeout` is raised in a handler that runs too long, and its greenlet is killed if that does not help.

There is no timer for each job. The jobs of a topic all have the same limit and so come due in the order of their start;
one sweeper sleeps until the oldest does. `gevent.Timeout` is not used: it is a BaseException, which passes the handlers'
`except Exception` and leaves what their pools have lent out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Any

import gevent
from gevent import getcurrent
from gevent.hub import get_hub

from hopd.engine.stacks import traceback_of
from hopd.errors import JobTimeout
from hopd.job import Job
from hopd.units import format_duration

LOGGER = logging.getLogger(__name__)

Greenlet = Any  # gevent.Greenlet[..., Any], whose parameters nobody needs here

#: How much later than its time a job may be found overdue, as a part of the limit, and within these bounds in seconds:
#: so that topics with short jobs are not looked at all the time.
GRAIN, SHORTEST_GRAIN, LONGEST_GRAIN = 0.01, 0.005, 1.0


def frame_of(worker: Greenlet) -> FrameType | None:
    """The innermost call of a worker that waits."""
    frame: FrameType | None = worker.gr_frame
    return frame


class JobKilled(BaseException):
    """Thrown into a handler that went on after `JobTimeout`. No Exception: what swallowed the first would swallow this too."""


@dataclass(slots=True)
class _Overdue:
    """A job that was told that its time is up, and when it is to be killed (monotonic seconds) unless it ends."""

    job: Job
    kill_at: float
    kills: int = 0


class Watch:
    """Watches over the running jobs of one topic. Its duties:

    1. know what runs, and since when, at the cost of an entry in a dict;
    2. raise `JobTimeout` in what runs for longer than `timeout` seconds, and log where it was;
    3. kill what still runs `kill_after` seconds later, and again as long as it does not go;
    4. never hit anything but the handler of that very job: neither the settling afterwards, nor the worker's next job.

    `where` finds the innermost call of the handler that a worker runs.
    """

    def __init__(self, topic: str, timeout: float, kill_after: float, where: Callable[[Greenlet], FrameType | None] = frame_of) -> None:
        self.timed_out = 0
        self._topic = topic
        self._timeout = timeout
        self._kill_after = kill_after
        self._where = where
        self._grain = min(LONGEST_GRAIN, max(SHORTEST_GRAIN, GRAIN * timeout))
        # By worker, each in the order in which they come due.
        self._running: dict[Greenlet, tuple[Job, float]] = {}
        self._overdue: dict[Greenlet, _Overdue] = {}
        self._sweeper: Greenlet = None

    def guard(self, handler: Callable[[Job], object]) -> Callable[[Job], None]:
        """The handler with this limit: it raises what the handler raises, and `JobTimeout` when it had to be killed."""
        running, overdue = self._running, self._overdue

        def guarded(job: Job) -> None:
            worker = getcurrent()
            running[worker] = job, monotonic()
            try:
                handler(job)
            except JobKilled as killed:
                raise JobTimeout(self._text("The job was killed: it went on after JobTimeout was raised in it")) from killed
            finally:
                # Nothing switches between the handler's end and this, so nothing that is meant for the handler comes later.
                if running.pop(worker, None) is None:
                    del overdue[worker]

        return guarded

    def start(self) -> None:
        """Begin to look."""
        self._sweeper = gevent.spawn(self._sweep)

    def stop(self) -> None:
        """Look no more."""
        if self._sweeper is not None:
            self._sweeper.kill(block=False)

    # --- the sweeper --------------------------------------------------------------------------

    def _sweep(self) -> None:
        while True:
            gevent.sleep(self._pause(monotonic()))
            now = monotonic()
            self._expire(now)
            self._kill(now)

    def _pause(self, now: float) -> float:
        """Seconds until the next is due. What starts meanwhile comes later than all that runs now."""
        at = now + self._timeout
        for _, started in self._running.values():
            at = started + self._timeout
            break
        for overdue in self._overdue.values():
            at = min(at, overdue.kill_at)
            break
        return max(self._grain, at - now)

    def _expire(self, now: float) -> None:
        while self._running:
            worker, (job, started) = next(iter(self._running.items()))
            if started + self._timeout > now:
                break
            del self._running[worker]
            self._overdue[worker] = overdue = _Overdue(job, now + self._kill_after)
            get_hub().loop.run_callback(self._raise_timeout, worker, overdue)

    def _kill(self, now: float) -> None:
        while self._overdue:
            worker, overdue = next(iter(self._overdue.items()))
            if overdue.kill_at > now:
                break
            overdue.kill_at = now + self._kill_after
            self._overdue[worker] = self._overdue.pop(worker)  # to the end: it is the last to come due again
            get_hub().loop.run_callback(self._raise_kill, worker, overdue)

    # --- in the hub, where nothing happens between the look and the throw -----------------------

    def _raise_timeout(self, worker: Greenlet, overdue: _Overdue) -> None:
        if self._overdue.get(worker) is not overdue:
            return
        self.timed_out += 1
        error = JobTimeout(self._text("The job runs too long"))
        self._log(worker, overdue.job, error, "job_timeout", "A job of %s runs longer than %s: JobTimeout is raised in it")
        worker.throw(error)

    def _raise_kill(self, worker: Greenlet, overdue: _Overdue) -> None:
        if self._overdue.get(worker) is not overdue:
            return
        overdue.kills += 1
        if overdue.kills.bit_count() == 1:  # the first, second, fourth, eighth …: a handler may hold out for days
            error = JobTimeout(self._text("The job goes on after JobTimeout"))
            self._log(worker, overdue.job, error, "job_killed", "A job of %s goes on after its timeout of %s: it is killed")
        worker.throw(JobKilled())

    def _log(self, worker: Greenlet, job: Job, error: JobTimeout, event: str, text: str) -> None:
        extra = {"event": event, "topic": self._topic, "job": job.log_id}
        stack = (JobTimeout, error, traceback_of(self._where(worker)))
        LOGGER.warning(text, self._topic, format_duration(self._timeout), extra=extra, exc_info=stack)

    def _text(self, what: str) -> str:
        return f"{what} (the timeout of {self._topic} is {format_duration(self._timeout)})"
