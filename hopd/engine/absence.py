"""Whether the event loop runs, judged by when it last said so. Pure: the time is passed in.

Who judges may itself not have run for a while, because the whole process was stopped, or the machine was. That is nobody's
fault: such a time does not count, unless the process computed meanwhile; then something kept the judge from running too.
"""

from __future__ import annotations

from dataclasses import dataclass

#: A judge who comes later than this part of `report_after` has not run; one that comes less late had to wait its turn.
TOLERANCE = 0.5

#: The part of that time that the process must have computed for it to count all the same.
BUSY = 0.5


@dataclass(frozen=True, slots=True)
class Missing:
    """The loop has not run for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Back:
    """The loop runs again, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The loop has not run for so many seconds, and waiting for it is over."""

    seconds: float


class Absence:
    """Looks at the loop now and then. Each absence of at least `report_after` seconds is `Missing` once, and `Back` once."""

    def __init__(self, report_after: float, exit_after: float | None, now: float) -> None:
        self._report_after = report_after
        self._exit_after = exit_after
        self._excused = now  # no absence began earlier
        self._left: float | None = None  # when the loop was last seen before the absence that was reported

    def look(self, now: float, seen: float, late: float, computed: float) -> Missing | Back | Hopeless | None:
        """What has changed `now`. `seen`: when the loop last said that it runs; `late`: how much later than meant this look comes;
        `computed`: how much computing time the process used since the last one. Monotonic seconds."""
        if late > TOLERANCE * self._report_after and computed < BUSY * late:
            self._excused = now
        absent = now - max(seen, self._excused)
        if self._left is None:
            if absent < self._report_after:
                return None
            self._left = seen
            return Missing(absent)
        if seen > self._left:
            away, self._left = seen - self._left, None
            return Back(away)
        if self._exit_after is not None and absent >= self._exit_after:
            return Hopeless(absent)
        return None
