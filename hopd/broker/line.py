"""The ready messages of one queue and one priority, in the order in which they are handed out."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping

from hopd.broker.channel import Copy


class Line:
    """Those that came back, in their order, and behind them those that nobody was given yet.

    Whatever comes back was once at the head, so it is in front of all that was never handed out.
    """

    def __init__(self) -> None:
        self._back: list[tuple[int, Copy]] = []
        self._fresh: deque[Copy] = deque()

    def __len__(self) -> int:
        return len(self._back) + len(self._fresh)

    def head(self) -> Copy | None:
        """The next one; None when there is none, or (of a paged line) when its content is not here yet."""
        if self._back:
            return self._back[0][1]
        return self._fresh[0] if self._fresh else None

    def take(self) -> Copy:
        """The next one, which is there, and no longer in the line."""
        if self._back:
            return heapq.heappop(self._back)[1]
        return self._fresh.popleft()

    def append(self, copy: Copy) -> bool:
        """A new one. False when its content need not be held any more."""
        self._fresh.append(copy)
        return True

    def put_back(self, order: int, copy: Copy) -> None:
        """One that was taken, in front of those that have a higher `order`."""
        heapq.heappush(self._back, (order, copy))

    def clear(self) -> list[Copy]:
        """Empty it; what content was held."""
        held = [copy for _, copy in self._back] + list(self._fresh)
        self._back.clear()
        self._fresh.clear()
        return held


class PagedLine(Line):
    """A line that keeps no more than its head in memory; behind that it has bare ids, whose content is in the store.

    What is not stored, in between, stays as it is. The order is: back, fresh, on its way from the store, paged.
    """

    #: Bytes a message has, as long as nothing is known: large, so that the first load is small.
    _UNKNOWN_SIZE = 65536.0

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        super().__init__()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._fresh_bytes = 0
        self._loading: list[int | Copy] = []
        self._paged: deque[int | Copy] = deque()
        self._average = self._UNKNOWN_SIZE

    def __len__(self) -> int:
        return super().__len__() + len(self._loading) + len(self._paged)

    def take(self) -> Copy:
        if self._back:
            return heapq.heappop(self._back)[1]
        copy = self._fresh.popleft()
        self._fresh_bytes -= copy.message.size
        return copy

    def append(self, copy: Copy) -> bool:
        behind = self._paged or self._loading or len(self._fresh) >= self._max_messages or self._fresh_bytes >= self._max_bytes
        if not behind:
            self._hold(copy)
            return True
        self._learn(copy.message.size)
        self._paged.append(copy.id if copy.stored else copy)
        return not copy.stored

    def restore(self, ids: Iterable[int]) -> None:
        """Messages that are in the store."""
        self._paged.extend(ids)

    def wanted(self) -> list[int]:
        """The ids to load next; none while enough is here, or some are on their way."""
        if self._loading or len(self._fresh) > self._max_messages // 2 or self._fresh_bytes > self._max_bytes // 2:
            return []
        room = min(self._max_messages - len(self._fresh), int((self._max_bytes - self._fresh_bytes) / self._average))
        for _ in range(min(max(room, 1), len(self._paged))):
            self._loading.append(self._paged.popleft())
        ids = [item for item in self._loading if isinstance(item, int)]
        if not ids:
            self.loaded({})
        return ids

    def awaits(self, ids: Iterable[int]) -> bool:
        """These were wanted by this line, and are still."""
        wanted = next((item for item in self._loading if isinstance(item, int)), None)
        return wanted is not None and wanted in ids

    def loaded(self, copies: Mapping[int, Copy | None]) -> int:
        """The answer to `wanted`, perhaps for the first few only; None for what is lost. How many are."""
        items, self._loading = self._loading, []
        lost = 0
        for index, item in enumerate(items):
            if isinstance(item, int) and item not in copies:
                self._paged.extendleft(reversed(items[index:]))
                break
            copy = copies[item] if isinstance(item, int) else item
            if copy is None:
                lost += 1
                continue
            self._learn(copy.message.size)
            self._hold(copy)
        return lost

    def clear(self) -> list[Copy]:
        held = super().clear() + [item for items in (self._loading, self._paged) for item in items if isinstance(item, Copy)]
        self._loading.clear()
        self._paged.clear()
        self._fresh_bytes = 0
        return held

    def _hold(self, copy: Copy) -> None:
        self._fresh.append(copy)
        self._fresh_bytes += copy.message.size

    def _learn(self, size: int) -> None:
        """A running average is near enough: it says how much to load at once."""
        self._average += (size - self._average) / 16
