"""What the bench sees of a process from outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench import measure
from tests.support.process import Processes

WORKS = "import time; sum(range(3_000_000)); print(time.process_time(), 'done', flush=True); time.sleep(600)"

#: A shell that has another process do the work, which says when it is done and stays.
DELEGATES = """exec 3<>fifo; "$1" -c "sum(range(3_000_000)); print('done', flush=True); input()" <&3; exit"""


def test_the_cpu_of_a_process_is_what_it_says_itself(processes: Processes) -> None:
    # Given a process that has worked, says how much CPU that was, and waits
    process = processes.start(sys.executable, "-c", WORKS)
    process.wait_for("done")

    assert measure.cpu(process.pid) == pytest.approx(float(process.stdout.split()[0]), abs=0.02)


def test_what_a_child_does_counts_for_its_parent(processes: Processes, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    shell = processes.start("sh", "-c", DELEGATES, "sh", sys.executable)

    shell.wait_for("done")

    assert len(measure.family(shell.pid)) == 2
    assert measure.cpu(shell.pid) > 0.02


def test_the_peak_is_no_less_than_what_there_is_now() -> None:
    assert measure.peak(os.getpid()) >= measure.resident(os.getpid()) > 10e6


@pytest.mark.parametrize(("status", "peak"), [("VmPeak:\t  9 kB\nVmHWM:\t  20 kB\nVmRSS:\t 10 kB\n", 20_480), ("State:\tZ (zombie)\n", 0)])
def test_the_peak_is_what_the_kernel_calls_high_water_mark(status: str, peak: int) -> None:
    assert measure.peak_in(status) == peak
