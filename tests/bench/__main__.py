"""`python -m tests.bench`: run the bench and print its table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from hopd.version import __version__
from tests.bench import report
from tests.bench.peers import commands
from tests.bench.run import run
from tests.bench.stage import Stage
from tests.bench.workloads import WORKLOADS, chosen, compared, quick

#: The table is wide; where nobody looks at it, in a file, it need not be wrapped.
WIDTH = 190


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when it ran, whatever came out of it."""
    options = _options(arguments)
    workloads = [quick(each) if options.quick else each for each in compared(chosen(options.only))]
    absent = commands.absent()
    progress = Console(stderr=True)
    with Stage() as stage, progress.status("starting a broker") as status:
        about = _about(stage)
        results = run(stage, workloads, options.rounds, absent, status.update)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    console.print(f"{about['date']}, {', '.join(f'{name} {number}' for name, number in about['versions'].items())}")
    console.print(report.table(results, workloads, absent))
    if options.json:
        options.json.write_text(json.dumps(report.as_json(results, workloads, absent, about), indent=1) + "\n")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="hopd beside the broker's limit, and beside others.")
    names = ", ".join(each.name for each in WORKLOADS)
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", default=[], help=f"only these, of {names}")
    parser.add_argument("--rounds", type=int, help="how often everything is run (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round with a third of the jobs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there too")
    options = parser.parse_args(arguments)
    if not chosen(options.only):
        parser.error(f"there is no workload {' or '.join(options.only)}")
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    return options


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
