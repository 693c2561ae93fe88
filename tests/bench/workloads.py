"""What is run, by whom, and what hopd is held to. Frozen values; `trials` and `contenders` give the words their meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

#: How a workload is run, see `trials`.
Kind: TypeAlias = Literal["consume", "put", "pull", "latency", "start", "waiting"]

#: What a figure says; `figures.METRICS` has unit and form of each.
Metric: TypeAlias = Literal["rate", "slot_rate", "cpu", "rss", "p50", "p99", "seconds"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a contender at a workload."""

    workload: str
    contender: str


@dataclass(frozen=True, slots=True)
class Target:
    """What the figure `metric` of a contender must be: at least (or most) `bound`, or `bound` times that of the row `against`."""

    metric: Metric
    bound: float
    against: Row | None = None
    at_most: bool = False
    of: str = "hopd"


@dataclass(frozen=True, slots=True)
class Workload:
    """Sizes in bytes, times in seconds. Jobs wait for a random time from `shortest` to `longest`, each `long_every`th for `long`."""

    name: str
    title: str
    contenders: tuple[str, ...]
    jobs: int
    targets: tuple[Target, ...] = ()
    kind: Kind = "consume"
    body: int = 100
    topics: int = 1
    concurrency: int = 500
    shortest: float = 0.0
    longest: float = 0.0
    long_every: int = 0
    long: float = 0.0
    #: The row whose rate is 1 in the table's last column but one.
    ceiling: Row | None = None


CEILING = Row("no-op", "ceiling")

NO_OP = Workload(
    "no-op",
    "no-op, 100 B, concurrency 500",
    ("ceiling", "hopd", "hopd-bare"),
    60_000,
    (
        Target("rate", 0.85, CEILING),
        Target("rate", 0.95, Row("no-op", "hopd-bare")),
    ),
    ceiling=CEILING,
)

RAW = Row("put", "raw")

PUT = Workload(
    "put",
    "put 100 B, confirmed",
    ("raw", "put-one", "put-100", "put-many"),
    40_000,
    (
        Target("rate", 0.7, RAW, of="put-100"),
        Target("rate", 0.85, RAW, of="put-many"),
    ),
    kind="put",
    ceiling=RAW,
)

WORKLOADS: tuple[Workload, ...] = (NO_OP, PUT)


def quick(workload: Workload) -> Workload:
    """The same with fewer jobs, for a first look."""
    return replace(workload, jobs=workload.jobs // 3)


def chosen(names: Sequence[str], workloads: Iterable[Workload] = WORKLOADS) -> tuple[Workload, ...]:
    """The workloads of these names, or of groups of that name (`topics` is `topics-1`, `topics-10` …); all when there are none."""
    return tuple(each for each in workloads if not names or any(each.name == name or each.name.startswith(f"{name}-") for name in names))
