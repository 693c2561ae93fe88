"""The ready messages of one queue, by priority."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hopd.broker.channel import Copy
from hopd.broker.line import Line, PagedLine
from hopd.broker.model import Limits


class Ready:
    """A line for each priority, the highest first. With `paging` a line keeps only its head in memory."""

    def __init__(self, max_priority: int, paging: Limits | None) -> None:
        self._paged = [PagedLine(paging.page_messages, paging.page_bytes) for _ in range(max_priority + 1)] if paging else []
        self._lines: list[Line] = [*self._paged] or [Line() for _ in range(max_priority + 1)]
        self._last = max_priority
        self.count = 0
        #: Of all of them, in memory or not. Bytes.
        self.body_bytes = 0

    def head(self) -> Copy | None:
        """The next one; None when there is none, or when its content is still in the store."""
        for line in self._lines:
            if line:
                return line.head()
        return None

    def take(self) -> Copy:
        """The head, which is here."""
        copy = next(line for line in self._lines if line).take()
        self.count -= 1
        self.body_bytes -= len(copy.message.body)
        return copy

    def append(self, copy: Copy) -> bool:
        """A new one. False when its content need not be held any more."""
        self.count += 1
        self.body_bytes += len(copy.message.body)
        return self._line(copy.message.priority).append(copy)

    def put_back(self, order: int, copy: Copy) -> None:
        """One that was taken, in front of all that were not, and of those put back with a higher `order`."""
        self.count += 1
        self.body_bytes += len(copy.message.body)
        self._line(copy.message.priority).put_back(order, copy)

    def clear(self) -> list[Copy]:
        """Empty it; those whose content was here."""
        self.count = self.body_bytes = 0
        return [copy for line in self._lines for copy in line.clear()]

    def restore(self, ids: list[int], priorities: Iterable[int] | None, body_bytes: int) -> None:
        """Messages that are in the store. Only with paging."""
        self.count = len(ids)
        self.body_bytes = body_bytes
        if priorities is None:
            self._paged[-1].restore(ids)
            return
        for number, priority in zip(ids, priorities, strict=True):
            self._paged[self._last - min(priority, self._last)].restore((number,))

    def wanted(self) -> list[int]:
        """Ids whose content is to be loaded now, all of one line; to be asked again until there are none."""
        for line in self._paged:
            ids = line.wanted()
            if ids:
                return ids
        return []

    def loaded(self, copies: Mapping[int, Copy | None]) -> list[Copy]:
        """The content that was wanted, perhaps of the first few ids only; None for what is lost. Those that are in their line now."""
        line = next((line for line in self._paged if line.awaits(copies)), None)
        if line is None:
            return []  # they were purged meanwhile
        self.count -= line.loaded(copies)
        return [copy for copy in copies.values() if copy is not None]

    def _line(self, priority: int) -> Line:
        return self._lines[self._last - min(priority, self._last)] if self._last else self._lines[0]
