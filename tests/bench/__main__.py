"""`python -m tests.bench`: run the bench and print its table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from hopd.version import __version__
from tests.bench import chart, report
from tests.bench.peers import commands
from tests.bench.run import run
from tests.bench.stage import Stage
from tests.bench.workloads import WORKLOADS, chosen, compared, quick

#: The table is wide; where nobody looks at it, in a file, it need not be wrapped.
WIDTH = 190

#: Where the results of a run go that are not to be kept: `make clean` removes it.
OUT = Path("build")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when it ran, whatever came out of it."""
    options = _options(arguments)
    workloads = [quick(each) if options.quick else each for each in compared(chosen(options.only))]
    absent = commands.absent()
    with Stage() as stage:
        about = _about(stage)
        results = run(stage, workloads, options.rounds, absent, Console(stderr=True, highlight=False).print)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    console.print(f"{_heading(about)}: {', '.join(f'{name} {number}' for name, number in about['versions'].items())}")
    console.print(report.table(results, workloads, absent))
    _write(options.json, json.dumps(report.as_json(results, workloads, absent, about), indent=1) + "\n")
    if any(row.workload in {each.name for each in chart.DRAWN} for row in results):
        _write(options.svg, chart.svg(results, _heading(about)))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="hopd beside the broker's limit, and beside others.")
    names = ", ".join(each.name for each in WORKLOADS)
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", default=[], help=f"only these, of {names}")
    parser.add_argument("--rounds", type=int, help="how often everything is run (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round with a third of the jobs")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", default=OUT / "bench.json", help="where to write all samples (default: %(default)s)"
    )
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", default=OUT / "bench.svg", help="where to draw the chart (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if not chosen(options.only):
        parser.error(f"there is no workload {' or '.join(options.only)}")
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    return options


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _heading(about: Mapping[str, Any]) -> str:
    return f"hopd {about['versions']['hopd']}, {about['date']}, RabbitMQ {about['versions']['RabbitMQ']} on the same {about['cores']} cores"


def _about(stage: Stage) -> dict[str, Any]:
    versions = {
        "hopd": __version__,
        "RabbitMQ": stage.node.ctl("version").strip(),
        "Python": platform.python_version(),
        "gevent": version("gevent"),
        **commands.versions(),
    }
    return {"date": datetime.now(timezone.utc).date().isoformat(), "cores": os.cpu_count(), "versions": versions}


if __name__ == "__main__":
    sys.exit(main())
