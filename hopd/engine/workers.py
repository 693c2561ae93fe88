"""A topic's workers: a fixed number of long-lived greenlets that take from one inbox.

A worker costs a spawn once, not a job; an idle one is woken by one callback of the loop. Nothing here knows the broker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

import gevent
from gevent import getcurrent
from gevent.hub import get_hub

from hopd.amqp.wire import Delivery
from hopd.engine.executor import Abandoned

#: How long jobs that never wait may follow each other before the reader, the writer and the control socket get a turn. Seconds.
TURN = 0.01


class Workers:
    """Up to `concurrency` greenlets that call `run` for each delivery. They come into being when they are first needed."""

    def __init__(self, concurrency: int, run: Callable[[Delivery], None]) -> None:
        self.inbox: deque[Delivery] = deque()
        self.running = 0
        self._concurrency = concurrency
        self._run = run
        self._holding = False
        self._idle: list[gevent.Greenlet[..., None]] = []
        self._greenlets: set[gevent.Greenlet[..., None]] = set()
        self._turn_ends = 0.0

    def add(self, delivery: Delivery) -> None:
        """Let a worker take the delivery. Never waits: the connection's reader calls it."""
        self.inbox.append(delivery)
        if self._idle:
            get_hub().loop.run_callback(self._idle.pop().switch)
        elif len(self._greenlets) < self._concurrency:
            self._greenlets.add(gevent.spawn(self._work))

    def hold(self) -> None:
        """Start no further job."""
        self._holding = True

    def go_on(self) -> None:
        """Start jobs again, beginning with those that wait."""
        self._holding = False
        for _ in range(min(len(self.inbox), len(self._idle))):
            get_hub().loop.run_callback(self._idle.pop().switch)

    def empty(self) -> list[Delivery]:
        """Take out what waits."""
        waiting = list(self.inbox)
        self.inbox.clear()
        return waiting

    def abandon(self) -> int:
        """End all workers; returns how many were in the middle of a job."""
        cut_off = self.running
        self._holding = True
        gevent.killall(list(self._greenlets), exception=Abandoned, timeout=1.0)
        return cut_off

    def _work(self) -> None:
        inbox, run, idle = self.inbox, self._run, self._idle
        hub, me = get_hub(), getcurrent()
        try:
            while True:
                while inbox and not self._holding:
                    delivery = inbox.popleft()
                    self.running += 1
                    try:
                        run(delivery)
                    finally:
                        self.running -= 1
                    if monotonic() > self._turn_ends:
                        gevent.sleep(0)
                        self._turn_ends = monotonic() + TURN
                idle.append(me)
                hub.switch()
        except Abandoned:
            return
        finally:
            self._greenlets.discard(me)
