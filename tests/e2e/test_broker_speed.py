"""What the embedded broker may cost. In its own CPU: how long something takes says as much about who else is busy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import broker_speed
from tests.support.process import Processes

#: It takes about 9 µs: with a client that costs as much, far more than the 12,000 jobs a second that are promised. Seconds.
TRANSIENT_JOB = 40e-6

#: It takes about 40 µs: more than 8,000 puts a second leave it a third of a core. Seconds.
DURABLE_PUT = 125e-6

#: Of its own work, with its imports, besides the interpreter's and gevent's. Seconds.
START = 0.1


@pytest.mark.alone
def test_a_transient_job_costs_the_broker_less_than_forty_microseconds(processes: Processes) -> None:
    assert broker_speed.transient(processes, 50_000).cpu < TRANSIENT_JOB


@pytest.mark.alone
def test_a_durable_put_by_one_of_a_hundred_costs_less_than_an_eighth_of_a_millisecond(processes: Processes, tmp_path: Path) -> None:
    assert broker_speed.durable(processes, 10_000, tmp_path / "store").cpu < DURABLE_PUT


STARTING = """
import time
import concurrent.futures, dataclasses, enum, logging, sqlite3, threading
import gevent.hub, gevent.monkey, gevent.threadpool
began = time.process_time()
from hopd.broker.server import Broker
with Broker():
    print(time.process_time() - began, flush=True)
"""


@pytest.mark.alone
def test_the_broker_starts_in_less_than_a_tenth_of_a_second(processes: Processes) -> None:
    # Given an interpreter that has it compiled
    processes.python("-c", STARTING, env={"PYTHONDONTWRITEBYTECODE": ""}).wait()

    # When it is started again
    start = processes.python("-c", STARTING, env={"PYTHONDONTWRITEBYTECODE": ""})

    assert start.wait() == 0, start.stderr
    assert float(start.stdout) < START
