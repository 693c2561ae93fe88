"""What a process costs, seen from outside: CPU and memory, those of its children included."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def family(pid: int) -> list[psutil.Process]:
    """The process and all that it has started."""
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


def cpu(pid: int) -> float:
    """Seconds of CPU that the family has used so far. Of members that have ended nothing is known any more."""
    return sum(time.clock_gettime(_clock(member.pid)) for member in family(pid))


def _clock(pid: int) -> int:
    """The clock that counts the nanoseconds of CPU of a process, as clock_getcpuclockid(3) makes it; psutil counts ticks of 10 ms."""
    return (~pid << 3) | 2


def resident(pid: int) -> int:
    """Bytes that the family has in memory now; what forked processes share is counted for each."""
    return sum(int(member.memory_info().rss) for member in family(pid))


def peak(pid: int) -> int:
    """The most bytes that each of the family ever had in memory, added up."""
    return sum(peak_in(Path(f"/proc/{member.pid}/status").read_text()) for member in family(pid))


def peak_in(status: str) -> int:
    """The high-water mark in a process's `status` file, in bytes."""
    found = _PEAK.search(status)
    return int(found[1]) * 1024 if found else 0  # a zombie has no memory
