"""The ledger: which jobs were put, which were handled, and what that says about loss.

The test notes every id before it puts the job and again when the broker has confirmed it. The handler, in whatever process it
runs, appends id and pid to a file: one write to a file opened with O_APPEND is whole, and survives a SIGKILL of its writer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hopd import Job

#: Tells a handler in another process where its ledger is.
VARIABLE = "HOPD_TEST_LEDGER"


def handle(job: Job) -> None:
    """A handler (`tests.support.ledger:handle`) that only records the job's message id."""
    record(os.environ[VARIABLE], job.message_id or "")


def record(path: str | os.PathLike[str], message_id: str) -> None:
    """Note that a job was handled, by this process."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{message_id} {os.getpid()}\n".encode())
    finally:
        os.close(file)


class Ledger:
    """The test's side: what it put, and what the file says was done with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attempted: set[str] = set()
        self.confirmed: set[str] = set()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use `handle`."""
        return {VARIABLE: str(self.path)}

    def attempt(self, *message_ids: str) -> None:
        """These are about to be put."""
        self.attempted.update(message_ids)

    def confirm(self, *message_ids: str) -> None:
        """The broker has confirmed these."""
        self.attempted.update(message_ids)
        self.confirmed.update(message_ids)

    def handled(self) -> Counter[str]:
        """How often each job was handled."""
        return Counter(message_id for message_id, _ in self._entries())

    def count(self) -> int:
        """How many jobs were handled, each counted once. Cheap enough to be polled."""
        return len({message_id for message_id, _ in self._entries()})

    def pids(self) -> set[int]:
        """The processes that handled something."""
        return {int(pid) for _, pid in self._entries()}

    def lost(self) -> set[str]:
        """Confirmed by the broker and never handled."""
        return self.confirmed - self.handled().keys()

    def unexpected(self) -> set[str]:
        """Handled and never put."""
        return self.handled().keys() - self.attempted

    def duplicates(self) -> int:
        """How many times a job was handled beyond the first."""
        return sum(times - 1 for times in self.handled().values())

    def _entries(self) -> Iterable[tuple[str, str]]:
        if not self.path.exists():
            return
        for line in self.path.read_text().splitlines():
            message_id, _, pid = line.rpartition(" ")
            yield message_id, pid
