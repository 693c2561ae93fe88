"""Publisher confirms of one channel: told in the order in which it published, as few as it takes, none before its commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple


class Confirm(NamedTuple):
    """The broker's word on `tag`, or (`multiple`) on all up to it that nothing was said about yet."""

    tag: int
    multiple: bool
    accepted: bool


#: Waits for the batch that is being gathered, which has no number yet. Above every number, so never committed.
_UNSEALED = 1 << 62


class _Run:
    """Messages published in a row that share their fate: up to `last`, `accepted` or not, once `batch` is committed."""

    __slots__ = ("accepted", "batch", "last")

    def __init__(self, last: int, accepted: bool, batch: int) -> None:
        self.last = last
        self.accepted = accepted
        self.batch = batch


class Confirms:
    """What a channel in confirm mode has published and was not told about yet. The batches of its runs never go down."""

    def __init__(self) -> None:
        self._published = 0
        self._told = 0
        self._runs: deque[_Run] = deque()

    def published(self, *, accepted: bool, durable: bool) -> None:
        """One more message. A durable one waits for the commit of what is in the journal now."""
        self._published += 1
        run = self._runs[-1] if self._runs else None
        # What needs no commit waits all the same for what was published before it.
        batch = _UNSEALED if durable else run.batch if run else 0
        if run is not None and run.accepted == accepted and run.batch == batch:
            run.last = self._published
        else:
            self._runs.append(_Run(self._published, accepted, batch))

    def seal(self, batch: int) -> None:
        """The journal was handed over as the batch of that number; 0 when there was nothing in it to wait for."""
        for run in reversed(self._runs):
            if run.batch != _UNSEALED:
                break
            run.batch = batch

    def take(self, committed: int) -> Iterator[Confirm]:
        """What can be told now that all batches up to `committed` are."""
        runs = self._runs
        while runs and runs[0].batch <= committed:
            run = runs.popleft()
            while runs and runs[0].batch <= committed and runs[0].accepted == run.accepted:
                run = runs.popleft()
            yield Confirm(run.last, run.last - self._told > 1, run.accepted)
            self._told = run.last

    @property
    def waiting(self) -> bool:
        """Whether some have not been told."""
        return bool(self._runs)
