"""The steps a delay is rounded to. RabbitMQ expires messages only at a queue's head, so each delay needs a queue of its own;
a small ladder keeps their number small."""

from __future__ import annotations

import math
from bisect import bisect_left

_S, _M, _H, _D = 1000, 60_000, 3_600_000, 86_400_000

#: Milliseconds. Each step is at most 2.5 times the one before.
STEPS: tuple[int, ...] = (
    *(100, 250, 500),
    *(_S, 2 * _S, 5 * _S, 10 * _S, 20 * _S, 30 * _S),
    *(_M, 2 * _M, 5 * _M, 10 * _M, 20 * _M, 30 * _M),
    *(_H, 2 * _H, 4 * _H, 8 * _H, 12 * _H),
    *(_D, 2 * _D, 5 * _D, 10 * _D, 20 * _D, 30 * _D),
)


def step(seconds: float) -> int:
    """The first step, in milliseconds, that is not shorter than `seconds`; the longest one when there is none. ValueError for nan."""
    if math.isnan(seconds):
        raise ValueError("a delay is a number of seconds, got nan")
    # Half a millisecond is no reason for the next step.
    return STEPS[min(bisect_left(STEPS, seconds * 1000 - 0.5), len(STEPS) - 1)]
