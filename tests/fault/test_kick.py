"""A process that is killed in the middle of a kick: every job is somewhere, and few of them twice."""

from __future__ import annotations

from collections import Counter
from time import monotonic

from hopd import WorkQueue, names
from hopd.browse import Browser
from hopd.buried import PAGE
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: So many that a kick of all takes seconds.
JOBS = 10_000

KICK = """
import sys
from hopd import WorkQueue
url, exchange, topic = sys.argv[1:]
queue = WorkQueue(url, exchange=exchange)
queue.get_topic(topic).kick(1_000_000)
print("through with it")
"""


def bodies(queue: WorkQueue, name: str) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    with Browser(queue.consuming.connection(monotonic() + 20), name, 20) as browser:
        while page := browser.page(5000):
            found.update(delivery.body for delivery in page)
    return found


def test_a_kick_that_is_killed_loses_nothing(broker: NodeControl, processes: Processes, exchange_name: str, topic_name: str) -> None:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        # Given many buried jobs
        topic = queue.get_topic(topic_name)
        lair = queue.get_topic(names.buried(topic_name))
        assert lair.put_many(str(number) for number in range(JOBS)) == JOBS

        # When a process kicks them and is killed in the middle of it
        kicker = processes.python("-c", KICK, broker.url, exchange_name, topic_name)
        wait_until(lambda: topic.ready() > 2 * PAGE, 30, "it has begun")
        kicker.kill()
        kicker.wait()
        assert "through" not in kicker.stdout

        # Then each of them is in its topic or still buried
        everything = {str(number).encode() for number in range(JOBS)}
        wait_until(
            lambda: set(bodies(queue, topic_name) | bodies(queue, lair.name)) == everything, 30, "the broker has taken back its jobs"
        )
        kicked, buried = bodies(queue, topic_name), bodies(queue, lair.name)

        # And no more of them are in both than were on their way
        assert (kicked + buried).total() - JOBS <= PAGE
        assert 0 < len(kicked) < JOBS
        assert max(kicked.values()) == max(buried.values()) == 1
