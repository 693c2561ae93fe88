"""The rounds: every row once in each, alternating, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tests.bench.figures import Sample
from tests.bench.stage import Stage
from tests.bench.trials import trial
from tests.bench.workloads import Row, Workload


def rows_of(workloads: Sequence[Workload], absent: Collection[str]) -> list[tuple[Workload, Row]]:
    """What is to be run in a round, in the order of the table."""
    return [(workload, Row(workload.name, name)) for workload in workloads for name in workload.contenders if name not in absent]


def run(
    stage: Stage, workloads: Sequence[Workload], rounds: int, absent: Collection[str], say: Callable[[str], None]
) -> dict[Row, list[Sample]]:
    """All samples. Every second round goes backwards: what comes late in a round is not late in the next one."""
    rows = rows_of(workloads, absent)
    results: dict[Row, list[Sample]] = {row: [] for _, row in rows}
    for number in range(rounds):
        for workload, row in rows if number % 2 == 0 else reversed(rows):
            say(f"round {number + 1} of {rounds}: {row.workload}, {row.contender}")
            results[row].append(trial(stage, workload, row.contender))
    return results
