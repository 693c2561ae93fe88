"""hopd's handler for the bench."""

from __future__ import annotations

from hopd import Job
from tests.bench.order import Order
from tests.bench.tally import Tally

_run = Tally(Order.from_environment()).run


def work(job: Job) -> None:
    """Wait, as a job that waits for a network does, or do nothing."""
    _run(job.body)
