"""A clock for code that is given the `time` module."""

from __future__ import annotations


class Clock:
    """Stands for the module `time`: only sleeping moves it on."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        """Seconds since whenever."""
        return self.now

    def time_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
