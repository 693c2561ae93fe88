"""Handlers of the fault tests."""

from __future__ import annotations

import os
import time

import gevent
from gevent.event import Event

from hopd import Job
from tests.support import ledger
from tests.support.handlers import GATE

#: What the length of a body is told in.
LENGTH = "length"

#: Prefix in the ledger of a job whose body is not the one that was put.
WRONG = "wrong body of "

_OPEN = Event()
_WATCHERS: list[object] = []


def body_of(message_id: str, length: int) -> bytes:
    """The body that belongs to a message id."""
    return (message_id.encode() * (length // len(message_id) + 1))[:length]


def whole(job: Job) -> None:
    """Write the id down, and whether the body is the one that was put."""
    message_id = job.message_id or ""
    right = job.body == body_of(message_id, int(job.headers[LENGTH]))
    ledger.record(os.environ[ledger.VARIABLE], message_id if right else WRONG + message_id)


def look(job: Job) -> None:
    """Read everything there is to read about the job."""
    ledger.record(os.environ[ledger.VARIABLE], repr((job.headers, job.properties, job.attempt, job.message_id, len(job.body)))[:100])


def nothing(job: Job) -> None:
    """Do nothing, successfully."""


def park(job: Job) -> None:
    """Wait at the gate, thousands at once: one of them looks, the others sleep."""
    if not _WATCHERS:
        _WATCHERS.append(gevent.spawn(_watch))
    _OPEN.wait()


def _watch() -> None:
    while not os.path.exists(os.environ[GATE]):
        time.sleep(0.05)
    _OPEN.set()


def again(job: Job) -> None:
    """Fail the first time."""
    if job.attempt == 1:
        raise ValueError("not yet")
    ledger.handle(job)
