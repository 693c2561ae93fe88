"""Watches the ledger grow, and so knows when a daemon that was hit works again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.support.stamp import put_at

#: How often the ledger is read: as exact as the times are. Seconds.
LOOK_INTERVAL = 0.05


@dataclass
class Recovery:
    """Whether the daemons that a fault hit consume again: `since` it was mended, each has handled a job that was put after that."""

    since: float
    waiting: set[int]
    took: dict[int, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """How long it took the slowest; None while one of them has not."""
        return None if self.waiting else max(self.took.values(), default=0.0)


class Watch:
    """Follows the ledger's file. `daemon_of` says whose pid it is."""

    def __init__(self, path: Path, daemon_of: Callable[[int], int | None]) -> None:
        self._path = path
        self._daemon_of = daemon_of
        self._recoveries: list[Recovery] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def expect(self, daemons: Iterable[int]) -> Recovery:
        """A fault that hit these daemons is mended now."""
        recovery = Recovery(monotonic(), set(daemons))
        with self._lock:
            self._recoveries.append(recovery)
        return recovery

    def settled(self) -> bool:
        """Whether nobody is being waited for."""
        with self._lock:
            return not any(recovery.waiting for recovery in self._recoveries)

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        self._path.touch()
        with self._path.open() as file:
            rest = ""
            while not self._over.wait(LOOK_INTERVAL):
                *lines, rest = (rest + file.read()).split("\n")
                for line in lines:
                    self._see(line)

    def _see(self, line: str) -> None:
        message_id, _, pid = line.rpartition(" ")
        daemon = self._daemon_of(int(pid))
        if daemon is None:
            return
        with self._lock:
            for recovery in self._recoveries:
                if daemon in recovery.waiting and put_at(message_id) > recovery.since:
                    recovery.waiting.discard(daemon)
                    recovery.took[daemon] = monotonic() - recovery.since
