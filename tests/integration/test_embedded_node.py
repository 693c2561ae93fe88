"""The embedded broker's node keeps its promises, as the private RabbitMQ node does: the tests of everything else stand on both."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator

import pika
import psutil
import pytest

from tests.support.embedded import EmbeddedNode
from tests.support.node_control import NodeFailed, QueueDepth
from tests.support.process import Processes
from tests.support.waiting import wait_until

ORPHAN = """
import sys, time
from tests.support.embedded import EmbeddedNode
node = EmbeddedNode()
node.start()
node.wait_ready()
if sys.argv[1] == "frozen":
    node.freeze()
print("pid", node.pid, node.home, flush=True)
time.sleep(600)
"""


@pytest.fixture
def node() -> Iterator[EmbeddedNode]:
    with EmbeddedNode() as node:
        yield node.wait_ready()


def put(node: EmbeddedNode, queue: str) -> None:
    """One persistent message in a durable queue."""
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, b"x", pika.BasicProperties(delivery_mode=2))


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_a_node_does_not_outlive_a_killed_owner(processes: Processes, state: str) -> None:
    owner = processes.python("-c", ORPHAN, state)
    found = owner.wait_for(r"pid (\d+) (\S+)", timeout=60)
    pid, home = int(found[1]), found[2]
    assert psutil.pid_exists(pid)

    owner.kill()
    owner.wait()

    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 20, "the node is gone")
    shutil.rmtree(home)  # it is left to whoever looks into it


def test_closing_leaves_no_process_no_port_and_no_file(node: EmbeddedNode) -> None:
    pid, home, port = node.pid, node.home, node.port

    node.close()

    assert not psutil.pid_exists(pid)
    assert not home.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("gracefully", [False, True])
def test_a_node_comes_back_on_its_port_with_its_data(node: EmbeddedNode, gracefully: bool) -> None:
    put(node, "kept")
    url = node.url

    node.restart(gracefully=gracefully)

    assert node.url == url
    assert node.list_queues() == {"kept": QueueDepth(1, 0, 0)}


def test_a_frozen_node_accepts_and_says_nothing_until_it_is_thawed(node: EmbeddedNode) -> None:
    node.freeze()
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)

        node.thaw()
        client.settimeout(30)

        assert client.recv(1) == b"\x01"


def test_a_frozen_node_can_be_closed(node: EmbeddedNode) -> None:
    pid = node.pid
    node.freeze()

    node.close()

    assert not psutil.pid_exists(pid)


def test_a_port_that_was_taken_meanwhile_is_replaced() -> None:
    node = EmbeddedNode()
    with socket.create_server(("127.0.0.1", node.port)) as squatter, node:
        node.wait_ready()

        assert node.port != squatter.getsockname()[1]


def test_a_node_that_cannot_start_says_why() -> None:
    with EmbeddedNode() as node:
        node.wait_ready().stop()
        (node.home / "store").write_bytes(b"no database at all" * 1000)

        node.start()

        with pytest.raises(NodeFailed, match="is not a"):
            node.wait_ready()


def test_a_node_that_is_gone_does_not_answer(node: EmbeddedNode) -> None:
    node.kill()

    with pytest.raises(NodeFailed, match="did not answer"):
        node.list_queues()
