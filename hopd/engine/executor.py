"""Running one job: handler, outcome, settlement. What to do with a failure is decided by the policy and done here."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from random import random
from typing import Any

import gevent

from hopd import names
from hopd.amqp.wire import Delivery
from hopd.aside import Aside, trimmed
from hopd.config.retry import Bury, Done, Drop, FailurePolicy, Outcome, Requeue, RetryAfter, describe
from hopd.errors import AlreadySettled, UndecodableJob
from hopd.job import Job
from hopd.logs import RUNNING

LOGGER = logging.getLogger(__name__)

#: A failed job that goes straight back would come straight again: its slot waits, so that a topic that always fails makes
#: `concurrency` tries in this time and not as many as the machine can. Seconds.
REQUEUE_PACE = 1.0

#: Between two tries to settle a failed job when the broker does not take it. Seconds.
ASIDE_PAUSE = 2.0


class Abandoned(BaseException):
    """Thrown into a worker whose time is up: its job stays unsettled and returns to the topic."""


class Executor:
    """Runs the jobs of one topic, one at a time for each worker that calls it."""

    def __init__(self, handler: Callable[[Job], object], policy: FailurePolicy, aside: Aside) -> None:
        self._handler = handler
        self._policy = policy
        self._aside = aside

    def run(self, delivery: Delivery) -> None:
        """Run the job to its settlement. Whatever the handler raises, only `Abandoned` leaves."""
        job = Job(delivery, self._aside)
        RUNNING.set(job)
        try:
            self._handler(job)
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit, KeyboardInterrupt, GreenletExit: a handler must not end the daemon
            self._raised(job, error)
        else:
            if job.outcome is None:
                self._done(job)
        finally:
            RUNNING.set(None)

    def _done(self, job: Job) -> None:
        try:
            job.done()
        except AlreadySettled as error:
            self._settled_elsewhere(job, error)

    def _raised(self, job: Job, error: BaseException) -> None:
        # Only of a settled job does the error say that it was settled; else it is about another job that the handler holds.
        if isinstance(error, AlreadySettled) and job.outcome is not None:
            self._settled_elsewhere(job, error)
        else:
            self._failed(job, error)

    def _settled_elsewhere(self, job: Job, error: AlreadySettled) -> None:
        """The handler settled twice, or another greenlet settled while it ran. The first settlement stands."""
        LOGGER.warning("A job of %s was settled twice: %s", job.topic, error, extra={"event": "settled_twice"}, exc_info=error)

    def _failed(self, job: Job, error: BaseException) -> None:
        self._aside.counts["failed"] += 1
        attempt = attempt_of(job)
        outcome: Outcome = self._policy.decide(attempt, error, random()) if job.outcome is None else Done()
        extra = {"event": "job_failed", "topic": job.topic, "job": job.log_id, "attempt": attempt, "outcome": _word(outcome, job)}
        LOGGER.error("A job of %s failed: %s", job.topic, _one_line(error), extra=extra, exc_info=error)
        self._settle_failed(job, outcome, error)

    def _settle_failed(self, job: Job, outcome: Outcome, error: BaseException) -> None:
        """Do it, however long it takes: the job stays ours until it is safe, neither lost, nor run again only because the broker
        is away. Should its own channel go meanwhile, the next try finds it lost."""
        pause = 0.0
        while job.outcome is None:
            try:
                if pause:
                    gevent.sleep(pause)
                self._perform(job, outcome, error)
            except AlreadySettled as late:
                self._settled_elsewhere(job, late)
                return
            except Abandoned:
                raise
            except BaseException as trouble:  # noqa: BLE001 - also a timer that the handler left running must not lose the job
                text = "A failed job of %s cannot be settled yet: %s"
                extra = {"event": "aside_waits", "topic": job.topic, "job": job.log_id}
                LOGGER.warning(text, job.topic, _one_line(trouble), extra=extra)
                pause = ASIDE_PAUSE

    def _perform(self, job: Job, outcome: Outcome, error: BaseException) -> None:
        """The one place that does what was decided about a failed job."""
        if isinstance(outcome, Bury):
            job.bury(outcome.reason, error_headers(error))
        elif isinstance(outcome, RetryAfter):
            job.retry(outcome.seconds)
        elif isinstance(outcome, Requeue):
            gevent.sleep(REQUEUE_PACE)
            job.fail(requeue=True)
        elif isinstance(outcome, Drop):
            job.fail(requeue=False)
        else:
            job.done()


def error_headers(error: BaseException) -> Mapping[str, Any]:
    """What a buried job tells about its end."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {
        names.ERROR_TYPE: f"{type(error).__module__}.{type(error).__qualname__}",
        names.ERROR_MESSAGE: trimmed(_one_line(error)),
        # The end of a traceback says most.
        names.ERROR_TRACEBACK: trace[-8000:].encode("utf-8", "backslashreplace").decode(),
        names.FIRST_FAILED_AT: datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }


def attempt_of(job: Job) -> int:
    """The job's attempt; 1 when its headers cannot be read."""
    try:
        return job.attempt
    except UndecodableJob:
        return 1


def _one_line(error: BaseException) -> str:
    return " ".join(describe(error).split())


def _word(outcome: Outcome, job: Job) -> str:
    if job.outcome is not None:
        return job.outcome
    return {Bury: "buried", RetryAfter: "delayed", Requeue: "requeued", Drop: "dropped", Done: "done"}[type(outcome)]
