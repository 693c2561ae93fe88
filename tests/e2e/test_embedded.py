"""A daemon that is its own broker, as a config without one makes it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hopd import WorkQueue
from hopd.control.client import ControlClient
from hopd.errors import NotRunning
from tests.support import handlers
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.process import Process, Processes
from tests.support.waiting import wait_until

TOPIC = {"handler": "tests.support.handlers:record", "concurrency": 5}


class Alone:
    """A daemon with a broker inside, its config and what it keeps in a directory of its own."""

    def __init__(self, processes: Processes, directory: Path, **broker: Any) -> None:
        self.processes = processes
        self.ledger = Ledger(directory / "ledger")
        self.store = directory / "broker.db"
        self.config = directory / "hopd.yaml"
        self.socket = str(directory / "hopd.sock")
        self.control = ControlClient(self.socket)
        self.gate = directory / "gate"
        embedded = {"listen": "127.0.0.1:0", "store": str(self.store), **broker}
        config = {"broker": {"embedded": embedded}, "control": {"socket": self.socket}, "topics": {"emails": TOPIC}}
        self.config.write_text(json.dumps({**config, "logging": {"format": "json"}}))

    def start(self, *options: str) -> Process:
        environment = {**self.ledger.environment, handlers.GATE: str(self.gate)}
        return self.processes.hopd("run", "-c", str(self.config), *options, env=environment)

    def wait_open(self) -> dict[str, Any]:
        """The status of the connection to itself, once it is open."""

        def look() -> dict[str, Any] | None:
            try:
                broker: dict[str, Any] = self.control.call("status")["broker"]
            except NotRunning:
                return None
            return broker if broker["state"] == "open" else None

        return wait_until(look, 30) or {}

    def work_queue(self) -> Any:
        return work_queue(self.wait_open()["url"].replace("***", "guest"))

    def done(self) -> int:
        done: int = self.control.call("status")["topics"]["emails"]["done"]
        return done


@pytest.fixture
def alone(processes: Processes, tmp_path: Path) -> Callable[..., Alone]:
    return lambda **broker: Alone(processes, tmp_path, **broker)


def put(queue: WorkQueue, ledger: Ledger, count: int) -> None:
    topic = queue.get_topic("emails")
    for number in range(count):
        ledger.attempt(str(number))
        topic.put(b"x", message_id=str(number))
        ledger.confirm(str(number))


def test_jobs_run_without_any_other_broker(alone: Callable[..., Alone]) -> None:
    one = alone()
    daemon = one.start()

    with one.work_queue() as queue:
        put(queue, one.ledger, 20)
        wait_until(lambda: one.done() == 20)

    assert one.ledger.handled().keys() == one.ledger.confirmed
    daemon.terminate()
    assert daemon.wait() == 0


def test_it_says_that_it_is_the_broker_and_whom_it_serves(alone: Callable[..., Alone]) -> None:
    one = alone()
    daemon = one.start()

    said = daemon.wait_for("broker_embedded")

    assert said
    assert "It serves this machine; for more, name a RabbitMQ" in daemon.stderr
    assert one.wait_open()["embedded"] == str(one.store)


def test_jobs_that_were_put_outlive_a_daemon_that_is_killed(alone: Callable[..., Alone]) -> None:
    # Given jobs that nobody has run yet
    one = alone()
    daemon = one.start()
    with one.work_queue() as queue:
        one.control.call("pause", {"topics": ["emails"]})
        put(queue, one.ledger, 20)

    # When the daemon is killed, and another one started
    daemon.kill()
    daemon.wait()
    one.start()

    # Then it runs them
    one.wait_open()
    wait_until(lambda: one.ledger.handled().keys() == one.ledger.confirmed, 30)


def test_without_a_store_nothing_is_written(alone: Callable[..., Alone]) -> None:
    one = alone(store="memory")
    one.start()

    with one.work_queue() as queue:
        put(queue, one.ledger, 1)
        wait_until(lambda: one.done() == 1)

    assert one.wait_open()["embedded"] == "memory"
    assert not one.store.exists()


def test_an_address_that_is_taken_is_told_with_what_to_do(alone: Callable[..., Alone]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = alone(listen=address).start()

        assert daemon.wait() == 73

    assert address in daemon.stderr
    assert "name it in broker.url" in daemon.stderr


def test_a_store_that_is_none_is_told(alone: Callable[..., Alone]) -> None:
    one = alone()
    one.store.write_bytes(b"not a database, but a letter to my aunt" * 100)
    daemon = one.start()

    assert daemon.wait() == 78
    assert str(one.store) in daemon.stderr


def test_instances_cannot_each_be_the_broker(alone: Callable[..., Alone]) -> None:
    daemon = alone().start("--instance", "01")

    assert daemon.wait() == 78
    assert "run `hopd broker` or RabbitMQ beside them" in daemon.stderr
