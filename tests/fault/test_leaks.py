"""Nothing grows: neither with connections that come and go, nor with jobs that are done."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopd import Message, Topic, WorkQueue
from tests.fault import census
from tests.fault.census import Census
from tests.support.hopd_process import HopdProcess
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.private_node import PrivateNode
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: How often every connection is closed by force, after what a process needs once has been made.
RECONNECTS, WARM_UP = 200, 20

#: A million with `make soak`; less where a whole run of the tests has to end within minutes.
JOBS = int(os.environ.get("HOPD_LEAK_JOBS", "200000"))

#: What is put at once, and how many jobs may wait for the daemon: the broker must not be what grows.
BATCH, BACKLOG = 2000, 20_000

#: How much resident memory may differ: what an allocator keeps depends on where things happened to lie. Bytes.
PLAY = 4 * 1024 * 1024

#: A topic's workers come into being when they are first needed: so many may come late. Greenlets.
LATE_WORKERS = 10

#: Neither world closes a connection and has the next one open within the same moment.
TIMEOUT = 60.0

#: For all the jobs; the slowest machine does three thousand a second. Seconds.
JOBS_TIMEOUT = 120 + JOBS / 3000


@pytest.fixture
def censuses(tmp_path: Path) -> Path:
    directory = tmp_path / "censuses"
    directory.mkdir()
    return directory


def daemon_census(topic: Topic, directory: Path, name: str) -> Census:
    """Have the daemon count itself."""
    topic.put(b"", message_id=name)
    file = directory / f"{name}.json"
    wait_until(file.exists, TIMEOUT, "the daemon counts")
    return Census(**json.loads(file.read_text()))


def flat(before: Census, after: Census) -> bool:
    grown = after.greenlets > before.greenlets + LATE_WORKERS or after.threads > before.threads or after.descriptors > before.descriptors
    return not grown and after.memory - before.memory < PLAY


def connection_pids(node: NodeControl) -> set[str]:
    return set(re.findall(r"<[0-9.]+>", node.eval("rabbit_networking:connections()")))


def close_all(node: PrivateNode, expected: int) -> None:
    """Close all connections and wait until there are as many new ones."""
    before = connection_pids(node)
    node.close_all_connections()
    wait_until(lambda: len(connection_pids(node) - before) == expected, TIMEOUT, "everybody is connected again")


@pytest.fixture
def queue(own_node: PrivateNode, caplog: pytest.LogCaptureFixture) -> Iterator[WorkQueue]:
    caplog.set_level(logging.CRITICAL, "hopd")  # pytest keeps every record, with the error in it and all its frames
    with work_queue(own_node.url, recovery_max=0.1) as queue:
        yield queue


def test_two_hundred_forced_reconnects_leave_nothing_behind(
    own_node: PrivateNode, queue: WorkQueue, processes: Processes, tmp_path: Path, censuses: Path
) -> None:
    topics = {"census": {"handler": "tests.fault.census:handle"}, "idle": {"handler": "tests.fault.census:nothing"}}
    env = {census.VARIABLE: str(censuses)}
    HopdProcess(processes, tmp_path, own_node.url, topics, broker={"recovery_max": "100ms"}, env=env).wait_consuming()
    topic, pulled = queue.get_topic("census"), queue.get_topic("pulled")
    pulled.put(b"")
    pulled.pull(TIMEOUT).done()
    connections = len(connection_pids(own_node))  # the daemon's, and the library's two

    for _ in range(WARM_UP):
        close_all(own_node, connections)
    daemon_before, library_before = daemon_census(topic, censuses, "before"), census.count()
    for _ in range(RECONNECTS):
        close_all(own_node, connections)
    daemon_after, library_after = daemon_census(topic, censuses, "after"), census.count()

    assert flat(daemon_before, daemon_after), (daemon_before, daemon_after)
    assert flat(library_before, library_after), (library_before, library_after)


def put_jobs(topic: Topic, count: int) -> None:
    for _ in range(0, count, BATCH):
        topic.put_many(Message(b"x" * 100) for _ in range(BATCH))
        wait_until(lambda: topic.ready() < BACKLOG, TIMEOUT, "the daemon keeps up")


@pytest.mark.timeout(JOBS_TIMEOUT)
def test_done_jobs_leave_nothing_behind(
    own_node: PrivateNode, queue: WorkQueue, processes: Processes, tmp_path: Path, censuses: Path
) -> None:
    topics: dict[str, dict[str, object]] = {
        "census": {"handler": "tests.fault.census:handle"},
        "many": {"handler": "tests.fault.census:nothing", "durable": False},
    }
    daemon = HopdProcess(processes, tmp_path, own_node.url, topics, env={census.VARIABLE: str(censuses)}).wait_consuming()
    counter, many = queue.get_topic("census"), queue.topic("many", durable=False)
    many.declare()

    put_jobs(many, JOBS // 10)
    wait_until(lambda: daemon.topic("many")["done"] == JOBS // 10, TIMEOUT, "the first tenth is done")
    daemon_before, library_before = daemon_census(counter, censuses, "before"), census.count()
    put_jobs(many, JOBS - JOBS // 10)
    wait_until(lambda: daemon.topic("many")["done"] == JOBS, JOBS_TIMEOUT, "all jobs are done")
    daemon_after, library_after = daemon_census(counter, censuses, "after"), census.count()

    assert flat(daemon_before, daemon_after), (daemon_before, daemon_after)
    assert flat(library_before, library_after), (library_before, library_after)
