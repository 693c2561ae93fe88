"""The main job: a hundred thousand jobs, a broker that is restarted, a daemon that is stopped and killed; none lost.

Fault 25 and the promise on top of the design's table.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.support.daemon import PATIENCE, Daemon, handler, put_on, wait_empty
from tests.support.library import work_queue
from tests.support.node import Node, OwnNode
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: The broker's restart and the daemon's, of which only the first can repeat anything.
FAULTS = 2

#: How often the daemon is killed under load.
KILLS = 5


def test_a_hundred_thousand_jobs_survive_a_broker_restart_a_stop_and_any_steering(
    processes: Processes, tmp_path: Path, own_node: OwnNode
) -> None:
    # Given three topics, one of which waits for later
    prefetch = {"quick": 300, "naps": 900, "later": 600}
    topics = {
        "quick": handler("record", concurrency=100, prefetch=prefetch["quick"]),
        "naps": handler("nap", concurrency=300, prefetch=prefetch["naps"]),
        "later": handler("nap", concurrency=200, prefetch=prefetch["later"], paused=True),
    }
    daemon = Daemon(processes, tmp_path, own_node.url, topics, broker={"heartbeat": 5}).wait_up()
    ledger = daemon.ledger

    # When 100,000 jobs are put while topics are paused and resumed
    with work_queue(own_node.url) as queue:
        put_on(queue, ledger, "later", 40_000)
        daemon.hopctl("pause", "quick")
        put_on(queue, ledger, "quick", 20_000)
        daemon.hopctl("resume", "quick", "later")
        daemon.hopctl("pause", "naps")
        put_on(queue, ledger, "naps", 40_000)
        daemon.hopctl("resume", "naps")

    # And the broker is restarted under load. In order: a killed one forgets up to 32,768 acks of each classic queue, which it keeps
    # in memory until then (queue_index_max_journal_entries), and nobody could tell those jobs from repeated ones.
    daemon.wait_count("naps", "done", 1_000)
    own_node.restart(gracefully=True)
    daemon.wait_consuming()
    before = daemon.topic("naps")["done"]
    daemon.hopctl("pause", "later")
    daemon.wait_count("naps", "done", min(40_000, before + 500))
    daemon.hopctl("resume", "later")

    # And the daemon is asked to leave, and started again to finish
    assert daemon.leave() == 0
    left = sum(depth.ready for depth in own_node.list_queues().values())
    daemon.restart()
    daemon.wait_up()
    daemon.hopctl("resume", "--all")
    wait_empty(own_node, *topics)
    assert daemon.leave() == 0

    # Then every job was done at least once, none is lost, and few were done twice
    assert left > 0
    assert len(ledger.confirmed) == 100_000
    assert (ledger.lost(), ledger.unexpected()) == (set(), set())
    assert ledger.duplicates() <= FAULTS * sum(prefetch.values())
    assert len(ledger.pids()) == 2


def test_a_daemon_that_is_killed_again_and_again_under_load_loses_nothing(
    processes: Processes, tmp_path: Path, broker: Node, topic_name: str
) -> None:
    prefetch, jobs = 60, 5_000
    daemon = Daemon(processes, tmp_path, broker.url, {topic_name: handler("nap", concurrency=30, prefetch=prefetch)}).wait_consuming()
    dice = random.Random(25)
    with work_queue(broker.url) as queue:
        put_on(queue, daemon.ledger, topic_name, jobs)

    for kill in range(KILLS):
        done = daemon.ledger.count()
        more = dice.randint(10, 400)
        wait_until(lambda enough=done + more: daemon.ledger.count() >= enough, PATIENCE, "it works")  # type: ignore[misc]
        daemon.process.kill()
        daemon.process.wait()
        assert os.path.exists(daemon.socket), f"kill {kill}: the socket it left behind is there"
        daemon.restart()
        daemon.wait_up()
    wait_empty(broker, topic_name)

    assert daemon.leave() == 0
    assert (daemon.ledger.lost(), daemon.ledger.unexpected()) == (set(), set())
    assert daemon.ledger.duplicates() <= prefetch * KILLS
    assert len(daemon.ledger.pids()) == KILLS + 1
    assert not os.path.exists(daemon.socket)
