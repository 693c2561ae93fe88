"""Let gevent's loop run in the test's own, unpatched process until something has happened."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import gevent

#: Far longer than anything here takes on a busy machine. Seconds.
PATIENCE = 20.0


def run_until(condition: Callable[[], object]) -> None:
    """Give greenlets and timers turns until `condition` holds; the test fails when it never does."""
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline, f"it did not become true within {PATIENCE:.0f} s"
        gevent.sleep(0.001)


def take_turns(count: int) -> None:
    """Give every greenlet that could run now `count` turns, without waiting for timers."""
    for _ in range(count):
        gevent.sleep(0)
