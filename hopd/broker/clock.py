"""What time it is for the broker's messages: when they expire, and since when they are unsettled."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the broker looks what time it is."""

    def now(self) -> float:
        """Seconds since 1970. Never less than it was."""


class WallClock:
    """The machine's clock, because what expires must do so across restarts. One that is set back stands still until it is reached."""

    def __init__(self) -> None:
        self._latest = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        self._latest = max(self._latest, time.time())
        return self._latest


class TurnedClock:
    """The machine's clock, turned forward by whoever tests what takes long."""

    def __init__(self) -> None:
        self._wall = WallClock()
        self._ahead = 0.0

    def now(self) -> float:
        """Seconds since 1970, and how far it was turned."""
        return self._wall.now() + self._ahead

    def turn(self, seconds: float) -> None:
        """Let that much time have passed. The broker has to be told (`Broker.look_at_clock`)."""
        self._ahead += seconds
