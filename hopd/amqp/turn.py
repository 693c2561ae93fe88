"""Waiting for one's turn at what only one may do at a time, no longer than one's own deadline.

The one whose turn it is may wait for the broker far longer than the next one can.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from hopd.errors import BrokerTimeout


@contextmanager
def turn(lock: threading.Lock, deadline: float) -> Iterator[None]:
    """Hold the lock; `BrokerTimeout` when it is not free before `deadline` (monotonic seconds)."""
    if not lock.acquire(timeout=min(threading.TIMEOUT_MAX, max(0.0, deadline - monotonic()))):
        raise BrokerTimeout("others were waiting for the broker too, and it did not answer in time")
    try:
        yield
    finally:
        lock.release()
