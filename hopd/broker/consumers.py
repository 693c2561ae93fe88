"""The consumers of one queue, and whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from hopd.broker.channel import Consumer


class Consumers:
    """Those of the highest priority take turns; the next lower ones get what these have no room for.

    A consumer whose turn comes and who has no room is parked: it costs nothing until it has some.
    """

    def __init__(self, single_active: bool) -> None:
        self._single_active = single_active
        self._all: dict[Consumer, None] = {}
        #: With a single active consumer: the one.
        self._active: Consumer | None = None
        #: Those in turn by priority, and the same from the highest priority down.
        self._turns: dict[int, deque[Consumer]] = {}
        self._tiers: list[deque[Consumer]] = []

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(list(self._all))

    @property
    def exclusive(self) -> bool:
        """One has the queue for itself."""
        return len(self._all) == 1 and next(iter(self._all)).exclusive

    def add(self, consumer: Consumer) -> None:
        """A consumer starts."""
        self._all[consumer] = None
        if not self._single_active:
            self._enrol(consumer)
        elif self._active is None:
            self._activate(consumer)

    def remove(self, consumer: Consumer) -> None:
        """A consumer ends."""
        del self._all[consumer]
        self._dismiss(consumer)
        if consumer is self._active:
            self._active = None
            if self._all:
                self._activate(max(self._all, key=lambda other: other.priority))  # the first of them

    def next(self) -> Consumer | None:
        """Who is given the next message: its turn is over with that. None when nobody has room."""
        for tier in self._tiers:
            while tier:
                consumer = tier.popleft()
                if consumer.has_room():
                    tier.append(consumer)
                    return consumer
                consumer.parked = True
        return None

    def resume(self, consumer: Consumer) -> None:
        """A parked consumer has room again."""
        consumer.parked = False
        self._turns[consumer.priority].append(consumer)

    def _activate(self, consumer: Consumer) -> None:
        self._active = consumer
        self._enrol(consumer)

    def _enrol(self, consumer: Consumer) -> None:
        if consumer.priority not in self._turns:
            self._turns[consumer.priority] = deque()
            self._sort()
        self._turns[consumer.priority].append(consumer)

    def _dismiss(self, consumer: Consumer) -> None:
        turns = self._turns.get(consumer.priority, deque())
        if consumer in turns:
            turns.remove(consumer)
        consumer.parked = False
        if all(other.priority != consumer.priority for other in self._all):
            self._turns.pop(consumer.priority, None)
            self._sort()

    def _sort(self) -> None:
        self._tiers = [self._turns[priority] for priority in sorted(self._turns, reverse=True)]
