"""A handler that counts what its process holds. Without imports that the daemon does not have anyway."""

from __future__ import annotations

import gc
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from gevent import Greenlet

from hopd import Job

#: Tells the handler where to write.
VARIABLE = "HOPD_TEST_CENSUS"

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Census:
    """What a process holds: numbers of things, and resident memory in bytes."""

    greenlets: int
    threads: int
    descriptors: int
    memory: int


def count() -> Census:
    """What this process holds."""
    gc.collect()
    return Census(
        greenlets=sum(isinstance(each, Greenlet) for each in gc.get_objects()),
        threads=threading.active_count(),
        descriptors=len(os.listdir("/proc/self/fd")),
        memory=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE,
    )


def handle(job: Job) -> None:
    """Write the census to the file named by the job."""
    new = Path(os.environ[VARIABLE], f"{job.message_id}.new")
    new.write_text(json.dumps(asdict(count())))
    new.rename(new.with_suffix(".json"))


def nothing(job: Job) -> None:
    """Do nothing, successfully."""
