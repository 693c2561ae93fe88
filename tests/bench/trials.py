"""One contender at one workload, once: what a trial of each kind does, and the sample that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.bench import measure
from tests.bench.contenders import CONTENDERS, Contender
from tests.bench.figures import Sample
from tests.bench.order import Order
from tests.bench.publish import fill
from tests.bench.stage import Reports, Stage
from tests.bench.workloads import Kind, Workload
from tests.support.process import Process

#: The part of the jobs after which measuring begins, and after which it ends.
BEGIN, END = 0.1, 0.9


def order_for(stage: Stage, workload: Workload, contender: Contender, reports: Reports) -> Order:
    """What the contender is told."""
    jobs = min(workload.jobs, contender.most)
    return Order(
        url=stage.node.url,
        queue=queues_of(workload)[0],
        report=reports.path,
        first=max(1, int(jobs * BEGIN)),
        last=int(jobs * END),
        concurrency=workload.concurrency,
        prefetch=contender.prefetch(workload.concurrency),
        shortest=workload.shortest,
        longest=workload.longest,
        long_every=workload.long_every,
        long=workload.long,
    )


def queues_of(workload: Workload) -> list[str]:
    """Names of their own, so that no workload finds what another left behind."""
    return [f"{workload.name}.{number}" for number in range(workload.topics)]


def consume(stage: Stage, workload: Workload, contender: Contender) -> Sample:
    """Let it loose on full queues, and measure from the first tenth of the jobs to the last."""
    with Reports(stage.new_directory()) as reports:
        order = order_for(stage, workload, contender, reports)
        fill(stage.node.url, queues_of(workload), min(workload.jobs, contender.most), workload.body)
        return timed(contender.start(stage, order, queues_of(workload)), order, reports)


def put(stage: Stage, workload: Workload, contender: Contender) -> Sample:
    """Let it put into an empty queue."""
    with Reports(stage.new_directory()) as reports:
        order = order_for(stage, workload, contender, reports)
        fill(stage.node.url, [order.queue], 0, 0)
        return timed(contender.start(stage, order, [order.queue]), order, reports)


def timed(process: Process, order: Order, reports: Reports) -> Sample:
    """The sample of a process between its two reports; it is ended."""
    try:
        reports.wait("first", process)
        before = measure.cpu(process.pid)
        report = reports.wait("last", process)
        used = measure.cpu(process.pid) - before
        peak = measure.peak(process.pid)
    finally:
        process.end()
    return sample(order, report, used, peak)


def sample(order: Order, report: Mapping[str, Any], used: float, peak: int) -> Sample:
    """From the contender's last report and what was seen from outside: `used` seconds of CPU, `peak` bytes."""
    jobs, seconds = order.last - order.first, report["seconds"]
    free = 1 - report.get("held", 0.0) / (order.concurrency * seconds)
    return {"rate": jobs / seconds, "slot_rate": jobs / seconds / free, "cpu": used / jobs, "rss": peak}


KINDS: Mapping[Kind, Callable[[Stage, Workload, Contender], Sample]] = {
    "consume": consume,
    "put": put,
}


def trial(stage: Stage, workload: Workload, contender: str) -> Sample:
    """Run it once."""
    return KINDS[workload.kind](stage, workload, CONTENDERS[contender])
