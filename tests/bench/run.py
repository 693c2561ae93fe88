"""The rounds: every row once in each, alternating, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby

from tests.bench.figures import Sample
from tests.bench.stage import Stage
from tests.bench.trials import trial
from tests.bench.workloads import Row, Workload


def plan(workloads: Sequence[Workload], rounds: int, absent: Collection[str]) -> Iterator[tuple[int, Workload, Row]]:
    """Round, workload and row of each trial. The rounds of a group follow each other, so that what is compared is minutes apart at
    most, and every second one goes backwards, so that what comes last in one does not in the next."""
    for _, group in groupby(workloads, key=lambda workload: workload.group):
        rows = [(workload, Row(workload.name, name)) for workload in group for name in workload.contenders if name not in absent]
        for number in range(rounds):
            for workload, row in rows if number % 2 == 0 else reversed(rows):
                yield number, workload, row


def run(
    stage: Stage, workloads: Sequence[Workload], rounds: int, absent: Collection[str], say: Callable[[str], object]
) -> dict[Row, list[Sample]]:
    """All samples; `say` is told how it goes on."""
    results: dict[Row, list[Sample]] = {}
    for number, workload, row in plan(workloads, rounds, absent):
        began = time.monotonic()
        results.setdefault(row, []).append(trial(stage, workload, row.contender))
        say(f"{row.workload}, {row.contender}: round {number + 1} of {rounds}, {time.monotonic() - began:.1f} s")
    return results
