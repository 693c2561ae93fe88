"""From samples to figures: medians, ratios within a round, and whether what was promised holds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from tests.bench.workloads import Metric, Row, Target

#: The figures of one trial.
Sample: TypeAlias = Mapping[Metric, float]

#: The samples of each row, a round each and in their order.
Results: TypeAlias = Mapping[Row, Sequence[Sample]]

#: How each metric is written.
METRICS: Mapping[Metric, Callable[[float], str]] = {
    "rate": lambda value: f"{value:,.0f}/s",
    "slot_rate": lambda value: f"{value:,.0f}/s",
    "cpu": lambda value: f"{value * 1e6:,.1f} µs",
    "rss": lambda value: f"{value / 1e6:,.0f} MB",
    "p50": lambda value: f"p50 {value * 1e3:.2f} ms",
    "p99": lambda value: f"p99 {value * 1e3:.2f} ms",
    "seconds": lambda value: f"{value:.2f} s",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of a row over all rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a target: the value that it bounds, or None when that was not measured."""

    target: Target
    value: float | None

    @property
    def holds(self) -> bool | None:
        """Whether it does; None when nobody knows."""
        if self.value is None:
            return None
        return self.value <= self.target.bound if self.target.at_most else self.value >= self.target.bound


def figure(results: Results, row: Row, metric: Metric) -> Figure | None:
    """None when the row has no such metric."""
    values = [sample[metric] for sample in results.get(row, ()) if metric in sample]
    return Figure(median(values), min(values), max(values)) if values else None


def ratio(results: Results, row: Row, against: Row, metric: Metric) -> float | None:
    """The median of the ratios in each round, as the machine's mood is the same for both; None when there is none."""
    pairs = zip(results.get(row, ()), results.get(against, ()), strict=False)
    ratios = [mine[metric] / other[metric] for mine, other in pairs if metric in mine and other.get(metric)]
    return median(ratios) if ratios else None


def verdict(results: Results, workload: str, target: Target) -> Verdict:
    """What came of a target of that workload."""
    row = Row(workload, target.of)
    if target.against is not None:
        return Verdict(target, ratio(results, row, target.against, target.metric))
    found = figure(results, row, target.metric)
    return Verdict(target, found.median if found else None)
