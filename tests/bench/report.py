"""The bench's table, for people, and its JSON, for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from tests.bench.contenders import CONTENDERS
from tests.bench.figures import METRICS, Results, Verdict, figure, ratio, verdict
from tests.bench.workloads import Metric, Row, Workload

#: Metrics that have no column, and are told together.
OTHERS: tuple[Metric, ...] = ("p50", "p99", "seconds")

_WORDS = {True: "ok", False: "short", None: "not measured"}
_COLOURS = {True: "green", False: "red", None: "yellow"}


def table(results: Results, workloads: Iterable[Workload], absent: Mapping[str, str]) -> Table:
    """A section for each workload, a line for each contender; `absent` says why some could not compete."""
    made = Table("workload", "contender", box=None, header_style="bold", pad_edge=False)
    for title in ("jobs/s", "min–max", "CPU/job", "peak RSS", "× ceiling"):
        made.add_column(title, justify="right", no_wrap=True)
    made.add_column("also")
    made.add_column("what is asked of it")
    for workload in workloads:
        title = workload.title
        for contender in workload.contenders:
            if contender in absent:
                made.add_row(title, CONTENDERS[contender].title, *[""] * 5, "", f"skipped: {absent[contender]}")
            else:
                made.add_row(title, CONTENDERS[contender].title, *cells(results, workload, contender))
            title = ""
        made.add_section()
    return made


def cells(results: Results, workload: Workload, contender: str) -> list[Text | str]:
    """The figures of one line."""
    row = Row(workload.name, contender)
    rate = figure(results, row, "rate")
    share = ratio(results, row, Row(workload.name, workload.ceiling), "rate") if workload.ceiling else None
    verdicts = [verdict(results, workload.name, target) for target in workload.targets if target.of == contender]
    return [
        f"{rate.median:,.0f}" if rate else "",
        f"{rate.least:,.0f}–{rate.most:,.0f}" if rate else "",
        _median(results, row, "cpu"),
        _median(results, row, "rss"),
        f"{share:.2f}" if share else "",
        ", ".join(text for text in (_median(results, row, metric) for metric in OTHERS) if text),
        Text("\n").join(Text(judgement(each), _COLOURS[each.holds]) for each in verdicts),
    ]


def judgement(result: Verdict) -> str:
    """As ``0.92 × ceiling (≥ 0.85 ok)``."""
    target = result.target
    sign = "≤" if target.at_most else "≥"
    word = _WORDS[result.holds]
    if target.against is None:
        form = METRICS[target.metric]
        return f"{form(result.value) if result.value is not None else '?'} ({sign} {form(target.bound)} {word})"
    value = "?" if result.value is None else f"{result.value:.2f}"
    what = "" if target.metric in ("rate", "slot_rate") else f"{target.metric} of "
    return f"{value} × {what}{_other(target.against)} ({sign} {target.bound:g} {word})"


def _other(row: Row) -> str:
    """hopd is compared with others, or with itself at another workload."""
    return row.workload if row.contender == "hopd" else row.contender


def _median(results: Results, row: Row, metric: Metric) -> str:
    found = figure(results, row, metric)
    return METRICS[metric](found.median) if found else ""


def as_json(results: Results, workloads: Sequence[Workload], absent: Mapping[str, str], about: Mapping[str, Any]) -> dict[str, Any]:
    """All samples and verdicts; `about` says when, where and with which versions. Times in seconds, sizes in bytes."""
    return {
        **about,
        "skipped": dict(absent),
        "rows": [
            {"workload": row.workload, "contender": row.contender, "samples": [dict(sample) for sample in samples]}
            for row, samples in results.items()
        ],
        "targets": [
            {
                "workload": workload.name,
                "contender": target.of,
                "metric": target.metric,
                "against": f"{target.against.workload}/{target.against.contender}" if target.against else None,
                "at_most" if target.at_most else "at_least": target.bound,
                "value": (came := verdict(results, workload.name, target)).value,
                "holds": came.holds,
            }
            for workload in workloads
            for target in workload.targets
        ],
    }
