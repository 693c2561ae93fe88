"""A topic's workers: a fixed number of long-lived greenlets that take from one inbox.

A worker costs a spawn once, not a job; idle ones are woken by one callback of the loop for all that has come meanwhile.
Nothing here knows the broker.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic

import gevent
from gevent import getcurrent
from gevent.hub import get_hub

from hopd.amqp.fork import stays_with_parent
from hopd.amqp.wire import Delivery
from hopd.engine import forked
from hopd.engine.executor import Abandoned

LOGGER = logging.getLogger(__name__)

#: How long jobs that never wait may follow each other before the reader, the writer and the control socket get a turn. Seconds.
TURN = 0.01

#: How long interrupted handlers have to clean up before the daemon leaves without them. Seconds.
ABANDON_TIMEOUT = 1.0


class Workers:
    """Up to `concurrency` greenlets that call `run` for each delivery. They come into being when they are first needed.

    `run` may be exchanged at any time; a job that runs is not touched by that.
    """

    def __init__(self, concurrency: int, run: Callable[[Delivery], None]) -> None:
        self.inbox: deque[Delivery] = deque()
        self.running = 0
        self.run = run
        self._concurrency = concurrency
        self._holding = False
        self._idle: list[gevent.Greenlet[..., None]] = []
        self._greenlets: set[gevent.Greenlet[..., None]] = set()
        self._turn_ends = 0.0
        self._waking = False
        self._ours = True
        stays_with_parent(self)

    def add(self, delivery: Delivery) -> None:
        """Let a worker take the delivery. Never waits: the connection's reader calls it."""
        self.inbox.append(delivery)
        if not self._waking and (self._idle or len(self._greenlets) < self._concurrency):
            self._wake()

    def add_first(self, delivery: Delivery) -> None:
        """The same, before all that waits."""
        self.inbox.appendleft(delivery)
        self._wake()

    @property
    def has_room(self) -> bool:
        """Whether a worker could start a job now."""
        return not self._holding and self.running < self._concurrency

    def limit(self, concurrency: int) -> None:
        """Let no more than so many jobs run at once from now on. Workers that there are already stay: it may only grow."""
        if concurrency != self._concurrency:
            self._concurrency = concurrency
            self._wake()

    def hold(self) -> None:
        """Start no further job."""
        self._holding = True

    def go_on(self) -> None:
        """Start jobs again, beginning with those that wait."""
        self._holding = False
        self._wake()

    def empty(self) -> list[Delivery]:
        """Take out what waits."""
        waiting = list(self.inbox)
        self.inbox.clear()
        return waiting

    def abandon(self) -> int:
        """End all workers; returns how many were in the middle of a job. A handler that will not be interrupted is left behind."""
        cut_off = self.running
        self._holding = True
        workers = list(self._greenlets)
        gevent.killall(workers, exception=Abandoned, block=False)
        gevent.joinall(workers, timeout=ABANDON_TIMEOUT)
        return cut_off

    def leave_to_parent(self) -> None:
        """In a forked child: the jobs are the parent's, those that wait and those that run."""
        self._holding = True
        self._ours = False

    def _wake(self) -> None:
        self._waking = True
        get_hub().loop.run_callback(self._put_to_work)

    def _put_to_work(self) -> None:
        """Let workers take what is there: each runs until its job waits, and only then is the next one needed.

        In the hub, where nothing happens between the look and the switch: a worker that was woken although it no longer
        is idle would go on in the middle of whatever its job waits for.
        """
        self._waking = False
        self._turn_ends = monotonic() + TURN
        while self.inbox and not self._holding:
            if self._idle:
                self._idle.pop().switch()
            elif len(self._greenlets) < self._concurrency:
                self._begin()
            else:
                return
            if monotonic() > self._turn_ends:
                self._wake()
                return

    def _begin(self) -> None:
        """One more worker, at once: spawned it would begin after this turn, and look like one that is not needed."""
        worker = gevent.Greenlet(self._work)
        self._greenlets.add(worker)
        worker.switch()

    def _work(self) -> None:
        me = getcurrent()
        try:
            self._take_jobs(me)
        except (Abandoned, gevent.GreenletExit) as end:
            LOGGER.debug("A worker ends: %r", end, extra={"event": "worker_ended"})
        except BaseException as error:
            # Whatever a handler left behind, a gevent.Timeout for example, must not cost the topic a worker.
            text = "A worker was interrupted between two jobs and is replaced; has a handler left a timer running? %s"
            LOGGER.error(text, type(error).__name__, extra={"event": "worker_failed"}, exc_info=error)
        finally:
            self._greenlets.discard(me)
            if me in self._idle:
                self._idle.remove(me)
            if self.inbox:
                self._wake()

    def _take_jobs(self, me: gevent.Greenlet[..., None]) -> None:
        inbox, idle, hub = self.inbox, self._idle, get_hub()
        while True:
            while inbox and not self._holding:
                self.running += 1
                try:
                    self.run(inbox.popleft())  # not by a name, which an idle worker would keep, with a body of any size
                finally:
                    self.running -= 1
                if monotonic() > self._turn_ends:
                    gevent.sleep(0)
                    self._turn_ends = monotonic() + TURN
            if not self._ours:
                forked.leave(None)
            idle.append(me)
            hub.switch()
