"""Handlers that tests give to real daemons. What they did is in the ledger that the environment names (see ledger.py)."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

import gevent

from hopd import Job
from tests.support import ledger

#: The environment names a file; jobs that wait at the gate go on when it exists.
GATE = "HOPD_TEST_GATE"


def record(job: Job) -> None:
    """Be done at once."""
    ledger.handle(job)


def nap(job: Job) -> None:
    """Wait for 10 ms, as for an answer."""
    time.sleep(0.01)
    ledger.handle(job)


def sleep(job: Job) -> None:
    """Wait for 10 ms and leave no trace."""
    time.sleep(0.01)


def hold(job: Job) -> None:
    """Wait at the gate."""
    while not os.path.exists(os.environ[GATE]):
        time.sleep(0.01)
    ledger.handle(job)


class Recorder:
    """A handler that is a class: one instance for all jobs. Also one that is a method of an object."""

    def __call__(self, job: Job) -> None:
        ledger.handle(job)

    def handle(self, job: Job) -> None:
        """The same, as a method."""
        ledger.handle(job)


RECORDER = Recorder()


# --- handlers that misbehave --------------------------------------------------------------------


def _raise(error: BaseException) -> None:
    raise error


def _recurse() -> None:
    _recurse()


def _exit_in_a_greenlet() -> None:
    gevent.spawn(sys.exit, 3).join()


def _interrupt_in_a_greenlet() -> None:
    gevent.spawn(_raise, KeyboardInterrupt()).join()


def _forgotten_timer() -> None:
    gevent.Timeout.start_new(0.01)


WAYS: Mapping[bytes, Callable[[], object]] = {
    b"Exception": lambda: _raise(ValueError("no such user")),
    b"SystemExit": lambda: sys.exit(3),
    b"KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    b"GreenletExit": lambda: _raise(gevent.GreenletExit()),
    b"RecursionError": _recurse,
    b"MemoryError": lambda: _raise(MemoryError()),
    b"Timeout": lambda: _raise(gevent.Timeout(1)),
    b"exit in a greenlet": _exit_in_a_greenlet,
    b"interrupt in a greenlet": _interrupt_in_a_greenlet,
    b"forgotten timer": _forgotten_timer,
}


def misbehave(job: Job) -> None:
    """Do what the job's body says, badly."""
    ledger.handle(job)
    if job.body in WAYS:
        WAYS[job.body]()


def settle_twice(job: Job) -> None:
    """Settle as the body says, and once more."""
    ledger.handle(job)
    if job.body == b"twice":
        job.done()
        job.done()
    elif job.body == b"and raise":
        job.done()
        raise ValueError("and then it broke")
    elif job.body == b"elsewhere":
        gevent.spawn(job.done).join()


def cling(job: Job) -> None:
    """Swallow whatever is raised to end it, for as long as the gate is shut."""
    while not os.path.exists(os.environ[GATE]):
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001 - that is the fault
            ledger.handle(job)


def leave_a_thread_behind(job: Job) -> None:
    """Start a thread that is no daemon and never ends."""
    threading.Thread(target=threading.Event().wait).start()
    ledger.handle(job)
