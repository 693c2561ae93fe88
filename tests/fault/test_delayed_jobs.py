"""Jobs that wait in the broker for their time, and a broker that dies meanwhile."""

from __future__ import annotations

import threading

from hopd import PullTimeout, PutError, Topic
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.private_node import PrivateNode
from tests.support.stamp import stamped
from tests.support.waiting import wait_until

#: So many jobs have come back from their delay when the broker is killed: they are what a broker that has not asked for
#: confirms has in memory only, as long as somebody keeps it busy.
RETURNED = 300


def put_delayed(topic: Topic, ledger: Ledger, over: threading.Event) -> None:
    while not over.is_set():
        message_id = stamped("delayed")
        try:
            topic.put(b"later", message_id=message_id, delay=0.1, timeout=5)
        except PutError:
            continue  # the broker is gone; the job may be there or not
        ledger.confirm(message_id)


def pull_all(topic: Topic, ledger: Ledger) -> set[str]:
    """Pull until every confirmed job was there; returns those that never came."""
    missing = set(ledger.confirmed)
    while missing:
        try:
            job = topic.pull(10)
        except PullTimeout:
            return missing
        missing.discard(job.message_id or "")
        job.done()
    return missing


def test_no_delayed_job_is_lost_when_the_broker_is_killed_under_load(own_node: PrivateNode, ledger: Ledger, topic_name: str) -> None:
    over = threading.Event()
    with work_queue(own_node.url) as queue:
        topic = queue.get_topic(topic_name)
        threads = [threading.Thread(target=put_delayed, args=(topic, ledger, over), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: topic.ready() > RETURNED, 60, "jobs come back from their delay")

        own_node.kill()
        over.set()
        own_node.start()
        own_node.wait_ready()
        for thread in threads:
            thread.join()

        assert not pull_all(topic, ledger)
