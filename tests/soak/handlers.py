"""What the daemons of the soak run. The name of a handler is that of its topic.

A job that came to its end writes its id into the ledger, and every handler does that last: what it wrote before it was cut off
would hide a loss.
"""

from __future__ import annotations

import os
import time

from hopd import Job, JobTimeout
from tests.soak import topics
from tests.support import ledger
from tests.support.stamp import put_at

#: How exact the clocks are that a delay goes by: the broker's, in milliseconds, and three of ours. Seconds.
GRAIN = 0.05


class Refused(Exception):
    """A handler fails because it is meant to."""


def quick(job: Job) -> None:
    """Succeeds at once."""
    ledger.handle(job)


def quorum(job: Job) -> None:
    """Succeeds at once; the topic's queue is a quorum queue."""
    ledger.handle(job)


def sleeper(job: Job) -> None:
    """Waits for 5 to 200 ms."""
    time.sleep(0.005 * (1 + _dice(job, 40)))
    ledger.handle(job)


def flaky(job: Job) -> None:
    """Fails up to twice, and succeeds then."""
    if job.attempt <= _dice(job, 3):
        raise Refused("not this time")
    ledger.handle(job)


def requeued(job: Job) -> None:
    """Fails until it has been delivered before."""
    if not job.redelivered:
        raise Refused("only when it is requeued")
    ledger.handle(job)


def doomed(job: Job) -> None:
    """Fails always, and is buried."""
    raise Refused("never")


def settler(job: Job) -> None:
    """Settles its jobs itself: one in ten is buried, one in ten tried again later."""
    choice = _dice(job, 10)
    if choice == 0:
        job.bury("this one wants to be buried")
    elif choice == 1 and job.attempt == 1:
        job.retry(after=0.25)
    else:
        ledger.handle(job)
        job.done()


def moody(job: Job) -> None:
    """Fails while a service is down, whatever the job is."""
    if os.path.exists(os.environ[topics.OUTAGE]):
        raise Refused("the service is down")
    ledger.handle(job)


def threaded(job: Job) -> None:
    """Computes without yielding, in a thread."""
    sum(number * number for number in range(20_000))
    ledger.handle(job)


def hanging(job: Job) -> None:
    """Hangs the first time. Half of its jobs also ignore that their time is up, and have to be killed."""
    if job.attempt > 1:
        ledger.handle(job)
        return
    try:
        time.sleep(topics.FOR_EVER)
    except JobTimeout:
        if _dice(job, 2):
            raise
        time.sleep(topics.FOR_EVER)


def delayed(job: Job) -> None:
    """Succeeds, but not before its time."""
    message_id = job.message_id or ""
    early = time.monotonic() < put_at(message_id) + float(job.headers[topics.DELAY]) - GRAIN
    ledger.record(os.environ[ledger.VARIABLE], topics.EARLY + message_id if early else message_id)


def poison(job: Job) -> None:
    """Ends the process, and is buried when it has done so too often."""
    os._exit(topics.POISONED)


def _dice(job: Job, sides: int) -> int:
    return topics.dice(job.message_id or "", sides)
