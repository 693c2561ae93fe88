"""`hopd broker` as a shell and a service manager see it, with real clients."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from hopd import WorkQueue
from hopd.broker.server import Broker
from hopd.cli import exitcodes
from hopd.cli.hopd import main
from tests.support.process import Process, Processes
from tests.support.raw_client import RawClient
from tests.support.waiting import wait_until


def url_of(process: Process) -> str:
    """Where it serves, as its log says."""
    return process.wait_for(r"url=(amqp://127\.0\.0\.1:\d+)").group(1)


def test_it_says_where_it_serves_and_leaves_when_it_is_asked_to(processes: Processes) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process = processes.hopd("broker", "--listen", "127.0.0.1:0")
        with WorkQueue(url_of(process)) as queue:
            topic = queue.get_topic("jobs")
            topic.put(b"1")
            assert topic.pull(20).body == b"1"

        process.signal(number)

        assert process.wait() == exitcodes.STOPPED, process.stderr
        assert re.search("this machine only.*kept in memory.*RabbitMQ.*event=broker_started", process.stderr)
        assert "event=broker_stopped" in process.stderr
        assert "Traceback" not in process.stderr


def test_a_client_that_is_there_hears_of_the_end(processes: Processes) -> None:
    process = processes.hopd("broker", "--listen", "127.0.0.1:0")
    with RawClient(("127.0.0.1", int(url_of(process).rpartition(":")[2]))).come_in(1) as client:
        process.terminate()

        assert client.hears_the_end()
    assert process.wait() == exitcodes.STOPPED


def test_durable_jobs_are_there_again_even_after_it_was_killed(processes: Processes, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    first = processes.hopd("broker", "--listen", "127.0.0.1:0", "--store", store)
    with WorkQueue(url_of(first)) as queue:
        queue.get_topic("jobs").put_many(str(number) for number in range(100))
        first.kill()
        first.wait()

    second = processes.hopd("broker", "--listen", "127.0.0.1:0", "--store", store)
    with WorkQueue(url_of(second)) as queue:
        topic = queue.get_topic("jobs")
        assert [topic.pull(20).body for _ in range(100)] == [str(number).encode() for number in range(100)]
    assert f"durable jobs are kept in {store}" in second.stderr


def test_a_daemon_runs_its_jobs(processes: Processes, tmp_path: Path) -> None:
    process = processes.hopd("broker", "--listen", "127.0.0.1:0")
    url = url_of(process)
    (tmp_path / "jobs.py").write_text("def handle(job): print('handled', job.body)\n")
    config = f"broker: {{url: '{url}'}}\ncontrol: {{socket: hopd.sock}}\nimport_path: [.]\ntopics: {{emails: {{handler: 'jobs:handle'}}}}\n"
    (tmp_path / "hopd.yaml").write_text(config)
    with WorkQueue(url) as queue:
        queue.get_topic("emails").put(b"hello")

    daemon = processes.hopd("run", "-c", "hopd.yaml", cwd=tmp_path)

    daemon.wait_for("handled b'hello'")
    daemon.terminate()
    assert daemon.wait() == exitcodes.STOPPED


def test_a_unix_socket_alone_takes_no_port(processes: Processes, tmp_path: Path) -> None:
    path = str(tmp_path / "broker.sock")
    process = processes.hopd("broker", "--unix", path)

    wait_until(lambda: os.path.exists(path), 30, "it serves")
    with RawClient(path).come_in(1):
        assert "127.0.0.1" not in process.stderr
    process.terminate()

    assert process.wait() == exitcodes.STOPPED
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--listen", "0.0.0.0:5672"], exitcodes.BAD_CONFIG, "serves this machine only"),
        (["--listen", "nonsense"], exitcodes.BAD_CONFIG, "expected HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--max-memory", "much"], exitcodes.BAD_CONFIG, "expected a size like"),
        (["--listen", "127.0.0.1:0", "--store", "/"], exitcodes.BAD_CONFIG, "the store /"),
        (["--unix", "/nowhere/broker.sock"], exitcodes.NO_SOCKET, "/nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_it_cannot_use_is_told_in_one_line(processes: Processes, arguments: list[str], code: int, says: str) -> None:
    process = processes.hopd("broker", *arguments)

    assert process.wait() == code
    assert process.stderr.startswith("hopd broker: ")
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def test_a_port_that_is_taken_is_told(processes: Processes) -> None:
    with Broker() as taken:
        process = processes.hopd("broker", "--listen", f"127.0.0.1:{taken.port}")

        assert process.wait() == exitcodes.NO_SOCKET
        assert "is another broker running there?" in process.stderr


def test_a_store_in_use_is_told(processes: Processes, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with Broker(store=store):
        process = processes.hopd("broker", "--listen", "127.0.0.1:0", "--store", store)

        assert process.wait() == exitcodes.BAD_CONFIG
        assert "in use" in process.stderr


def test_the_help_tells_every_exit_code_and_what_to_use_beyond_it() -> None:
    result = CliRunner().invoke(main, ["broker", "--help"])

    codes = (exitcodes.STOPPED, exitcodes.CRASHED_OR_FORCED, exitcodes.USAGE, exitcodes.NO_SOCKET, exitcodes.BAD_CONFIG)
    assert result.exit_code == 0
    assert all(re.search(rf"^ +{code} ", result.output, re.MULTILINE) for code in codes)
    assert "RabbitMQ" in result.output
