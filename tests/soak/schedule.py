"""Which faults happen when: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

#: Nothing breaks before the daemons have begun, and the last fault leaves time to see what comes of it. Seconds.
FIRST_AT, LAST_BEFORE = 3.0, 5.0

#: Most faults hit a system that has recovered, some hit in the middle of a recovery, some while another one lasts. Seconds.
MEAN_GAP, MAX_GAP, AT_ONCE = 1.5, 6.0, 0.1
CHANCE_AT_ONCE, CHANCE_TOGETHER = 0.2, 0.3

#: The target of a fault that hits everybody.
ALL = -1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it is done to, how long it lasts (seconds, from and to), what mending it takes, how common it is.

    `hits` is broker, network, daemon or jobs. Two faults can last at the same time when they are not done to the same thing.
    """

    hits: str
    shortest: float
    longest: float
    mending: float = 0.0
    share: int = 1
    one_daemon: bool = False


KINDS: Mapping[str, Kind] = {
    "broker_kill": Kind("broker", 0.0, 2.0, mending=4.0, share=2),
    "broker_restart": Kind("broker", 0.0, 1.0, mending=6.0),
    "broker_freeze": Kind("broker", 0.5, 8.0, share=2),
    "memory_alarm": Kind("broker", 0.5, 6.0),
    "disk_alarm": Kind("broker", 0.5, 6.0),
    "connections_closed": Kind("broker", 0.0, 0.0, mending=1.0, share=2),
    "channel_closed": Kind("broker", 0.0, 0.0, mending=1.0, share=3, one_daemon=True),
    "reset": Kind("network", 0.0, 0.0, mending=1.0, share=4, one_daemon=True),
    "cut_up": Kind("network", 0.0, 0.0, mending=1.0, share=2, one_daemon=True),
    "cut_down": Kind("network", 0.0, 0.0, mending=1.0, share=2, one_daemon=True),
    "black_hole": Kind("network", 0.5, 9.0, share=3, one_daemon=True),
    "refused": Kind("network", 0.5, 4.0, share=2, one_daemon=True),
    "slow": Kind("network", 1.0, 5.0, one_daemon=True),
    "sliced": Kind("network", 0.5, 3.0, one_daemon=True),
    "daemon_kill": Kind("daemon", 0.0, 2.0, mending=1.5, share=4, one_daemon=True),
    "daemon_restart": Kind("daemon", 0.0, 1.0, mending=3.0, share=3, one_daemon=True),
    "daemon_freeze": Kind("daemon", 0.5, 9.0, share=2, one_daemon=True),
    "config_changed": Kind("daemon", 0.0, 2.0, mending=1.0, share=2, one_daemon=True),
    "topic_paused": Kind("daemon", 0.5, 4.0, share=2, one_daemon=True),
    "poison": Kind("jobs", 0.0, 0.0, mending=2.0),
    "outage": Kind("jobs", 1.0, 4.0),
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

    @property
    def done_to(self) -> tuple[str, int]:
        """What it is done to: nothing else can be done to that meanwhile."""
        hits = KINDS[self.kind].hits
        return hits, self.target if hits in ("network", "daemon") else ALL

    def __str__(self) -> str:
        return f"{self.kind} of {'everybody' if self.target == ALL else f'daemon {self.target}'}"


def plan(seed: int, seconds: float, daemons: int, only: Sequence[str] = ()) -> list[Fault]:
    """The faults of a soak of that length, `only` of some kinds if named. The same arguments give the same faults."""
    chance = random.Random(seed)
    kinds = _kinds(chance, list(only or KINDS))
    faults: list[Fault] = []
    at = FIRST_AT
    while at < seconds - LAST_BEFORE:
        fault = _fault(chance, len(faults) + 1, at, next(kinds), daemons)
        if faults and fault.done_to != faults[-1].done_to and chance.random() < CHANCE_TOGETHER:
            last = faults[-1]
            fault = replace(fault, at=round(last.at + last.seconds * chance.random(), 2))
        faults.append(fault)
        at = max(at, fault.at + fault.seconds + KINDS[fault.kind].mending) + _gap(chance)
    return faults


def _fault(chance: random.Random, number: int, at: float, name: str, daemons: int) -> Fault:
    kind = KINDS[name]
    lasts = round(chance.uniform(kind.shortest, kind.longest), 2)
    target = chance.randrange(daemons) if kind.one_daemon else ALL
    return Fault(number, round(at, 2), name, target, lasts, chance.random())


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
