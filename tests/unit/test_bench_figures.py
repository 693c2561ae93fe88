"""The bench's figures: medians, ratios within a round, and whether a target holds."""

from __future__ import annotations

import pytest

from tests.bench.figures import Figure, Results, figure, ratio, verdict
from tests.bench.workloads import Metric, Row, Target

HOPD, CEILING = Row("no-op", "hopd"), Row("no-op", "ceiling")


def results(hopd: list[float], ceiling: list[float], metric: Metric = "rate") -> Results:
    return {HOPD: [{metric: value} for value in hopd], CEILING: [{metric: value} for value in ceiling]}


def test_a_figure_is_the_median_with_the_extremes() -> None:
    assert figure(results([3.0, 1.0, 2.0], []), HOPD, "rate") == Figure(2.0, 1.0, 3.0)


def test_a_row_that_was_not_run_has_no_figure() -> None:
    assert figure({}, HOPD, "rate") is None


def test_a_metric_that_was_not_measured_has_no_figure() -> None:
    assert figure(results([1.0], []), HOPD, "p99") is None


def test_a_ratio_compares_within_rounds() -> None:
    # Given a machine that is half as fast in the second round, and a hiccup in the third
    measured = results([90.0, 45.0, 10.0], [100.0, 50.0, 100.0])

    # Then what counts is how the two compare, not the round
    assert ratio(measured, HOPD, CEILING, "rate") == pytest.approx(0.9)


def test_there_is_no_ratio_to_a_row_that_was_not_run() -> None:
    assert ratio({HOPD: [{"rate": 1.0}]}, HOPD, CEILING, "rate") is None


@pytest.mark.parametrize(
    ("value", "at_most", "holds"),
    [(85.0, False, True), (84.0, False, False), (85.0, True, True), (86.0, True, False)],
)
def test_a_target_holds_up_to_its_bound(value: float, at_most: bool, holds: bool) -> None:
    target = Target("rate", 0.85, CEILING, at_most=at_most)

    assert verdict(results([value], [100.0]), "no-op", target).holds is holds


def test_a_target_without_another_row_bounds_the_figure_itself() -> None:
    target = Target("seconds", 0.6, at_most=True)

    assert verdict(results([0.7, 0.5, 0.4], [], "seconds"), "no-op", target).value == 0.5


def test_a_target_that_was_not_measured_neither_holds_nor_fails() -> None:
    assert verdict({}, "no-op", Target("rate", 0.85, CEILING)).holds is None
