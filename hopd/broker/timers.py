"""What is to be done at which time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timers:
    """Actions and the times from which they are due. None can be taken back: an action looks whether it still matters."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()

    def add(self, when: float, action: Callable[[float], None]) -> None:
        """Call `action` with the time, once it is `when` or later."""
        heapq.heappush(self._waiting, (when, next(self._numbers), action))

    def due(self) -> float | None:
        """When the next action is due."""
        return self._waiting[0][0] if self._waiting else None

    def run(self, now: float) -> None:
        """Do everything that is due."""
        while self._waiting and self._waiting[0][0] <= now:
            heapq.heappop(self._waiting)[2](now)
