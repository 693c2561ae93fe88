"""The private node keeps its promises: the tests of everything else stand on it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support import private_node
from tests.support.node_control import NodeControl, NodeFailed, QueueDepth
from tests.support.private_node import NoRabbitMQ, PrivateNode, find_server, free_port
from tests.support.process import Processes
from tests.support.waiting import wait_until

ORPHAN = """
import sys, time
from tests.support.private_node import PrivateNode
node = PrivateNode()
node.start()
node.wait_ready()
if sys.argv[1] == "frozen":
    node.freeze()
print("pid", node.pid, node.home, flush=True)
time.sleep(600)
"""


def exists(pid: int) -> bool:
    """Whether the process lives: a zombie that nobody reaps does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def declare(node: NodeControl, queue: str) -> None:
    node.eval(f'rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>), true, false, [], none, <<"test">>)')


@pytest.mark.parametrize("state", ["running", "frozen"])
@pytest.mark.broker
def test_a_node_does_not_outlive_a_killed_owner(processes: Processes, state: str) -> None:
    owner = processes.python("-c", ORPHAN, state)
    found = owner.wait_for(r"pid (\d+) (\S+)", timeout=60)
    pid, home = int(found[1]), Path(found[2])
    assert exists(pid)

    owner.kill()
    owner.wait()

    wait_until(lambda: not exists(pid), 20, "the node is gone")
    wait_until(lambda: not home.exists(), 20, "its directory is gone")


def test_closing_leaves_no_process_no_port_and_no_file(own_rabbitmq: PrivateNode) -> None:
    pid, home, ports = own_rabbitmq.pid, own_rabbitmq.home, (own_rabbitmq.port, own_rabbitmq.dist_port)

    own_rabbitmq.close()

    assert not exists(pid)
    assert not home.exists()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_killed_node_comes_back_on_its_ports_with_its_data(own_rabbitmq: PrivateNode) -> None:
    declare(own_rabbitmq, "kept")
    url = own_rabbitmq.url

    own_rabbitmq.restart()

    assert own_rabbitmq.url == url
    assert "kept" in own_rabbitmq.list_queues()


def test_a_stopped_node_comes_back_as_well(own_rabbitmq: PrivateNode) -> None:
    own_rabbitmq.stop()
    assert not own_rabbitmq.running
    assert own_rabbitmq.doubt() is not None

    own_rabbitmq.start()
    own_rabbitmq.wait_ready()

    assert own_rabbitmq.doubt() is None


def test_a_frozen_node_accepts_and_says_nothing_until_it_is_thawed(own_rabbitmq: PrivateNode) -> None:
    own_rabbitmq.freeze()
    with socket.create_connection(("127.0.0.1", own_rabbitmq.port), timeout=5) as client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)

        own_rabbitmq.thaw()
        client.settimeout(30)

        assert client.recv(1) == b"\x01"


def test_only_loopback_is_listened_on(rabbitmq: NodeControl) -> None:
    tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    listening = [row.split()[1] for table in tables for row in table if row.split()[3] == "0A"]
    ours = {f"{port:04X}" for port in (rabbitmq.port, rabbitmq.dist_port)}

    assert {address for address in listening if address[-4:] in ours} == {f"0100007F:{port}" for port in ours}


def test_queues_are_listed_with_what_they_hold(rabbitmq: NodeControl, topic_name: str) -> None:
    declare(rabbitmq, topic_name)

    assert rabbitmq.list_queues()[topic_name] == QueueDepth(ready=0, unsettled=0, consumers=0)


def test_rabbitmqctl_works_against_the_node(rabbitmq: NodeControl) -> None:
    assert "guest" in rabbitmq.ctl("list_users")


def test_an_alarm_can_be_raised_and_cleared(own_rabbitmq: PrivateNode) -> None:
    own_rabbitmq.set_alarm("disk")
    assert "disk" in own_rabbitmq.eval("rabbit_alarm:get_alarms()")

    own_rabbitmq.clear_alarm("disk")

    assert own_rabbitmq.eval("rabbit_alarm:get_alarms()") == "[]"


def test_an_expression_that_fails_says_why(rabbitmq: NodeControl) -> None:
    with pytest.raises(NodeFailed, match="no_such_module"):
        rabbitmq.eval("no_such_module:f()")


def test_a_command_that_fails_says_why(rabbitmq: NodeControl) -> None:
    with pytest.raises(NodeFailed, match="no_such_user"):
        rabbitmq.ctl("delete_user", "no_such_user")


@pytest.mark.broker
def test_extra_config_reaches_the_broker() -> None:
    with PrivateNode(config="heartbeat = 7", advanced="[{rabbit, [{consumer_timeout, 3000}]}].") as node:
        node.wait_ready()

        assert node.eval("[element(2, application:get_env(rabbit, K)) || K <- [heartbeat, consumer_timeout]]") == "[7,3000]"


@pytest.mark.broker
def test_a_config_the_broker_refuses_is_an_error_with_its_words() -> None:
    with PrivateNode(config="no.such.key = 1") as node, pytest.raises(NodeFailed, match="no\\.such\\.key"):
        node.wait_ready()


@pytest.mark.broker
@pytest.mark.parametrize("which", ["port", "dist_port"])
def test_a_port_that_was_taken_meanwhile_is_replaced(which: str) -> None:
    node = PrivateNode()
    with socket.create_server(("127.0.0.1", getattr(node, which))) as squatter, node:
        node.wait_ready()

        assert getattr(node, which) != squatter.getsockname()[1]


def test_a_free_port_is_below_those_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert free_port() < lowest


def test_without_rabbitmq_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(private_node, "_SERVER", str(tmp_path / "rabbitmq-server"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoRabbitMQ, match="apt-get install rabbitmq-server"):
        find_server()


def test_a_frozen_node_can_be_closed(own_rabbitmq: PrivateNode) -> None:
    pid = own_rabbitmq.pid
    own_rabbitmq.freeze()

    own_rabbitmq.close()

    assert not exists(pid)


def test_an_interrupt_at_the_terminal_does_not_reach_the_node(own_rabbitmq: PrivateNode) -> None:
    assert os.getsid(own_rabbitmq.pid) != os.getsid(0)
