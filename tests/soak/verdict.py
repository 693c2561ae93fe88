"""What a soak proves: pure functions from what was counted to what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hopd import names
from tests.soak.topics import BURIED, HANDLED, end_of
from tests.support.node_control import QueueDepth

#: How many ids a complaint shows.
SHOWN = 5


@dataclass(frozen=True)
class Evidence:
    """What is known at the end: ids put and confirmed, how often each was handled and is buried, and what the queues hold."""

    attempted: frozenset[str]
    confirmed: frozenset[str]
    handled: Counter[str]
    buried: Counter[str]
    queues: Mapping[str, QueueDepth]
    bound: int
    troubles: tuple[str, ...] = ()

    def ended(self, message_id: str) -> int:
        """How often the job came to the end that it was put for."""
        return self.handled[message_id] if end_of(message_id) == HANDLED else self.buried[message_id]

    @property
    def lost(self) -> set[str]:
        """Confirmed, and never came to its end."""
        return {job for job in self.confirmed if not self.ended(job)}

    @property
    def unexpected(self) -> set[str]:
        """Handled or buried without having been put, or put for the other end."""
        wrong = {job for job in self.handled if end_of(job) != HANDLED} | {job for job in self.buried if end_of(job) != BURIED}
        return wrong | ((self.handled.keys() | self.buried.keys()) - self.attempted)

    @property
    def duplicates(self) -> int:
        """How many times jobs came to their end beyond the first."""
        return sum(times - 1 for times in self.handled.values()) + sum(times - 1 for times in self.buried.values())

    @property
    def left(self) -> dict[str, QueueDepth]:
        """The queues that should be empty and are not."""
        graves = {names.buried(end.partition("-")[0]) for end in self.buried}
        return {name: depth for name, depth in self.queues.items() if depth.unsettled or (depth.ready and name not in graves)}


def violations(evidence: Evidence) -> list[str]:
    """Everything that is not as promised, a sentence each."""
    found = list(evidence.troubles)
    if evidence.lost:
        found.append(f"{len(evidence.lost)} confirmed jobs were lost: {_some(evidence.lost)}")
    if evidence.unexpected:
        found.append(f"{len(evidence.unexpected)} jobs came to an end that nobody put them for: {_some(evidence.unexpected)}")
    if evidence.duplicates > evidence.bound:
        found.append(f"{evidence.duplicates} duplicates, and {evidence.bound} are the bound")
    found += [f"the queue {name} holds {depth}" for name, depth in sorted(evidence.left.items())]
    return found


def _some(ids: set[str]) -> str:
    return ", ".join(sorted(ids)[:SHOWN]) + (" …" if len(ids) > SHOWN else "")
