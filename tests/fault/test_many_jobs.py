"""Very many jobs: waiting in the broker, or running at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hopd import Message
from tests.support.daemon import Daemon, handler, put, wait_ready
from tests.support.library import work_queue
from tests.support.private_node import PrivateNode
from tests.support.process import Processes
from tests.support.waiting import wait_until

FEW, MANY = 1_000, 100_000

#: What an allocator may keep here or there. Bytes.
PLAY = 4 * 1024 * 1024

#: A running job: a greenlet with its stack, the delivery, the job. Bytes.
PER_RUNNING_JOB = 32 * 1024

#: How much more CPU a job may cost while a hundred thousand wait, on a machine that does other things as well.
DEARER = 3.0


def put_plain(url: str, topic: str, count: int) -> None:
    with work_queue(url) as queue:
        queue.topic(topic, durable=False).put_many(Message(b"x" * 100) for _ in range(count))


def work_for(daemon: Daemon, topic: str, count: int) -> float:
    """Seconds of CPU that the daemon spends on the next `count` jobs: what else the machine does makes them no dearer."""
    began, done = daemon.process.cpu(), daemon.topic(topic)["done"]
    daemon.wait_count(topic, "done", done + count)
    return daemon.process.cpu() - began


def test_a_hundred_thousand_jobs_that_wait_cost_the_daemon_nothing(own_node: PrivateNode, processes: Processes, tmp_path: Path) -> None:
    # Given a daemon that holds as many as it may, of a thousand
    topic: dict[str, Any] = {"handler": "tests.fault.handlers:park", "durable": False, "concurrency": 10}
    daemon = Daemon(processes, tmp_path, own_node.url, {"many": topic}).wait_consuming()
    put_plain(own_node.url, "many", FEW)
    daemon.wait_count("many", "running", 10)
    with_few = daemon.process.memory()

    # When a hundred thousand wait
    put_plain(own_node.url, "many", MANY - FEW)
    with_many = daemon.process.memory()

    # Then it holds no more than before, and the first cost it no more than the last
    assert with_many - with_few < PLAY
    daemon.open_gate()
    first = work_for(daemon, "many", MANY // 4)
    daemon.wait_count("many", "done", MANY // 2)
    last = work_for(daemon, "many", MANY // 4)
    assert first < DEARER * last + 0.5


def test_ten_thousand_jobs_that_run_cost_a_bounded_piece_of_memory_each_and_hold_up_nobody(
    own_node: PrivateNode, processes: Processes, tmp_path: Path
) -> None:
    # Given a thousand jobs that run
    many: dict[str, Any] = {"handler": "tests.fault.handlers:park", "durable": False, "concurrency": 10_000, "prefetch": 10_000}
    daemon = Daemon(processes, tmp_path, own_node.url, {"many": many, "quick": handler("record")}).wait_consuming()
    put_plain(own_node.url, "many", 1_000)
    daemon.wait_count("many", "running", 1_000)
    before = daemon.process.memory()

    # When ten thousand do
    put_plain(own_node.url, "many", 9_000)
    daemon.wait_count("many", "running", 10_000)

    # Then each takes no more than it needs, other topics go on, and all come to their end
    assert daemon.process.memory() - before < 9_000 * PER_RUNNING_JOB
    put(own_node.url, daemon.ledger, "quick", 200)
    daemon.wait_count("quick", "done", 200)
    daemon.open_gate()
    daemon.wait_count("many", "done", 10_000)
    wait_ready(own_node, "many", 0)
    assert wait_until(lambda: not daemon.ledger.lost())
