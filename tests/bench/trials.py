"""One contender at one workload, once: what a trial of each kind does, and the sample that comes of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from tests.bench import measure
from tests.bench.contenders import CONTENDERS, daemon
from tests.bench.figures import Sample
from tests.bench.order import Order
from tests.bench.publish import add, fill, pace
from tests.bench.stage import PATIENCE, Reports, Stage
from tests.bench.workloads import Kind, Metric, Workload
from tests.support.process import Process
from tests.support.waiting import wait_until

#: The part of the jobs after which measuring begins, and after which it ends.
BEGIN, END = 0.1, 0.9


@contextmanager
def ordered(stage: Stage, workload: Workload, name: str) -> Iterator[tuple[Order, Reports]]:
    """What the contender is told, and where it reports."""
    contender = CONTENDERS[name]
    jobs = int(workload.jobs * contender.share)
    with Reports(stage.new_directory()) as reports:
        yield (
            Order(
                url=stage.node.url,
                queue=queues_of(workload, name)[0],
                report=reports.path,
                jobs=jobs,
                first=max(1, int(jobs * BEGIN)),
                last=int(jobs * END),
                concurrency=workload.concurrency,
                prefetch=contender.prefetch(workload),
                shortest=workload.shortest,
                longest=workload.longest,
                long_every=workload.long_every,
                long=workload.long,
                timed=workload.pace > 0,
            ),
            reports,
        )


def queues_of(workload: Workload, contender: str) -> list[str]:
    """Names of their own: some declare their queues in ways of their own."""
    return [f"{workload.name}.{contender}.{number}" for number in range(workload.topics)]


def consume(stage: Stage, workload: Workload, contender: str) -> Sample:
    """Let it loose on full queues, and measure from the first tenth of the jobs to the last."""
    queues = queues_of(workload, contender)
    with ordered(stage, workload, contender) as (order, reports):
        CONTENDERS[contender].fill(stage, order, queues, workload.body)
        return timed(CONTENDERS[contender].start(stage, order, queues), order, reports)


def put(stage: Stage, workload: Workload, contender: str) -> Sample:
    """Let it put into an empty queue."""
    with ordered(stage, workload, contender) as (order, reports):
        fill(order.url, [order.queue], 0, 0)
        return timed(CONTENDERS[contender].start(stage, order, [order.queue]), order, reports)


def thaw(stage: Stage, workload: Workload, contender: str) -> Sample:
    """Stop its clock once it consumes, fill the queues, and let it go on: opening many channels is not measured."""
    queues = queues_of(workload, contender)
    with ordered(stage, workload, contender) as (order, reports):
        fill(order.url, queues, 0, 0)
        process = CONTENDERS[contender].start(stage, order, queues)
        wait_until(lambda: _consumed(stage, queues), PATIENCE, f"all queues are consumed by {process.describe()}")
        process.signal(signal.SIGSTOP)
        add(order.url, queues, order.jobs, workload.body)
        process.signal(signal.SIGCONT)
        return timed(process, order, reports)


def _consumed(stage: Stage, queues: Sequence[str]) -> bool:
    found = stage.node.list_queues()
    return all(found[queue].consumers for queue in queues)


def paced(stage: Stage, workload: Workload, contender: str) -> Sample:
    """Put the jobs at a steady pace while it consumes."""
    (queue,) = queues_of(workload, contender)
    with ordered(stage, workload, contender) as (order, reports):
        fill(order.url, [queue], 0, 0)
        process = CONTENDERS[contender].start(stage, order, [queue])
        wait_until(lambda: _consumed(stage, [queue]), PATIENCE, f"the queue is consumed by {process.describe()}")
        pacer = Thread(target=pace, args=(order.url, queue, order.jobs, workload.body, workload.pace))
        pacer.start()
        try:
            return timed(process, order, reports)
        finally:
            pacer.join()


def start(stage: Stage, workload: Workload, contender: str) -> Sample:
    """From nothing to the first job that is done."""
    queues = queues_of(workload, contender)
    with ordered(stage, workload, contender) as (order, reports):
        fill(order.url, queues, order.jobs, workload.body)
        began = time.monotonic()
        process = CONTENDERS[contender].start(stage, order, queues)
        try:
            reports.wait("first", process)
            return {"seconds": time.monotonic() - began, "rss": measure.peak(process.pid)}
        finally:
            process.end()


def waiting(stage: Stage, workload: Workload, contender: str) -> Sample:
    """Memory once as many run, and wait in the daemon, as can."""
    queues = queues_of(workload, contender)
    with ordered(stage, workload, contender) as (order, _reports):
        fill(order.url, queues, order.jobs, workload.body)
        hopd = daemon(stage, order, queues)
        try:
            hopd.wait_consuming()
            full = {"running": order.concurrency, "waiting": order.prefetch - order.concurrency}
            wait_until(lambda: full.items() <= hopd.topic(queues[0]).items(), PATIENCE, "the daemon has all that it takes")
            return {"rss": measure.resident(hopd.process.pid)}
        finally:
            hopd.process.end()


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
    figures: dict[Metric, float] = {"rate": jobs / seconds, "cpu": used / jobs, "rss": peak}
    if order.longest:
        figures["slot_rate"] = jobs / (seconds - report.get("held", 0.0) / order.concurrency)
    if order.timed:
        figures |= {"p50": report["p50"], "p99": report["p99"]}
    return figures


KINDS: Mapping[Kind, Callable[[Stage, Workload, str], Sample]] = {
    "consume": consume,
    "paced": paced,
    "put": put,
    "start": start,
    "thaw": thaw,
    "waiting": waiting,
}


def trial(stage: Stage, workload: Workload, contender: str) -> Sample:
    """Run it once."""
    return KINDS[workload.kind](stage, workload, contender)
