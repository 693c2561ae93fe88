"""Who competes: how each is started on an order. Every one runs as a process of its own, as it would in production."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench import publish
from tests.bench.order import Order
from tests.bench.peers import commands
from tests.bench.stage import Stage
from tests.bench.workloads import Workload
from tests.support.hopd_process import HopdProcess
from tests.support.process import Process

#: What a daemon in production has. Nothing of it may cost a job that succeeds more than a twentieth.
POLICY: Mapping[str, Any] = {
    "timeout": "30s",
    "retry": {"max_attempts": 8, "first": "1s", "max": "1h"},
    "breaker": {"failures": 20, "within": "10s", "pause": "30s"},
    "max_body": "16MiB",
}

#: The tests' daemons are impatient; this one has what hopd has by default.
BROKER: Mapping[str, Any] = {"heartbeat": "60s", "connect_timeout": "10s", "recovery_max": "30s"}

#: Start a contender on these queues.
Start = Callable[[Stage, Order, Sequence[str]], Process]

#: How many jobs may be unsettled.
Prefetch = Callable[[Workload], int]

#: Have an order's jobs in these queues, with bodies of so many bytes, and nothing else.
Fill = Callable[[Stage, Order, Sequence[str], int], None]


def fill(_stage: Stage, order: Order, queues: Sequence[str], size: int) -> None:
    """For all that take any message."""
    publish.fill(order.url, queues, order.jobs, size)


@dataclass(frozen=True, slots=True)
class Contender:
    """Slow ones are spared all but `share` of the jobs."""

    title: str
    start: Start
    prefetch: Prefetch
    fill: Fill = fill
    share: float = 1.0


def daemon(stage: Stage, order: Order, queues: Sequence[str], policy: Mapping[str, Any] = POLICY) -> HopdProcess:
    """`hopd run` with a topic for each queue. It has the prefetch and the ack_window that hopd has by default."""
    topic = {"handler": "tests.bench.handlers:work", "concurrency": order.concurrency, **policy}
    topics = dict.fromkeys(queues, topic)
    return HopdProcess(stage.processes, stage.new_directory(), order.url, topics, broker=BROKER, env=order.environment())


def _hopd(stage: Stage, order: Order, queues: Sequence[str]) -> Process:
    return daemon(stage, order, queues).process


def _hopd_bare(stage: Stage, order: Order, queues: Sequence[str]) -> Process:
    return daemon(stage, order, queues, {}).process


def _ceiling(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    return stage.processes.python("-m", "tests.bench.ceiling", env=order.environment())


def _put(way: str) -> Start:
    return lambda stage, order, _queues: stage.processes.python("-m", "tests.bench.put", way, env=order.environment())


def _pull(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    return stage.processes.python("-m", "tests.bench.pull", env=order.environment())


def _constant(prefetch: int) -> Prefetch:
    return lambda _workload: prefetch


def _times(factor: int) -> Prefetch:
    return lambda workload: factor * workload.concurrency


def _twice_if_waiting(workload: Workload) -> int:
    """What is fastest for clients that ack each job: beyond what runs, every unsettled job makes each ack dearer for the broker."""
    return workload.concurrency if workload.idle else 2 * workload.concurrency


#: For those that take one job at a time: it only has to keep the socket busy.
BLOCKING = _constant(500)

CONTENDERS: Mapping[str, Contender] = {
    "ceiling": Contender("ceiling (raw socket)", _ceiling, _constant(2000)),
    "hopd": Contender("hopd", _hopd, _times(3)),
    "hopd-bare": Contender("hopd without failure policy", _hopd_bare, _times(3)),
    "go": Contender("Go, streadway/amqp", commands.go, _twice_if_waiting),
    "pika": Contender("pika BlockingConnection", commands.pika_blocking, BLOCKING, share=0.25),
    "pyamqp": Contender("py-amqp", commands.pyamqp, BLOCKING, share=0.25),
    "aiopika": Contender("aio-pika", commands.aiopika, _times(1), share=0.15),
    "dramatiq": Contender("dramatiq-gevent", commands.dramatiq, _times(2), commands.fill_dramatiq, share=0.1),
    "celery": Contender("Celery, gevent pool", commands.celery, _times(4), commands.fill_celery, share=0.075),
    "raw": Contender("raw publisher, window 2,000", _put("raw"), BLOCKING),
    "put-one": Contender("hopd put, one by one", _put("one-by-one"), BLOCKING, share=0.05),
    "put-100": Contender("hopd put, 100 greenlets", _put("greenlets"), BLOCKING),
    "put-many": Contender("hopd put_many", _put("many"), BLOCKING),
    "pull": Contender("hopd pull", _pull, _constant(1)),
    "go-get": Contender("Go, basic.get (as Hop pulls)", commands.go_get, _constant(1)),
}
