"""What the bench sees of a process from outside."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.bench import measure
from tests.support.process import Processes

#: A shell that has another process do the work, which says when it is done and stays.
DELEGATES = """exec 3<>fifo; "$1" -c "sum(range(3_000_000)); print('done', flush=True); input()" <&3; exit"""


def test_the_cpu_of_this_process_is_what_it_says_itself() -> None:
    # What has been used since the kernel's last tick is seen only from inside
    assert measure.cpu(os.getpid()) == pytest.approx(time.process_time(), abs=0.02)


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
