"""Running one job: handler, outcome, settlement. What to do with a failure is decided by the policy and done here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import random
from time import time
from typing import Any

import gevent

from hopd import errors, names
from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.config.retry import Bury, Done, Drop, FailurePolicy, Outcome, Requeue, RetryAfter
from hopd.delay import MARK, PLAIN, early
from hopd.engine import forked
from hopd.errors import AlreadySettled, Decision, ForkedProcess, HopError, UndecodableJob
from hopd.failure import error_behind, one_line
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

    def __init__(
        self,
        handler: Callable[[Job], object],
        policy: FailurePolicy,
        aside: Aside,
        job_type: type[Job] = Job,
        max_body: int | None = None,
    ) -> None:
        #: What runs a job; may be exchanged at any time.
        self.handler = handler
        #: Called with each job whose handler failed, before it is settled.
        self.on_failed: Callable[[Job], None] = _nobody_asks
        self._job_type = job_type
        self._policy = policy
        self._aside = aside
        self._max_body = sys.maxsize if max_body is None else max_body

    def run(self, delivery: Delivery) -> None:
        """Run the job to its settlement. Whatever the handler raises, only `Abandoned` leaves."""
        raw = delivery.raw_properties
        # `find` costs a third of `in`, and the comparison a third of that (measured).
        if ((raw > PLAIN and raw.find(MARK) >= 0) or len(delivery.body) > self._max_body) and self._is_not_to_run(delivery):
            return
        job = self._job_type(delivery, self._aside)
        RUNNING.set(job)
        try:
            self.handler(job)
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit, KeyboardInterrupt, GreenletExit: a handler must not end the daemon
            self._raised(job, error)
        else:
            if job.outcome is None:
                self._done(job)
        finally:
            RUNNING.set(None)

    def _is_not_to_run(self, delivery: Delivery) -> bool:
        """Whether the job came before its time, or is too large: then it is on its way elsewhere when this returns."""
        wait = early(delivery.raw_properties, time())
        if wait is not None:
            job = Job(delivery, self._aside)
            self._insist(job, lambda: job.wait_on(wait))
            return True
        size = len(delivery.body)
        if size <= self._max_body:
            return False
        tried = self._attempt(Job(delivery, self._aside))[0] - 1
        self.bury_unrun(delivery, f"its body has {size} bytes, max_body allows {self._max_body}", {names.ATTEMPTS: tried})
        return True

    def bury_unrun(self, delivery: Delivery, reason: str, headers: Mapping[str, Any]) -> None:
        """Bury the job instead of running it, with `headers` added."""
        job = Job(delivery, self._aside)
        extra = {"event": "buried_unrun", "topic": job.topic, "job": job.log_id, "reason": reason}
        LOGGER.error("A job of %s is buried: %s", job.topic, reason, extra=extra)
        self._insist(job, lambda: job.bury(reason, headers))

    def _done(self, job: Job) -> None:
        try:
            job.done()
        except AlreadySettled as error:
            self._settled_elsewhere(job, error)
        except ForkedProcess:
            forked.leave(None)

    def _raised(self, job: Job, error: BaseException) -> None:
        if forked.in_child:
            forked.leave(error)
        # Only of a settled job does the error say that it was settled; else it is about another job that the handler holds.
        if isinstance(error, (AlreadySettled, Decision)) and job.outcome is not None:
            self._settled_elsewhere(job, error)
        elif isinstance(error, (errors.Retry, errors.Bury, errors.Drop)):
            self._decided(job, error)
        else:
            self._failed(job, error)

    def _settled_elsewhere(self, job: Job, error: HopError) -> None:
        """The handler settled twice, or another greenlet settled while it ran. The first settlement stands."""
        LOGGER.warning("A job of %s was settled twice: %s", job.topic, error, extra={"event": "settled_twice"}, exc_info=error)

    def _decided(self, job: Job, decision: Decision) -> None:
        """The handler chose what becomes of its job, as if it had called the job's method: this is no failure."""
        attempt, policy = self._attempt(job)
        outcome = policy.decide(attempt, decision, random())
        LOGGER.info("A job of %s: %s", job.topic, one_line(decision), extra=_about(job, "job_decided", attempt, outcome))
        self._settle_failed(job, outcome, error_behind(decision))

    def _failed(self, job: Job, error: BaseException) -> None:
        self._aside.counts["failed"] += 1
        self.on_failed(job)
        attempt, policy = self._attempt(job)
        outcome: Outcome = policy.decide(attempt, error, random()) if job.outcome is None else Done()
        # One that is tried again is not yet a case for a person.
        level = logging.WARNING if isinstance(outcome, RetryAfter) else logging.ERROR
        extra = _about(job, "job_failed", attempt, outcome)
        LOGGER.log(level, "A job of %s failed: %s", job.topic, one_line(error), extra=extra, exc_info=error)
        self._settle_failed(job, outcome, error)

    def _attempt(self, job: Job) -> tuple[int, FailurePolicy]:
        """The job's attempt, and the policy for it: a job whose headers cannot be read would return without them, so it does not return."""
        try:
            return job.attempt, self._policy
        except UndecodableJob:
            return 1, replace(self._policy, retry=None)

    def _settle_failed(self, job: Job, outcome: Outcome, error: BaseException | None) -> None:
        self._insist(job, lambda: self._perform(job, outcome, error))

    def _insist(self, job: Job, settle: Callable[[], object]) -> None:
        """Do it, however long it takes: the job stays ours until it is safe, neither lost, nor run again only because the broker
        is away. Should its own channel go meanwhile, the next try finds it lost."""
        pause = 0.0
        while job.outcome is None:
            try:
                if pause:
                    gevent.sleep(pause)
                settle()
            except AlreadySettled as late:
                self._settled_elsewhere(job, late)
                return
            except Abandoned:
                raise
            except BaseException as trouble:  # noqa: BLE001 - also a timer that the handler left running must not lose the job
                text = "A job of %s cannot be settled yet: %s"
                extra = {"event": "aside_waits", "topic": job.topic, "job": job.log_id}
                LOGGER.warning(text, job.topic, one_line(trouble), extra=extra)
                pause = ASIDE_PAUSE

    def _perform(self, job: Job, outcome: Outcome, error: BaseException | None) -> None:
        """The one place that does what was decided about a failed job."""
        if isinstance(outcome, Bury):
            job.bury(outcome.reason, error=error)
        elif isinstance(outcome, RetryAfter):
            job.retry(outcome.seconds, error=error)
        elif isinstance(outcome, Requeue):
            gevent.sleep(REQUEUE_PACE)
            job.fail(requeue=True)
        elif isinstance(outcome, Drop):
            job.drop()
        else:
            job.done()


def _nobody_asks(_job: Job) -> None:
    """There is no breaker."""


def _about(job: Job, event: str, attempt: int, outcome: Outcome) -> dict[str, Any]:
    """What finds the job in a log, and what became of it."""
    about = {"event": event, "topic": job.topic, "job": job.log_id, "attempt": attempt, "outcome": _word(outcome, job)}
    return {**about, "delay": round(outcome.seconds, 3)} if isinstance(outcome, RetryAfter) else about


def _word(outcome: Outcome, job: Job) -> str:
    if job.outcome is not None:
        return job.outcome
    return {Bury: "buried", RetryAfter: "delayed", Requeue: "requeued", Drop: "dropped", Done: "done"}[type(outcome)]
