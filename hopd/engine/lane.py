"""The order in which suspects run: one at a time, and beside a long one only when it has been waited for. Pure, time is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from hopd.amqp.wire import Delivery
from hopd.engine.poison import JobKey, Record

#: A suspect that has run for so long lets the next one start beside it: most killers kill at once, and thousands of jobs that take a
#: minute each must not take a minute one after the other. Seconds.
PATIENCE = 0.1

#: Each death at which a job was running makes that longer for it, so that in the end the killer is alone. Factor; and seconds: longer
#: than that only a job takes that hangs, and it must not hold up the rest for ever.
LONGER, ALONE = 10.0, 60.0


@dataclass(eq=False, slots=True)
class Suspect:
    """A delivery that may kill the process, and what is known about its job."""

    key: JobKey
    delivery: Delivery
    record: Record
    #: Since when it runs, or else was handed to its workers. Monotonic seconds.
    since: float = 0.0
    running: bool = False

    @property
    def patience(self) -> float:
        """How long nobody starts beside it, nor it beside anybody. Seconds."""
        return float(min(ALONE, PATIENCE * LONGER**self.record.deaths))


class Lane:
    """Who may start next; `now` is monotonic seconds.

    Those that were at the fewest deaths go first: the innocent are through before the process dies again.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[int, int, Suspect]]] = {}
        self._under_way: dict[Suspect, None] = {}
        self._number = 0

    def add(self, suspect: Suspect) -> None:
        """A suspect came."""
        self._number += 1
        heappush(self._waiting.setdefault(suspect.key.topic, []), (suspect.record.deaths, self._number, suspect))

    @property
    def idle(self) -> bool:
        """Whether nobody waits."""
        return not any(self._waiting.values())

    def waiting(self, topic: str) -> int:
        """How many suspects of the topic wait."""
        return len(self._waiting.get(topic, ()))

    def under_way(self, topic: str) -> bool:
        """Whether a suspect of the topic runs or was handed over."""
        return any(suspect.key.topic == topic for suspect in self._under_way)

    def clear(self, topic: str) -> list[Suspect]:
        """Take out the topic's suspects that wait, in the order in which they came, and forget those handed over that have not begun."""
        for suspect in [suspect for suspect in self._under_way if suspect.key.topic == topic and not suspect.running]:
            del self._under_way[suspect]
        return [suspect for _, _, suspect in sorted(self._waiting.pop(topic, []), key=lambda entry: entry[1])]

    def next(self, now: float, has_room: Callable[[str], bool]) -> Suspect | None:
        """The suspect to hand to its workers now, which thereby is under way; None when none may start, or where it could there is no
        room."""
        heads = [heap[0] for topic, heap in self._waiting.items() if heap and has_room(topic)]
        suspect = min(heads)[2] if heads else None
        if suspect is None or any(now < other.since + max(other.patience, suspect.patience) for other in self._under_way):
            return None
        heappop(self._waiting[suspect.key.topic])
        suspect.since = now
        self._under_way[suspect] = None
        return suspect

    def begun(self, suspect: Suspect, now: float) -> bool:
        """It starts to run. True when it is to blame should the process die: nobody else is under way, or has been for too long to be
        waited for."""
        suspect.since, suspect.running = now, True
        return all(other is suspect or now >= other.since + ALONE for other in self._under_way)

    def ended(self, suspect: Suspect) -> None:
        """It runs no more."""
        self._under_way.pop(suspect, None)
