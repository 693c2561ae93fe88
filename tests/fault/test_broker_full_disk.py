"""The disk of the embedded broker is full: nothing is confirmed that is not on it, publishers are told, consumers go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from hopd import Topic
from hopd.errors import BrokerBlocked
from tests.support.broker_process import BrokerProcess
from tests.support.library import work_queue
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: No file of the broker's may be larger while its disk is full; its log is smaller. Bytes.
FULL = 100_000

#: What never fits then.
LARGE = b"large" * FULL


@pytest.fixture
def broker(processes: Processes, tmp_path: Path) -> BrokerProcess:
    return BrokerProcess(processes, tmp_path / "hopd.store")


@pytest.fixture
def topic(broker: BrokerProcess) -> Iterator[Topic]:
    with work_queue(broker.url) as queue:
        yield queue.get_topic("tasks")


@contextmanager
def full_disk(broker: BrokerProcess) -> Iterator[None]:
    """The broker can write no more for a while."""
    process = psutil.Process(broker.process.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (FULL, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


def bodies(topic: Topic, count: int) -> list[bytes]:
    """The next jobs' bodies; the jobs are done."""
    found = []
    for _ in range(count):
        job = topic.pull(30)
        found.append(job.body)
        job.done()
    return found


def test_a_full_disk_blocks_those_who_put_and_nobody_else_and_loses_nothing(broker: BrokerProcess, topic: Topic) -> None:
    topic.put_many([b"1", b"2", b"3"])

    # When the disk is full
    with full_disk(broker):
        # Then a job is not confirmed, those that follow are not even sent, and it is logged once
        with pytest.raises(BrokerBlocked, match="is not confirmed"):
            topic.put(LARGE, timeout=2.0)
        with pytest.raises(BrokerBlocked, match="was not sent"):
            topic.put(b"not sent", timeout=0.5)
        assert broker.process.stderr.count("event=store_failed") == 1
        # And consumers go on
        assert bodies(topic, 2) == [b"1", b"2"]

    # When there is room again, it serves as before
    def put() -> bool:
        try:
            topic.put(b"4", timeout=2.0)
        except BrokerBlocked:
            return False
        return True

    wait_until(put, 30, "the broker takes jobs again")
    # And what it held unconfirmed was written as well
    broker.kill()
    assert bodies(topic, 3) == [b"3", LARGE, b"4"]
    assert topic.ready() == 0
