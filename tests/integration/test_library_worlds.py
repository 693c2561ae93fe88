"""The library's tests once more, in the world of greenlets; and what only that world can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import worlds
from tests.support.node import Node
from tests.support.node_control import NodeControl, QueueDepth
from tests.support.process import ROOT, Processes

#: Of tests/integration.
MODULES = ("connection", "topology", "workqueue", "pull", "recovery", "tls", "delay", "buried")


@pytest.mark.parametrize("module", MODULES)
def test_what_holds_in_plain_threads_holds_in_greenlets(rabbitmq: NodeControl, processes: Processes, tmp_path: Path, module: str) -> None:
    worlds.share(rabbitmq, tmp_path)

    run = processes.python("-m", "tests.support.worlds", str(tmp_path), "-q", f"tests/integration/test_{module}.py", cwd=ROOT)

    assert run.wait(180) == 0, run.stdout + run.stderr


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from hopd import WorkQueue

done = []

def work(number):
    topic.put(b"x", message_id=str(number), timeout=60)
    job = topic.pull(60)
    done.append(job.message_id)
    assert job.done()

with WorkQueue(sys.argv[1]) as queue:
    topic = queue.get_topic(sys.argv[2])
    gevent.joinall([gevent.spawn(work, number) for number in range(5000)], raise_error=True)
assert sorted(done, key=int) == [str(number) for number in range(5000)]
print("done", flush=True)
"""


def test_five_thousand_greenlets_share_one_work_queue(broker: Node, processes: Processes, topic_name: str) -> None:
    # Given as many greenlets as one process may have, each of which puts, pulls and settles
    run = processes.python("-c", GREENLETS, broker.url, topic_name)

    # When all have done their part, then each job was done once
    assert run.wait(120) == 0, run.stderr
    assert broker.list_queues()[topic_name] == QueueDepth(0, 0, 0)


TIMEOUTS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from hopd import WorkQueue

with WorkQueue(sys.argv[1]) as queue:
    topic = queue.get_topic(sys.argv[2])
    for _ in range(20):
        with gevent.Timeout(0.01, False):
            topic.pull()
    gevent.spawn(topic.pull).kill()
    topic.put(b"x")
    job = topic.pull(20)
    assert job.done()
"""


def test_a_pull_that_a_timeout_of_gevents_ends_does_no_harm(broker: Node, processes: Processes, topic_name: str) -> None:
    # Given pulls that are ended from outside, in the middle of whatever they do
    run = processes.python("-c", TIMEOUTS, broker.url, topic_name)

    # When one pulls after them, then it gets its job
    assert run.wait(60) == 0, run.stderr
    assert broker.list_queues()[topic_name] == QueueDepth(0, 0, 0)


FORKED = """
from gevent import monkey
monkey.patch_all()
import os, select, sys
from gevent.util import format_run_info
from hopd import WorkQueue

end, parent = os.pipe()
with WorkQueue(sys.argv[1]) as queue:
    topic = queue.get_topic(sys.argv[2])
    topic.put(b"first")
    topic.pull(20).done()
    child = os.fork()
    if child == 0:
        # As long as the parent puts and pulls: the child's copies of its greenlets have their chance.
        select.select([end], [], [], 60)
        os._exit(sum("hopd/amqp" in line for line in format_run_info()))
    for number in range(200):
        topic.put(str(number))
        job = topic.pull(20)
        assert int(job.body) == number
        assert job.done()
    os.write(parent, b".")
    assert os.waitpid(child, 0)[1] == 0, "greenlets of the connections are alive in the child"
"""


def test_a_forked_childs_greenlets_leave_their_parents_connection_alone(broker: Node, processes: Processes, topic_name: str) -> None:
    # Given a parent that goes on, and a child that has copies of its greenlets
    run = processes.python("-c", FORKED, broker.url, topic_name)

    # When both run, then the parent's jobs are its own, and the child makes no connection
    assert run.wait(60) == 0, run.stderr
    assert broker.list_queues()[topic_name] == QueueDepth(0, 0, 0)
