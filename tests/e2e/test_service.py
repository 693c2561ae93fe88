"""hopd as a service: the shipped supervisor config, a real supervisord, two instances."""

from __future__ import annotations

import configparser
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from hopd import WorkQueue
from hopd.message import Message
from tests.support.ledger import Ledger
from tests.support.node import Node
from tests.support.process import Process, Processes
from tests.support.waiting import wait_until

SHIPPED = Path(__file__).parents[2] / "packaging" / "supervisor" / "hopd.conf"

HANDLER = """
import time
from tests.support import ledger

def work(job):
    time.sleep(0.02)
    ledger.handle(job)
"""

CONFIG = """
broker: {{url: '{url}', exchange: {exchange}}}
control: {{socket: hopd.sock}}
import_path: [.]
topics:
  {topic}: {{handler: service_jobs:work, concurrency: 20}}
"""


@dataclass
class Service:
    """A supervisord that runs the shipped program, and what asks about it."""

    directory: Path
    supervisord: Process
    processes: Processes

    def supervisorctl(self, *arguments: str) -> str:
        control = self.processes.python("-m", "supervisor.supervisorctl", "-c", str(self.directory / "supervisord.conf"), *arguments)
        control.wait()
        return control.stdout

    def instances(self) -> dict[str, dict[str, Any]]:
        """The instances that answer, by name, as `hopctl` without a socket of its own finds them."""
        hopctl = self.processes.hopctl("status", "--json", env={"HOPD_SOCKET": str(self.directory)})
        hopctl.wait()
        status = json.loads(hopctl.stdout)
        return {instance["instance"]: instance for instance in status.get("instances", []) if "pid" in instance}

    def log(self) -> str:
        """What supervisord has logged so far."""
        log = self.directory / "supervisord.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def start(tmp_path: Path, processes: Processes, ledger: Ledger) -> Callable[[str], Service]:
    """Starts a supervisord with the shipped program, in a directory of the test's and for the test's config."""

    def start(config: str) -> Service:
        (tmp_path / "service_jobs.py").write_text(HANDLER)
        (tmp_path / "hopd.yaml").write_text(config)
        _write_supervisor_config(tmp_path)
        command = ("-m", "supervisor.supervisord", "--nodaemon", "-c", str(tmp_path / "supervisord.conf"))
        return Service(tmp_path, processes.python(*command, env=ledger.environment, cwd=tmp_path), processes)

    return start


def _write_supervisor_config(directory: Path) -> None:
    """What the shipped file says, but for the places and the user of an installation."""
    parser = configparser.RawConfigParser()
    parser.read_string(SHIPPED.read_text())
    program = parser["program:hopd"]
    hopd = f"{sys.executable} -c 'from hopd.cli.hopd import main; main()'"
    assert program["command"].startswith("/opt/hopd/bin/hopd run -c /etc/hopd/hopd.yaml ")
    program["command"] = program["command"].replace("/opt/hopd/bin/hopd", hopd).replace("/etc/hopd", str(directory))
    program["directory"] = str(directory)
    program["stdout_logfile"] = str(directory / "%(program_name)s-%(process_num)02d.log")
    del program["user"]
    sections: dict[str, dict[str, object]] = {
        "supervisord": {"logfile": directory / "supervisord.log", "pidfile": directory / "supervisord.pid", "minfds": 1024},
        "unix_http_server": {"file": directory / "supervisor.sock"},
        "supervisorctl": {"serverurl": f"unix://{directory}/supervisor.sock"},
        "rpcinterface:supervisor": {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
    }
    for section, values in sections.items():
        parser[section] = {key: str(value) for key, value in values.items()}
    with (directory / "supervisord.conf").open("w") as file:
        parser.write(file)


def _consuming(service: Service, count: int) -> dict[str, dict[str, Any]] | None:
    found = service.instances()
    states = [topic["state"] for instance in found.values() for topic in instance["topics"].values()]
    return found if len(found) == count and set(states) == {"consuming"} else None


def _put(queue: WorkQueue, topic: str, ledger: Ledger, ids: list[str]) -> None:
    ledger.attempt(*ids)
    queue.get_topic(topic).put_many(Message(b"x", message_id=message_id) for message_id in ids)
    ledger.confirm(*ids)


def test_two_instances_survive_a_kill_and_drain_when_stopped(
    start: Callable[[str], Service], broker: Node, topic_name: str, exchange_name: str, ledger: Ledger
) -> None:
    # Given two instances under supervisor, with jobs to do
    service = start(CONFIG.format(url=broker.url, exchange=exchange_name, topic=topic_name))
    before = wait_until(lambda: _consuming(service, 2), 60, "two instances that consume")
    with WorkQueue(broker.url, exchange=exchange_name) as queue:
        _put(queue, topic_name, ledger, [f"first-{number}" for number in range(2000)])
        wait_until(lambda: len(ledger.pids()) == 2, 30, "both instances at work")

        # When one is killed in the middle of it
        victim = before["00"]["pid"]
        psutil.Process(victim).send_signal(signal.SIGKILL)

        # Then supervisor starts it again, and every job is done
        after = wait_until(lambda: _consuming(service, 2), 60, "two instances again")
        assert after["00"]["pid"] != victim
        assert after["01"]["pid"] == before["01"]["pid"]
        wait_until(lambda: ledger.count() == 2000, 60, "all jobs handled")

        # When they are stopped in the middle of more
        _put(queue, topic_name, ledger, [f"second-{number}" for number in range(5000)])
        wait_until(lambda: ledger.count() > 2500, 30, "some of the second jobs handled")
        duplicates = ledger.duplicates()
        service.supervisorctl("stop", "hopd:*")

        # Then both leave with 0, and each job is either handled once or back in its topic
        assert "stopped: hopd-00 (exit status 0)" in service.log()
        assert "stopped: hopd-01 (exit status 0)" in service.log()
        assert ledger.duplicates() == duplicates
        assert ledger.count() + queue.get_topic(topic_name).ready() == 7000
        assert ledger.unexpected() == set()
        # Of the killed one's jobs only those it ran or had waiting came twice.
        assert duplicates <= 60


def test_a_config_that_cannot_be_used_is_not_tried_again(start: Callable[[str], Service]) -> None:
    # Given a config with a mistake
    service = start("broker: {url: 'amqp://127.0.0.1:9/'}\ntopics: {emails: {handler: nosuch.module:send}}")
    # When supervisor starts hopd
    wait_until(lambda: service.log().count("exit status 78; expected") == 2, 60, "both instances have left")
    # Then it stays away, and its log says what is wrong
    status = service.supervisorctl("status")
    assert status.count("EXITED") == 2, status
    assert "spawned: 'hopd-00'" in service.log()
    assert service.log().count("spawned: 'hopd-00'") == 1
    said = (service.directory / "hopd-00.log").read_text()
    assert "hopd.yaml:2:" in said
    assert "there is no module nosuch" in said
