"""A cluster of three nodes: any of them is killed under load, and a topic's own node is away. Each test leaves all of them serving."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from hopd import PutError, WorkQueue
from tests.support.cluster import Cluster
from tests.support.daemon import Daemon, handler, put, wait_empty
from tests.support.hopd_process import HopdProcess
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.process import Processes
from tests.support.stamp import put_at, stamped
from tests.support.waiting import wait_until

TOPIC = "replicated"

#: What is promised: so long after a node's death the daemon handles jobs that were put after it. Seconds.
CONSUMING_WITHIN = 5.0

#: What a machine that is busy with other tests may add. Seconds.
SLACK = 3.0

#: Between two puts of each producer: load, and cores left for three nodes. Seconds.
PACE = 0.01
PRODUCERS = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3) as cluster:
        yield cluster.wait_ready()


class Producers:
    """Threads that put jobs through one work queue as fast as PACE allows; uncertain puts are tried again."""

    def __init__(self, urls: list[str], ledger: Ledger) -> None:
        self._queue = WorkQueue(urls, queue_type="quorum", heartbeat=3, recovery_max=0.5, connect_timeout=2, put_timeout=20)
        self._topic = self._queue.get_topic(TOPIC)
        self._ledger = ledger
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(PRODUCERS)]
        self.errors: list[PutError] = []
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._over.wait(PACE):
            message_id = stamped("job")
            self._ledger.attempt(message_id)
            try:
                self._topic.put(b"work", message_id=message_id, retry_uncertain=True)
            except PutError as error:
                self.errors.append(error)
            else:
                self._ledger.confirm(message_id)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._queue.close()


def handled_after(ledger: Ledger, since: float) -> Callable[[], bool]:
    return lambda: any(put_at(message_id) > since for message_id in ledger.handled())


@pytest.mark.broker
def test_any_node_of_a_cluster_may_be_killed_under_load(
    cluster: Cluster, processes: Processes, ledger: Ledger, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    topics = {TOPIC: {"handler": "tests.support.ledger:handle", "queue_type": "quorum", "concurrency": 20}}
    daemon = HopdProcess(processes, tmp_path, cluster.urls, topics, env=ledger.environment).wait_consuming()
    producers = Producers(cluster.urls, ledger)
    took = {}
    for node in cluster.nodes:
        cluster.wait_replicated(TOPIC)
        wait_until(handled_after(ledger, monotonic()), 30, "jobs are handled")

        node.kill()

        killed = monotonic()
        wait_until(handled_after(ledger, killed), 60, f"jobs are handled without {node.name}")
        took[node.name] = round(monotonic() - killed, 2)
        node.start()
        node.wait_ready()
    producers.stop()
    wait_until(lambda: not ledger.lost(), 60, "every confirmed job is handled")

    record_property("consuming_again_after", took)
    print(f"consuming again after {took}, {len(ledger.confirmed)} jobs, {ledger.duplicates()} duplicates, errors {producers.errors}")
    assert not ledger.unexpected()
    assert ledger.duplicates() <= len(cluster.nodes) * (daemon.topic(TOPIC)["prefetch"] + PRODUCERS)
    assert max(took.values()) < CONSUMING_WITHIN + SLACK


@pytest.mark.broker
def test_a_topic_whose_node_is_away_backs_off_and_the_others_run(cluster: Cluster, processes: Processes, tmp_path: Path) -> None:
    # Given two classic topics, each at home on a node of its own, and a daemon that is connected to one of these
    home, other, _ = cluster.nodes
    for node, topic in ((home, "here"), (other, "away")):
        with work_queue(node.url) as queue:
            queue.get_topic(topic)
    daemon = Daemon(processes, tmp_path, home.url, {"here": handler("record"), "away": handler("record")}).wait_consuming()

    # When the other node dies
    other.kill()
    status = daemon.wait_state("away", "failed")
    wait_until(lambda: len(daemon.events("topic_refused")) >= 3, 60, "it was asked for a few times")
    put(home.url, daemon.ledger, "here", 20)
    daemon.wait_count("here", "done", 20)

    # Then only its topic waits, and is consumed when the node is back, on the connection that was there all the time
    assert "404" in status["reason"]
    other.start()
    other.wait_ready()
    daemon.wait_consuming()
    put(home.url, daemon.ledger, "away", 20)
    daemon.wait_count("away", "done", 20)
    wait_empty(home, "here", "away")
    assert not daemon.events("broker_lost")
