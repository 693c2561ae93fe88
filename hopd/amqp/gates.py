"""Where many callers wait, each for one thing and each until its own deadline.

A timer for each wait costs as much as the wait itself under gevent, so there is none: one thread looks after everybody's deadline. It
sleeps until the earliest there was when it looked last, so that puts with 30 seconds each wake it twice a minute, however many they are.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol

from hopd.amqp.fork import stays_with_parent


class Awaited(Protocol):
    """What somebody waits for: one at a time, and once. Hashed by identity."""

    settled: bool


class Gates:
    """A shut gate for each caller that waits. It is opened once, by whoever takes its entry out: when the thing is settled, at the
    caller's deadline, or by the caller itself."""

    def __init__(self) -> None:
        self._shut: dict[Awaited, tuple[threading.Lock, float]] = {}
        # Shut, and nobody will open them: for the next callers, as making a lock costs more than all else here.
        self._spare: list[threading.Lock] = []
        self._earliest = inf  # the keeper looks by then
        self._wakeup: SimpleQueue[None] = SimpleQueue()  # whose `put` takes no lock
        self._starting = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._closed = False
        stays_with_parent(self)

    def wait(self, awaited: Awaited, deadline: float) -> bool:
        """Wait until it is settled, with `open` called after that; False at the deadline (monotonic seconds)."""
        try:
            gate = self._spare.pop()
        except IndexError:
            gate = threading.Lock()
            gate.acquire()
        self._shut[awaited] = (gate, deadline)
        if deadline < self._earliest:
            self._look_by(deadline)
        if awaited.settled or self._closed:  # since before our entry: then nobody else may know of it
            self.open(awaited)
        try:
            gate.acquire()
        except BaseException:  # what a signal raises, or ends a greenlet
            self._shut.pop(awaited, None)
            raise
        self._spare.append(gate)
        return awaited.settled

    def open(self, awaited: Awaited) -> None:
        """Let the caller go on that waits for this, if there is one. Never blocks."""
        entry = self._shut.pop(awaited, None)
        if entry is not None:
            entry[0].release()

    def close(self) -> None:
        """Let everybody go on, now and from now on, settled or not."""
        with self._starting:
            self._closed = True
            keeper = self._keeper
        self._wakeup.put(None)
        if keeper is not None:
            keeper.join()
        self._open_until(inf)

    def leave_to_parent(self) -> None:
        """In a forked child: under gevent the keeper is here, too, and ends. Nobody else who waits is woken."""
        self._closed = True
        self._wakeup.put(None)

    def _look_by(self, deadline: float) -> None:
        with self._starting:
            if self._keeper is None and not self._closed:
                self._keeper = threading.Thread(target=self._keep, name="hopd-deadlines", daemon=True)
                self._keeper.start()
        self._earliest = deadline
        self._wakeup.put(None)

    def _keep(self) -> None:
        """Open what is due, sleep until the next deadline."""
        while not self._closed:
            # Before we look: who comes from now on wakes us, or is seen. What is written over below has woken us as well.
            self._earliest = inf
            self._earliest = earliest = self._open_until(monotonic())
            with suppress(Empty):
                self._wakeup.get(timeout=None if earliest == inf else max(0.0, earliest - monotonic()))

    def _open_until(self, now: float) -> float:
        """Open the gates with a deadline up to now; returns the earliest of the others."""
        earliest = inf
        for awaited, (_gate, deadline) in self._shut.copy().items():  # a copy, as others come and go
            if deadline <= now:
                self.open(awaited)
            else:
                earliest = min(earliest, deadline)
        return earliest
