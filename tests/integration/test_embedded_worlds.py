"""The embedded broker in both worlds: in the hub of a process that was monkey-patched, and beside one that was not. And forks of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import ROOT, Processes


def test_what_holds_in_a_thread_holds_in_a_greenlet(processes: Processes, tmp_path: Path) -> None:
    run = processes.python("-m", "tests.support.worlds", str(tmp_path), "-q", "tests/integration/test_embedded_server.py", cwd=ROOT)

    assert run.wait(180) == 0, run.stdout + run.stderr


FORKED = """
import os, select, sys
if sys.argv[1] == "patched":
    from gevent import monkey
    monkey.patch_all()
import pika
from hopd import HopError
from hopd.broker.server import Broker

end, parent = os.pipe()
with Broker(store=sys.argv[2]) as broker:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url + "?heartbeat=1"))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    child = os.fork()
    if child == 0:
        select.select([end], [], [], 60)  # with copies of the parent's greenlets, which have their chance meanwhile
        broker.stop()
        try:
            broker.queues()
        except HopError:
            os._exit(0)  # it is not the child's
        os._exit(1)
    connection.process_data_events(time_limit=1.5)  # there are heartbeats to be sent, in both
    for number in range(100):
        channel.basic_publish("", "q", str(number), pika.BasicProperties(delivery_mode=2))
    connection.close()
    again = pika.BlockingConnection(pika.URLParameters(broker.url))
    assert again.channel().queue_declare("q", passive=True).method.message_count == 100
    connections = broker.connections
    assert connections == 1, connections
    again.close()
port = broker.port
with Broker(listen=f"127.0.0.1:{port}", store=sys.argv[2]) as broker:  # the child keeps neither the port nor the store
    assert broker.queues()[0].ready == 100, broker.queues()
os.write(parent, b".")
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("world", ["patched", "plain"])
def test_a_forked_child_keeps_nothing_of_its_parents_broker(processes: Processes, tmp_path: Path, world: str) -> None:
    # Given a child that lives on, with copies of all that its parent has open
    run = processes.python("-W", "ignore", "-c", FORKED, world, str(tmp_path / "store"), cwd=ROOT)

    # When the parent's broker goes on, stops and starts again, then the child is not noticed
    assert run.wait(60) == 0, run.stderr
