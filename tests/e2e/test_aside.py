"""A real daemon leads delayed jobs through their steps, refuses large ones, and keeps buried ones as long as it was told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from hopd import Topic, WorkQueue, names
from tests.support.hopd_process import HopdProcess
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: A delay of two steps: 1 s and 250 ms.
DELAY = 1.2

HANDLERS = """
import time
from tests.support.ledger import handle

def on_time(job):
    due_at = job.headers.get("hop-due-at", 0) / 1000
    if time.time() < due_at:
        raise SystemExit(f"{due_at - time.time()} s too early")
    handle(job)
"""

Start = Callable[..., HopdProcess]


@pytest.fixture
def start(processes: Processes, tmp_path: Path, broker: Node, exchange_name: str, topic_name: str, ledger: Ledger) -> Start:
    def start(**options: Any) -> HopdProcess:
        (tmp_path / "aside_handlers.py").write_text(HANDLERS)
        topics = {topic_name: {"handler": "aside_handlers:on_time", **options}}
        hopd = HopdProcess(
            processes, tmp_path, broker.url, topics, broker={"exchange": exchange_name}, env=ledger.environment, import_path=["."]
        )
        return hopd.wait_consuming()

    return start


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def topic(queue: WorkQueue, topic_name: str) -> Topic:
    return queue.get_topic(topic_name)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_delayed_job_is_run_when_its_time_has_come(start: Start, queue: WorkQueue, topic_name: str, ledger: Ledger, kind: str) -> None:
    hopd = start(queue_type=kind)
    topic = queue.topic(topic_name, queue_type=kind)
    before = time()

    ids = [topic.put(b"later", delay=DELAY) for _ in range(20)] + [topic.put(b"now")]

    wait_until(lambda: ledger.count() == 21, 30)
    assert time() - before >= DELAY
    assert set(ledger.handled()) == set(ids)
    # Nothing failed, and waiting on is no retry.
    counts = hopd.topic(topic_name)
    assert {name: counts[name] for name in ("done", "failed", "retried", "buried")} == {"done": 21, "failed": 0, "retried": 0, "buried": 0}


def test_a_job_that_is_too_large_is_buried_and_can_be_kicked_to_a_daemon_that_takes_it(start: Start, topic: Topic, ledger: Ledger) -> None:
    # Given a daemon that takes no more than 1 KiB
    hopd = start(max_body="1KiB")
    topic.put(b"x" * 1025, message_id="large")
    topic.put(b"x" * 1024, message_id="small")
    wait_until(lambda: hopd.topic(topic.name)["buried"] == 1 and ledger.count() == 1, 20)

    # Then the larger one is buried with the reason, untried
    (job,) = topic.buried()
    assert (job.id, job.attempts, len(job.body)) == ("large", 0, 1025)
    assert "max_body" in job.reason

    # When it is kicked to one that takes all
    hopd.process.terminate()
    assert hopd.process.wait() == 0
    start()
    assert topic.kick("large") == 1

    wait_until(lambda: ledger.handled() == {"large": 1, "small": 1}, 20)


def test_buried_jobs_are_kept_for_as_long_as_the_config_says(start: Start, topic: Topic) -> None:
    start(max_body="1B", keep_buried="1s")
    for number in range(5):
        topic.put(b"too large", message_id=str(number))

    wait_until(lambda: topic.buried(), 20, "they are buried")
    assert topic.buried()[0].headers[names.REASON]

    wait_until(lambda: not topic.buried(), 20, "their time is up")
