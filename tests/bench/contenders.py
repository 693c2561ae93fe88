"""Who competes: how each is started on an order. Every one runs as a process of its own, as it would in production."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.order import Order
from tests.bench.stage import Stage
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

Start = Callable[[Stage, Order, Sequence[str]], Process]


@dataclass(frozen=True, slots=True)
class Contender:
    """`start` gets the queues to consume; `prefetch` follows from the concurrency. Slow ones are spared jobs beyond `most`."""

    title: str
    start: Start
    prefetch: Callable[[int], int] = lambda concurrency: 3 * concurrency
    most: int = 1_000_000


def daemon(stage: Stage, order: Order, queues: Sequence[str], policy: Mapping[str, Any] = POLICY) -> HopdProcess:
    """`hopd run` with a topic for each queue."""
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


CONTENDERS: Mapping[str, Contender] = {
    "ceiling": Contender("ceiling (raw socket)", _ceiling, prefetch=lambda _concurrency: 2000),
    "hopd": Contender("hopd", _hopd),
    "hopd-bare": Contender("hopd without failure policy", _hopd_bare),
    "raw": Contender("raw publisher, window 2,000", _put("raw")),
    "put-one": Contender("hopd put, one by one", _put("one-by-one"), most=2_000),
    "put-100": Contender("hopd put, 100 greenlets", _put("greenlets")),
    "put-many": Contender("hopd put_many", _put("many")),
}
