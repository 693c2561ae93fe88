"""The bench's table and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.bench import report
from tests.bench.figures import Results, Verdict
from tests.bench.workloads import NO_OP, START, Row, Target

WORKLOAD = replace(NO_OP, contenders=("ceiling", "hopd", "celery"), targets=(Target("rate", 0.85, Row("no-op", "ceiling")),))

RESULTS: Results = {
    Row("no-op", "ceiling"): [{"rate": 40_000.0, "cpu": 2e-6, "rss": 25e6}, {"rate": 20_000.0, "cpu": 3e-6, "rss": 26e6}],
    Row("no-op", "hopd"): [{"rate": 36_000.0, "cpu": 7e-6, "rss": 55e6}, {"rate": 19_000.0, "cpu": 8e-6, "rss": 55e6}],
}


def line(contender: str) -> str:
    """The line of the table with that contender, one space between its cells."""
    console = Console(width=220, color_system=None)
    with console.capture() as capture:
        console.print(report.table(RESULTS, [WORKLOAD], {"celery": "it is not installed"}))
    return " ".join(next(each for each in capture.get().splitlines() if contender in each).split())


def test_a_line_has_median_extremes_cost_share_and_verdict() -> None:
    assert line("hopd") == "hopd 27,500 19,000–36,000 7.5 µs 55 MB 0.93 0.93 × ceiling (≥ 0.85 ok)"


def test_a_contender_that_could_not_compete_says_why() -> None:
    assert line("Celery").endswith("skipped: it is not installed")


@pytest.mark.parametrize(
    ("target", "value", "text"),
    [
        (Target("rate", 0.85, Row("no-op", "ceiling")), 0.84, "0.84 × ceiling (≥ 0.85 short)"),
        (Target("cpu", 0.6, Row("no-op", "go"), at_most=True), 0.55, "0.55 × cpu of go (≤ 0.6 ok)"),
        (Target("cpu", 1.3, Row("topics-1", "hopd"), at_most=True), 1.4, "1.40 × cpu of topics-1 (≤ 1.3 short)"),
        (Target("seconds", 0.6, at_most=True), 0.41, "0.41 s (≤ 0.60 s ok)"),
        (Target("rss", 120e6, at_most=True), 119.6e6, "120 MB (≤ 120 MB ok)"),
        (Target("rate", 1.3, Row("no-op", "go")), None, "? × go (≥ 1.3 not measured)"),
        (Target("p99", 0.005, at_most=True), None, "? (≤ p99 5.00 ms not measured)"),
    ],
)
def test_a_verdict_names_value_bound_and_outcome(target: Target, value: float | None, text: str) -> None:
    assert report.judgement(Verdict(target, value)) == text


def test_a_row_without_a_rate_has_empty_cells_for_it() -> None:
    cells = report.cells({Row("start", "hopd"): [{"seconds": 0.5}]}, START, "hopd")

    assert [str(cell) for cell in cells] == ["", "", "", "", "", "0.50 s", "0.50 s (≤ 0.60 s ok)"]


def test_the_json_has_every_sample_and_every_verdict() -> None:
    about = {"date": "2026-11-25"}

    written = json.loads(json.dumps(report.as_json(RESULTS, [WORKLOAD], {"celery": "not installed"}, about)))

    assert written["date"] == "2026-11-25"
    assert written["skipped"] == {"celery": "not installed"}
    assert [len(row["samples"]) for row in written["rows"]] == [2, 2]
    assert written["targets"] == [
        {
            "workload": "no-op",
            "contender": "hopd",
            "metric": "rate",
            "against": "no-op/ceiling",
            "at_least": 0.85,
            "value": pytest.approx(0.925),
            "holds": True,
        }
    ]
