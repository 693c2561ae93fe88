"""What the demo shows: a live table while jobs run, and a closing one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

#: Over how long a rate is taken. Seconds.
RATE_WINDOW = 1.0

Topics = Mapping[str, Mapping[str, Any]]


def through(topic: Mapping[str, Any]) -> int:
    """How many of a topic's jobs have come to an end."""
    return int(topic["done"] + topic["buried"])


class Rates:
    """Jobs a second for each topic, over the last second."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def rate(self, topic: str, count: int) -> float:
        """Note that `count` jobs are through now; returns the rate since a second ago."""
        seen = self._seen.setdefault(topic, deque())
        now = monotonic()
        seen.append((now, count))
        while now - seen[0][0] > RATE_WINDOW:
            seen.popleft()
        elapsed = now - seen[0][0]
        return (count - seen[0][1]) / elapsed if elapsed else 0.0


def progress(topics: Topics, counts: Mapping[str, int], put: Mapping[str, int], rates: Rates) -> RenderableType:
    """The live table: a row a topic."""
    table = _table("put", "waiting", "running", "done", "buried", "jobs/s")
    table.add_column("")
    for name, count in counts.items():
        topic = topics[name]
        bar = ProgressBar(total=count, completed=through(topic), width=16)
        numbers = (put[name], topic["waiting"], f"{topic['running']:,}/{topic['concurrency']:,}", topic["done"], topic["buried"])
        table.add_row(name, *map(_number, numbers), _number(round(rates.rate(name, through(topic)))), bar)
    return Group(Text(headline(topics, counts), style="bold"), table)


def headline(topics: Topics, counts: Mapping[str, int]) -> str:
    """Where the demo stands, in a sentence."""
    done, total = sum(map(through, topics.values())), sum(counts.values())
    return f"hopd runs {total:,} jobs on {len(counts)} topics: {done:,} are through"


def closing_table(topics: Topics, counts: Mapping[str, int], elapsed: float) -> Table:
    """What became of the jobs."""
    table = _table("at once", "put", "done", "failed", "buried", "lost")
    for name, count in counts.items():
        topic = topics[name]
        numbers = (topic["concurrency"], count, topic["done"], topic["failed"], topic["buried"], topic["lost"])
        table.add_row(name, *map(_number, numbers))
    total = sum(counts.values())
    table.caption = f"{total:,} jobs in {elapsed:.1f} s, {total / elapsed:,.0f} jobs/s"
    return table


def _table(*numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", caption_justify="left")
    table.add_column("topic", no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
