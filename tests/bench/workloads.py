"""What is run, by whom, and what hopd is held to. Frozen values; `trials` and `contenders` give the words their meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

#: How a workload is run, see `trials`.
Kind: TypeAlias = Literal["consume", "thaw", "paced", "put", "start", "waiting"]

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
    #: Jobs a second that are put while they are consumed; 0: all at once.
    pace: float = 0.0
    #: The contender whose rate is 1 in the table's column for it.
    ceiling: str | None = None

    @property
    def idle(self) -> bool:
        """Whether jobs do nothing."""
        return self.longest == 0

    @property
    def group(self) -> str:
        """Those that are alike but for a number have the same."""
        return self.name.partition("-")[0]

    @property
    def rows_compared_with(self) -> set[Row]:
        """Without which its own rows say little."""
        return {target.against for target in self.targets if target.against}


#: A ratio of two runs that should be alike may differ by so much without meaning anything.
ALIKE = 0.05

NO_OP = Workload(
    "no-op",
    "no-op, 100 B, concurrency 500",
    ("ceiling", "hopd", "hopd-bare", "go", "pika", "pyamqp", "aiopika", "dramatiq", "celery"),
    60_000,
    (
        Target("rate", 0.85, Row("no-op", "ceiling")),
        Target("rate", 1.3, Row("no-op", "go")),
        Target("rate", 4.0, Row("no-op", "pika")),
        Target("rate", 8.0, Row("no-op", "dramatiq")),
        Target("rate", 18.0, Row("no-op", "celery")),
        Target("cpu", 0.6, Row("no-op", "go"), at_most=True),
        Target("rate", 1 - ALIKE, Row("no-op", "hopd-bare")),
    ),
    ceiling="ceiling",
)

LARGE = Workload(
    "large",
    "no-op, 10 kB, concurrency 500",
    ("ceiling", "hopd", "go"),
    20_000,
    body=10_000,
    ceiling="ceiling",
)

SLEEP = Workload(
    "sleep",
    "10 ms each, concurrency 1,000",
    ("ceiling", "hopd", "go"),
    40_000,
    (Target("rate", 0.65, Row("sleep", "ceiling")),),
    concurrency=1_000,
    shortest=0.010,
    longest=0.010,
    ceiling="ceiling",
)

RANDOM = Workload(
    "random",
    "1-50 ms, concurrency 1,000",
    ("ceiling", "hopd", "go", "aiopika", "dramatiq", "celery"),
    40_000,
    (Target("rate", 2.0, Row("random", "go")), Target("rate", 0.5, Row("random", "ceiling"))),
    concurrency=1_000,
    shortest=0.001,
    longest=0.050,
    ceiling="ceiling",
)

SPREAD = Workload("spread", "5-200 ms, concurrency 1,000", ("hopd",), 60_000, concurrency=1_000, shortest=0.005, longest=0.200)

#: The long ones hold slots, which is no fault of anybody's: compared are the jobs a second for each slot that is free.
SPREAD_LONG = replace(
    SPREAD,
    name="spread-long",
    title="5-200 ms, one in 1,000 takes 10 s",
    targets=(Target("slot_rate", 1 - ALIKE, Row("spread", "hopd")),),
    long_every=1_000,
    long=10.0,
)


def _topics(count: int) -> Workload:
    targets = (Target("cpu", 1.3, Row("topics-1", "hopd"), at_most=True),) if count == 1_000 else ()
    title = f"no-op, {count:,} topic{'s' if count > 1 else ''}"
    return Workload(f"topics-{count}", title, ("hopd",), 80_000, targets, "thaw", topics=count, concurrency=max(10, 500 // count))


def _concurrency(count: int) -> Workload:
    """So many run at once, and whatever their number, 10,000 a second could be done: the average job waits for a 10,000th of them."""
    targets = (Target("cpu", 1.3, Row("concurrency-10", "hopd"), at_most=True), Target("rss", 120e6, at_most=True))
    wait = count / 10_000
    return Workload(
        f"concurrency-{count}",
        f"{count:,} running, {wait * 1e3:,.0f} ms on average",
        ("hopd",),
        max(20_000, 3 * count),
        targets if count == 10_000 else (),
        concurrency=count,
        shortest=wait / 2,
        longest=wait * 3 / 2,
    )


PUT = Workload(
    "put",
    "put 100 B, confirmed",
    ("raw", "put-one", "put-100", "put-many"),
    40_000,
    (Target("rate", 0.7, Row("put", "raw"), of="put-100"), Target("rate", 0.85, Row("put", "raw"), of="put-many")),
    "put",
    ceiling="raw",
)

PULL = Workload("pull", "pull and done", ("pull", "go-get"), 10_000, (Target("rate", 3.0, Row("pull", "go-get"), of="pull"),))

LATENCY = Workload(
    "latency",
    "put to handler, 1,000 jobs/s",
    ("hopd", "go"),
    4_000,
    (
        Target("p50", 0.001, at_most=True),
        Target("p99", 0.005, at_most=True),
        Target("p99", 2.0, Row("latency", "go"), at_most=True),
    ),
    "paced",
    pace=1_000.0,
)

START = Workload("start", "start to first job", ("hopd",), 1, (Target("seconds", 0.6, at_most=True),), "start")


def _waiting(count: int) -> Workload:
    """Memory while jobs wait in the broker and all workers are busy for longer than anybody looks."""
    targets = (Target("rss", 1 + ALIKE, Row("waiting-1000", "hopd"), at_most=True),) if count > 1_000 else ()
    title = f"{count:,} waiting in the broker"
    return Workload(f"waiting-{count}", title, ("hopd",), count, targets, "waiting", concurrency=100, shortest=600.0, longest=600.0)


#: In this order. Putting comes first: once 1,000 topics were consumed, RabbitMQ takes a third fewer puts of 100 callers for minutes.
WORKLOADS: tuple[Workload, ...] = (
    PUT,
    PULL,
    NO_OP,
    LARGE,
    SLEEP,
    RANDOM,
    SPREAD,
    SPREAD_LONG,
    *map(_topics, (1, 10, 100, 1_000)),
    *map(_concurrency, (10, 100, 1_000, 10_000)),
    LATENCY,
    START,
    *map(_waiting, (1_000, 100_000)),
)

#: What is left of the jobs for a first look. Where memory or long jobs are measured their number is the point.
QUICK = 0.4
WHOLE = ("start", "waiting", "concurrency-10000", "spread", "topics-1000")


def quick(workload: Workload) -> Workload:
    """The same with fewer jobs, for a first look."""
    return workload if workload.name.startswith(WHOLE) else replace(workload, jobs=int(workload.jobs * QUICK))


def chosen(names: Sequence[str]) -> tuple[Workload, ...]:
    """The workloads of these names, or of groups of that name (`topics` is `topics-1`, `topics-10` …); all when there are none."""
    return tuple(each for each in WORKLOADS if not names or {each.name, each.group}.intersection(names))


def compared(workloads: Sequence[Workload]) -> tuple[Workload, ...]:
    """These, and of the others the rows that theirs are compared with."""
    wanted = {row for each in workloads for row in each.rows_compared_with}
    names = {each.name for each in workloads}
    others = (_only(each, wanted) for each in WORKLOADS if each.name not in names)
    found = {each.name: each for each in (*workloads, *others) if each.contenders}
    return tuple(found[each.name] for each in WORKLOADS if each.name in found)


def _only(workload: Workload, rows: set[Row]) -> Workload:
    """The workload with no other rows than these, and nothing asked of them."""
    return replace(workload, contenders=tuple(name for name in workload.contenders if Row(workload.name, name) in rows), targets=())
