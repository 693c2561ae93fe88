"""The library as tests use it: recovers promptly, gives up soon, ends with the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hopd import WorkQueue


@contextmanager
def work_queue(url: str | Sequence[str], **options: Any) -> Iterator[WorkQueue]:
    """A work queue that ends with the block. What waits for the broker gives up after 30 s, long before a test's own patience ends."""
    with WorkQueue(url, **{"recovery_max": 0.2, "max_connection_retry": 30.0, **options}) as queue:
        yield queue
