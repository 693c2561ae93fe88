"""Which faults happen when: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

#: Nothing breaks before the daemons have begun, and the last fault leaves time to see what comes of it. Seconds.
FIRST_AT, LAST_BEFORE = 3.0, 5.0

#: Most faults hit a system that has recovered; now and then one hits in the middle of a recovery. Seconds.
MEAN_GAP, MAX_GAP, AT_ONCE = 1.5, 6.0, 0.1
CHANCE_AT_ONCE = 0.2

#: The target of a fault that hits everybody.
ALL = -1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: how long it lasts (seconds, from and to), what mending it takes, how common it is, and what it hits."""

    shortest: float
    longest: float
    mending: float = 0.0
    share: int = 1
    one_daemon: bool = True


KINDS: Mapping[str, Kind] = {
    # the broker
    "broker_kill": Kind(0.0, 2.0, mending=4.0, share=2, one_daemon=False),
    "broker_restart": Kind(0.0, 1.0, mending=6.0, one_daemon=False),
    "broker_freeze": Kind(0.5, 8.0, share=2, one_daemon=False),
    "memory_alarm": Kind(0.5, 6.0, one_daemon=False),
    "disk_alarm": Kind(0.5, 6.0, one_daemon=False),
    "connections_closed": Kind(0.0, 0.0, mending=1.0, share=2, one_daemon=False),
    "channel_closed": Kind(0.0, 0.0, mending=1.0, share=3),
    # the network
    "reset": Kind(0.0, 0.0, mending=1.0, share=4),
    "cut_up": Kind(0.0, 0.0, mending=1.0, share=2),
    "cut_down": Kind(0.0, 0.0, mending=1.0, share=2),
    "black_hole": Kind(0.5, 9.0, share=3),
    "refused": Kind(0.5, 4.0, share=2),
    "slow": Kind(1.0, 5.0),
    "sliced": Kind(0.5, 3.0),
    # the daemons
    "daemon_kill": Kind(0.0, 2.0, mending=1.5, share=4),
    "daemon_restart": Kind(0.0, 1.0, mending=3.0, share=3),
    "daemon_freeze": Kind(0.5, 9.0, share=2),
    "topic_paused": Kind(0.5, 4.0, share=2),
    # the jobs
    "poison": Kind(0.0, 0.0, mending=2.0, one_daemon=False),
    "outage": Kind(1.0, 4.0, one_daemon=False),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it begins (seconds after the start), how long it lasts, whom it hits (a daemon's number, or `ALL`).

    `dice` in [0, 1) decides what else there is to decide about it.
    """

    number: int
    at: float
    kind: str
    target: int
    seconds: float
    dice: float

    def __str__(self) -> str:
        return f"{self.kind} of {'everybody' if self.target == ALL else f'daemon {self.target}'}"


def plan(seed: int, seconds: float, daemons: int, only: Sequence[str] = ()) -> list[Fault]:
    """The faults of a soak of that length, `only` of some kinds if named. The same arguments give the same faults."""
    chance = random.Random(seed)
    kinds = _kinds(chance, list(only or KINDS))
    faults: list[Fault] = []
    at = FIRST_AT
    while at < seconds - LAST_BEFORE:
        name = next(kinds)
        kind = KINDS[name]
        lasts = round(chance.uniform(kind.shortest, kind.longest), 2)
        target = chance.randrange(daemons) if kind.one_daemon else ALL
        faults.append(Fault(len(faults) + 1, round(at, 2), name, target, lasts, chance.random()))
        at += lasts + kind.mending + _gap(chance)
    return faults


def _kinds(chance: random.Random, among: list[str]) -> Iterator[str]:
    """Every kind once, in random order; then by their shares."""
    bag = list(among)
    while True:
        chance.shuffle(bag)
        yield from bag
        bag = [name for name in among for _ in range(KINDS[name].share)]


def _gap(chance: random.Random) -> float:
    if chance.random() < CHANCE_AT_ONCE:
        return AT_ONCE
    return min(MAX_GAP, chance.expovariate(1 / MEAN_GAP))
