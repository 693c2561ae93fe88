"""`python -m tests.soak`: run a soak, print what happened, exit with 1 when a promise was broken."""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tests.soak import report
from tests.soak.faults import inject
from tests.soak.load import WAYS
from tests.soak.schedule import ALL, KINDS, Fault, plan
from tests.soak.stage import Stage
from tests.soak.topics import TOPICS
from tests.soak.verdict import violations
from tests.support.broker import BROKERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when nothing was lost, unexpected or left behind."""
    options = _options(arguments)
    logging.getLogger("hopd").setLevel(logging.CRITICAL)  # the producers' losses are meant to happen
    seconds = options.minutes * 60
    faults = plan(options.seed, seconds, options.daemons, options.only)
    where = f"{options.daemons} daemons on {options.broker}"
    print(f"soak: seed {options.seed}, {seconds:g} s, {where}, {options.rate:g} jobs/s, {len(faults)} faults", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="hopd-soak-"))
    broken = _run(directory, faults, seconds, options)
    if broken:
        print("\n".join(["", *(f"BROKEN: {each}" for each in broken), f"logs: {directory}"]))
        only = f" --only {' '.join(options.only)}" if options.only else ""
        same = f"--seed {options.seed} --minutes {options.minutes:g} --daemons {options.daemons} --broker {options.broker}"
        print(f"replay: python -m tests.soak {same}{only}")
        return 1
    shutil.rmtree(directory)
    print("nothing lost, nothing unexpected, nothing left")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Random faults under load, and a ledger at the end.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults happen (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="the schedule of faults (default: a random one, which is printed)")
    parser.add_argument("--daemons", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--rate", type=float, default=300.0, help="jobs per second (default: 300)")
    parser.add_argument("--broker", choices=BROKERS, default=BROKERS[0], help=f"which (default: {BROKERS[0]})")
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", default=[], help=f"only these faults, of {', '.join(KINDS)}")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(10**6)
    return options


def _run(directory: Path, faults: list[Fault], seconds: float, options: argparse.Namespace) -> list[str]:
    # The pool ends last: a daemon is killed with the thread that started it.
    with ThreadPoolExecutor(options.daemons * 2 + 2) as pool, Stage(directory, options.daemons, options.rate, options.broker) as stage:
        stage.begin()
        happened = _soak(stage, pool, faults, seconds)
        evidence = stage.end(_bound(stage, happened))
        print(report.table(happened))
        print(report.counts(evidence, len(stage.keeper.poisoned), dict(stage.load.errors)))
    return violations(evidence)


def _soak(stage: Stage, pool: Executor, faults: list[Fault], seconds: float) -> list[report.Happened]:
    """Each fault at its time, or as soon as the one before it that is done to the same thing is over."""
    started = time.monotonic()
    under_way: dict[tuple[str, int], Future[report.Happened]] = {}
    all_of_them = []
    for fault in faults:
        _sleep_until(started + fault.at)
        if fault.done_to in under_way:
            wait([under_way[fault.done_to]])
        under_way[fault.done_to] = pool.submit(_happen, stage, fault, started)
        all_of_them.append(under_way[fault.done_to])
    _sleep_until(started + seconds)
    return [future.result() for future in all_of_them]


def _happen(stage: Stage, fault: Fault, started: float) -> report.Happened:
    at = time.monotonic()
    print(f"  {at - started:6.1f}  {fault}\n", end="", flush=True)  # in one piece: others print, too
    remark = inject(stage, fault)
    recovery = stage.watch.expect(daemon.number for daemon in stage.hit(fault.target))
    return report.Happened(fault, at - started, time.monotonic() - at, remark, recovery)


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))


def _bound(stage: Stage, happened: list[report.Happened]) -> int:
    """Each fault may repeat what the daemons it hits hold, on all their channels, and one uncertain put of each producer."""
    held = sum(topic.prefetch for topic in TOPICS)
    hits = sum(len(stage.daemons) if each.fault.target == ALL else 1 for each in happened) + len(stage.keeper.poisoned)
    return hits * held + len(happened) * len(WAYS)


if __name__ == "__main__":
    sys.exit(main())
