"""What a job does, and counting it: the same for every contender in Python. Needs only the standard library.

The bench is told twice, so that neither starting nor running dry is measured: after the first jobs, and after nearly all.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable

from tests.bench.order import Order

#: Every contender draws the same durations.
SEED = 20_26


class Tally:
    """Counts jobs and reports to the bench at two of them."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._done = 0
        self._next = order.first
        self._began = 0.0
        self._long: list[float] = []
        self._ages: list[int] = []
        self._random = random.Random(SEED)
        self._drawn = 0
        #: A whole job, in code that may block; it is given the body.
        self.run: Callable[[bytes], None] = self._tell_age if order.timed else self._nothing if order.idle else self._wait

    def count(self) -> None:
        """A job is done."""
        self._done += 1
        if self._done == self._next:
            self._report()

    def duration(self) -> float:
        """How long the next job waits, in seconds."""
        order = self._order
        self._drawn += 1
        if order.long_every and self._drawn % order.long_every == 0:
            self._long.append(time.monotonic())
            return order.long
        return self._random.uniform(order.shortest, order.longest)

    def _wait(self, _body: bytes) -> None:
        time.sleep(self.duration())
        self.count()

    def _tell_age(self, body: bytes) -> None:
        self._ages.append(time.time_ns() - int.from_bytes(body[:8], "big"))
        self.count()

    def _nothing(self, _body: bytes) -> None:
        self.count()

    def _report(self) -> None:
        now = time.monotonic()
        if self._next == self._order.first:
            self._began, self._next = now, self._order.last
            self._ages.clear()
            self._send({"mark": "first"})
        else:
            seconds = now - self._began
            self._send({"mark": "last", "seconds": seconds, "held": self._held(now), **self._quantiles()})

    def _held(self, now: float) -> float:
        """Seconds for which long jobs held a slot between the two reports."""
        return sum(max(0.0, min(now, start + self._order.long) - max(self._began, start)) for start in self._long)

    def _quantiles(self) -> dict[str, float]:
        ages = sorted(self._ages)
        return {f"p{part}": ages[len(ages) * part // 100] / 1e9 for part in (50, 99)} if ages else {}

    def _send(self, report: dict[str, object]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(json.dumps(report).encode(), self._order.report)
