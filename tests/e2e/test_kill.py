"""SIGKILL, again and again, under load: nothing is lost, what is left behind is healed, and nobody is blamed for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopd import Message, Topic, names
from tests.support.hopd_process import HopdProcess
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

KILLS = 50

#: Two daemons take turns, so that one is killed while the other starts: a start takes half a second of computing.
DAEMONS = 2

CONCURRENCY, PREFETCH = 20, 60

#: Seconds.
PATIENCE = 60.0


class Producer:
    """Puts jobs until it is told to stop, about as fast as they can be done."""

    def __init__(self, topic: Topic, ledger: Ledger) -> None:
        self._topic = topic
        self._ledger = ledger
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        batch = 0
        while not self._over.is_set():
            batch += 1
            ids = [f"{batch}-{number}" for number in range(100)]
            self._ledger.attempt(*ids)
            self._topic.put_many([Message(b"", message_id=message_id) for message_id in ids])
            self._ledger.confirm(*ids)
            self._over.wait(0.05)


@pytest.fixture
def topic(broker: Node, exchange_name: str, topic_name: str) -> Iterator[Topic]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue.get_topic(topic_name)


@pytest.fixture
def daemons(tmp_path: Path, processes: Processes, broker: Node, exchange_name: str, topic_name: str, ledger: Ledger) -> list[HopdProcess]:
    options = {"handler": "tests.support.handlers:nap", "concurrency": CONCURRENCY, "prefetch": PREFETCH}
    started = []
    for number in range(DAEMONS):
        directory = tmp_path / str(number)
        directory.mkdir()
        env, exchange = ledger.environment, {"exchange": exchange_name}
        started.append(HopdProcess(processes, directory, broker.url, {topic_name: options}, broker=exchange, env=env))
    return started


def works(pid: int, ledger: Ledger) -> bool:
    """Whether the process has handled one of the latest jobs. Looks at no more: it is asked often."""
    if not ledger.path.exists():
        return False
    with ledger.path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 4096))
        return f" {pid}\n".encode() in file.read()


def test_a_daemon_that_is_killed_fifty_times_under_load_loses_nothing_and_blames_nobody(
    daemons: list[HopdProcess], topic: Topic, broker: Node, ledger: Ledger
) -> None:
    producer = Producer(topic, ledger)
    try:
        # When the daemons are killed in turn, each in the middle of its work
        for kill in range(KILLS):
            victim = daemons[kill % DAEMONS]
            pid = victim.process.pid
            wait_until(lambda pid=pid: works(pid, ledger), PATIENCE, "it works")  # type: ignore[misc]
            victim.process.kill()
            victim.process.wait()
            # And started again, where the socket and the marker of the one before still lie
            assert Path(victim.socket).exists()
            victim.restart()
    finally:
        producer.stop()
    # Then every job that was confirmed is done
    wait_until(lambda: not ledger.lost(), PATIENCE, "nothing is lost")
    for daemon in daemons:
        daemon.wait_consuming()
    wait_until(lambda: topic.ready() == 0, PATIENCE, "nothing is left")
    assert not ledger.unexpected()
    # And those that were done twice are no more than were under way at each kill
    assert ledger.duplicates() <= KILLS * PREFETCH
    # And no healthy job was taken for one that kills
    assert names.buried(topic.name) not in broker.list_queues()
    # And the daemons are whole: they leave in order, and take everything along
    for daemon in daemons:
        daemon.process.terminate()
        assert daemon.process.wait() == 0
        assert not Path(daemon.socket).exists()
        assert not Path(daemon.socket).with_suffix(".running").exists()
