"""Message ids that tell when their job was put, so that a job handled after a fault can be known to have been put after it."""

from __future__ import annotations

import itertools
import time

_NUMBERS = itertools.count(1)


def stamped(prefix: str) -> str:
    """A new message id: the prefix, which has no dash at its start or end, a number and the time."""
    return f"{prefix}-{next(_NUMBERS)}-{time.monotonic_ns() // 1000}"


def put_at(message_id: str) -> float:
    """When the job was put, in seconds of the monotonic clock, which all processes of a machine share."""
    return int(message_id.rpartition("-")[2]) / 1e6
