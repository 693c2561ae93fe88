"""The bench's picture: jobs a second of all contenders, as an SVG that a README can show on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from tests.bench.contenders import CONTENDERS
from tests.bench.figures import Results, figure, ratio
from tests.bench.workloads import NO_OP, RANDOM, Row, Workload

#: What is drawn: where everybody can compete, and what jobs are like in life.
DRAWN: tuple[Workload, ...] = (NO_OP, RANDOM)

#: Not competitors: hopd once more, in another setting.
LEFT_OUT = ("hopd-bare",)

#: Readable on white and on black: nobody knows what page it will be on.
INK, THEIRS = "#768390", "#8b949e"
COLOURS = {"hopd": "#2f81f7", "ceiling": "#57ab5a"}

#: Inches, at 100 points each: a README is about 8 wide.
WIDTH, BAR, HEAD = 8.2, 0.27, 0.62

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "hopd",  # the same figures make the same file
    "text.color": INK,
    "ytick.color": INK,
}


def svg(results: Results, heading: str) -> str:
    """The picture of what was measured of the drawn workloads; `heading` says when and with what. ValueError when nothing was."""
    panels = [(workload, drawn) for workload in DRAWN if (drawn := bars(results, workload))]
    if not panels:
        raise ValueError("nothing of what is drawn was measured")
    heights = [len(drawn) * BAR + HEAD for _, drawn in panels]
    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=(WIDTH, sum(heights) + HEAD / 2), layout="constrained")
        canvas.suptitle(heading, fontsize=9, color=INK)
        axes = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for place, (workload, drawn) in zip(axes[:, 0], panels, strict=True):
            _panel(place, workload.title, drawn)
        out = StringIO()
        canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at the end of lines, and none is to be committed.
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@dataclass(frozen=True, slots=True)
class Bar:
    """A contender's median jobs a second, and what is written behind it."""

    contender: str
    rate: float
    label: str


def bars(results: Results, workload: Workload) -> list[Bar]:
    """Those that were measured: the ceiling first, then the fastest."""
    made = []
    for name in workload.contenders:
        found = figure(results, Row(workload.name, name), "rate")
        if found and name not in LEFT_OUT:
            made.append(Bar(name, found.median, f"{found.median:,.0f} jobs/s{_compared(results, Row(workload.name, name))}"))
    return sorted(made, key=lambda bar: (bar.contender != "ceiling", -bar.rate))


def _compared(results: Results, row: Row) -> str:
    """How many times as fast hopd is."""
    factor = ratio(results, Row(row.workload, "hopd"), row, "rate")
    return "" if factor is None or row.contender in ("hopd", "ceiling") else f" · hopd does {factor:.1f} ×"


def _panel(place: Any, title: str, drawn: Sequence[Bar]) -> None:
    names = [CONTENDERS[bar.contender].title for bar in drawn]
    colours = [COLOURS.get(bar.contender, THEIRS) for bar in drawn]
    made = place.barh(names, [bar.rate for bar in drawn], color=colours, height=0.7)
    place.bar_label(made, [bar.label for bar in drawn], padding=5)
    place.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    place.set_xlim(0, max(bar.rate for bar in drawn) * 1.45)  # room for the labels
    place.invert_yaxis()
    place.xaxis.set_visible(False)
    place.tick_params(axis="y", length=0)
    place.spines[:].set_visible(False)
