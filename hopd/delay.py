"""Delayed jobs, as pure computing: which retry queue a job waits in next, until its time has come.

A retry queue holds for one step of the ladder, so any other delay is walked in steps: the longest one that is not longer than
what is left, and what is left after it travels in the job's headers. Whoever gets the job before its time lets it wait again.

The last step may be too long, never too short: a job comes late by at most `slack`, and by no clock early. What is left
is told by two clocks, when the job is due and how long it was still to wait at its last stop, and the shorter counts:
time spent in a long queue is part of the delay, and a clock that is wrong cannot make a job wait longer than was asked for.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hopd import names
from hopd.amqp.properties import PropertiesError, decode
from hopd.config.ladder import STEPS
from hopd.units import format_duration, parse_duration

#: Longer ones are more likely a mistake of units; such plans belong in a database. Milliseconds.
MAX_DELAY = 366 * 86_400_000

#: Half of what is promised, 1 % of the delay or 1 s: the other half is for the broker and for clocks that differ.
SLACK_SHARE, SLACK_LEAST = 200, 500  # a 200th; milliseconds

#: A job that carries these bytes in its properties may have come too early; no other needs a closer look.
MARK = names.DUE_AT.encode()

#: Properties begin with flags: what sorts before this has neither headers nor a content type, and need not even be searched.
PLAIN = b"\x20"


@dataclass(frozen=True, slots=True)
class Wait:
    """One stop on the way: `step` in a retry queue, and then `left` of `whole`. In milliseconds; `due_at` since 1970."""

    step: int
    left: int
    whole: int
    due_at: int

    @property
    def headers(self) -> dict[str, int]:
        """What travels with the job."""
        return {names.DUE_AT: self.due_at, names.DELAY: self.whole, names.DELAY_LEFT: self.left}


def slack(whole: int) -> int:
    """How late a job with that delay may come by our own rounding. Milliseconds."""
    return max(SLACK_LEAST, whole // SLACK_SHARE)


def first_wait(delay: float | str | None, at: datetime | None, now: float) -> Wait | None:
    """The first stop of a job put with these arguments of `put` at `now` (seconds since 1970); None when it is due at once.

    ValueError says what is wrong with them.
    """
    if delay is not None and at is not None:
        raise ValueError("delay and at both say when the job is due: give one of them")
    if delay is not None:
        left = _milliseconds(parse_duration(delay))
    elif at is not None:
        left = _milliseconds(_moment(at) - now)
    else:
        return None
    return _wait(left, left, round(now * 1000) + left)


def early(raw_properties: bytes, now: float) -> Wait | None:
    """The next stop of a job that arrived at `now` with these properties; None when its time has come, or nobody can tell."""
    if MARK not in raw_properties:
        return None
    try:
        headers = decode(raw_properties).headers
    except PropertiesError:
        return None
    return next_wait(headers, now)


def next_wait(headers: Mapping[Any, Any], now: float) -> Wait | None:
    """The next stop of a job that arrived with these headers; None when its time has come.

    Headers may come from anybody: a job with no more than `hop-due-at` waits until then, and what makes no sense delays nothing.
    """
    due_at = _count(headers.get(names.DUE_AT))
    if due_at is None:
        return None
    left = min(due_at - round(now * 1000), MAX_DELAY)
    planned = _count(headers.get(names.DELAY_LEFT))
    if planned is not None:
        left = min(left, planned)
    whole = min(_count(headers.get(names.DELAY)) or left, MAX_DELAY)
    return _wait(left, whole, due_at)


def _wait(left: int, whole: int, due_at: int) -> Wait | None:
    if left <= 0:
        return None
    index = bisect_left(STEPS, left)
    if index < len(STEPS) and STEPS[index] - left <= slack(whole):
        return Wait(STEPS[index], 0, whole, due_at)
    step = STEPS[bisect_right(STEPS, left) - 1]  # there is one: what is left would else be rounded up to the first
    return Wait(step, left - step, whole, due_at)


def _moment(at: datetime) -> float:
    if at.utcoffset() is None:
        raise ValueError(f"at needs a time zone, {at} has none: use datetime.now(timezone.utc) or .astimezone()")
    return at.timestamp()


def _milliseconds(seconds: float) -> int:
    if seconds * 1000 > MAX_DELAY:
        raise ValueError(f"a job can be delayed by {format_duration(MAX_DELAY / 1000)} at most, got {format_duration(seconds)}")
    return max(0, math.ceil(seconds * 1000))


def _count(value: Any) -> int | None:
    """A header that should hold a number of milliseconds."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
