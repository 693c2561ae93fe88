"""A broker for tests: hopd's own, in this process, in memory, with a clock that the test turns and faults that it may make."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hopd.broker.clock import TurnedClock
from hopd.broker.model import QueueInfo
from hopd.broker.server import Broker
from hopd.units import parse_duration
from hopd.workqueue import WorkQueue

#: Where Linux keeps files that are in memory only.
MEMORY_FILES = "/dev/shm"


class LocalBroker:
    """A broker with a port of its own. It serves in the `with` block, or from `start` to `stop`; nothing outlives it.

    Whatever talks AMQP can use it at `url`: hopd, pika, or the web application under test.
    """

    def __init__(self) -> None:
        self._clock = TurnedClock()
        # A file, so that a restart is one; in memory where the system has files there, so that nothing waits for a disk.
        self._directory = tempfile.TemporaryDirectory(prefix="hopd-test-", dir=MEMORY_FILES if os.path.isdir(MEMORY_FILES) else None)
        self._broker = Broker(clock=self._clock, store=os.path.join(self._directory.name, "broker.db"))

    def __enter__(self) -> LocalBroker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> LocalBroker:
        """Serve. Takes some milliseconds."""
        self._broker.start()
        return self

    def stop(self) -> None:
        """Tell clients, and end, for good."""
        self._broker.stop()
        self._directory.cleanup()

    @property
    def url(self) -> str:
        """Where it is: amqp://guest:guest@127.0.0.1:PORT/."""
        return self._broker.url

    @contextmanager
    def work_queue(self, **options: Any) -> Iterator[WorkQueue]:
        """A work queue on it that recovers promptly and gives up soon, as a test wants it. It is closed with the block."""
        with WorkQueue(self.url, **{"recovery_max": 0.1, "max_connection_retry": 10.0, "put_timeout": 10.0, **options}) as queue:
            yield queue

    def queues(self) -> dict[str, QueueInfo]:
        """What is in it, by queue: `.ready`, `.unsettled`, `.consumers`."""
        return {queue.name: queue for queue in self._broker.queues()}

    # --- time -----------------------------------------------------------------------------------

    def turn(self, duration: float | str) -> None:
        """Let time pass for the broker, seconds or ``"10m"``: delayed jobs and retries come due, what expires does. It takes none."""
        self._clock.turn(parse_duration(duration))
        self._broker.look_at_clock()

    # --- faults ---------------------------------------------------------------------------------

    def cut(self) -> None:
        """Drop every connection without a word, as a broken network does."""
        self._broker.cut_connections()

    def close_connections(self, reason: str = "CONNECTION_FORCED - closed by the test") -> None:
        """Close every connection in order, as an operator does (320)."""
        self._broker.close_connections(reason)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it answer nothing in this block, as a process that hangs."""
        self._broker.freeze()
        try:
            yield
        finally:
            self._broker.thaw()

    @contextmanager
    def blocked(self, reason: str = "low on memory") -> Iterator[None]:
        """Have it take no messages in this block, as under a memory alarm."""
        self._broker.block(reason)
        try:
            yield
        finally:
            self._broker.unblock()

    def restart(self) -> None:
        """Stop and start it again at the same place, with its durable queues and their persistent messages."""
        self._broker.stop()
        self._broker.start()
