"""What the bench's jobs do: nothing, or wait."""

from __future__ import annotations

import os
import time

from hopd import Job

#: Seconds that a job of the topic `bench` takes.
SLEEP = float(os.environ.get("HOPD_BENCH_SLEEP", "0"))


def work(job: Job) -> None:
    """Do nothing, or sleep as a job that waits for a network does."""
    if SLEEP:
        time.sleep(SLEEP)
