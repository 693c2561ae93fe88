"""A daemon for the tests of the daemon: what one sees of it from outside, and the jobs one puts to it."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hopd import WorkQueue
from hopd.message import Message
from tests.support import handlers
from tests.support.hopd_process import START_TIMEOUT, HopdProcess
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: Far longer than anything takes on a busy machine. Seconds.
PATIENCE = 60.0

#: Counters that tell that a job will not be seen again.
OVER = ("done", "buried", "dropped")


def handler(function: str, **options: Any) -> dict[str, Any]:
    """A topic of the config with one of the tests' handlers."""
    return {"handler": f"tests.support.handlers:{function}", **options}


class Daemon(HopdProcess):
    """`hopd run` with its jobs' ledger and gate. It logs JSON, unless told otherwise, and leaves within 10 s when asked."""

    def __init__(
        self,
        processes: Processes,
        directory: Path,
        url: str,
        topics: Mapping[str, Mapping[str, Any]],
        *,
        broker: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        **sections: Any,
    ) -> None:
        self.ledger = Ledger(directory / "ledger")
        self.gate = directory / "gate"
        environment = {**self.ledger.environment, handlers.GATE: str(self.gate), **(env or {})}
        sections = {"logging": {"format": "json"}, "shutdown": {"grace": "10s"}, **sections}
        super().__init__(processes, directory, url, topics, broker=broker, env=environment, **sections)
        self.directory = directory

    # --- looking ------------------------------------------------------------------------------

    def wait_up(self) -> Daemon:
        """Wait until it answers on its socket."""

        def answers() -> bool:
            self.check_alive()
            return bool(self.states())

        wait_until(answers, PATIENCE, "the daemon answers")
        return self

    def wait_consuming(self, *topics: str, timeout: float = START_TIMEOUT) -> Daemon:
        """Wait until these topics, or all, are consumed."""
        super().wait_consuming(*topics, timeout=timeout)
        return self

    def wait_state(self, topic: str, state: str) -> dict[str, Any]:
        """The topic's status, once it is in that state."""

        def look() -> dict[str, Any] | None:
            status = self.topic(topic)
            return status if status["state"] == state else None

        return wait_until(look, PATIENCE, f"{topic} is {state}") or {}

    def wait_count(self, topic: str, counter: str, count: int) -> dict[str, Any]:
        """The topic's status, once a number in it has come that far."""

        def look() -> dict[str, Any] | None:
            status = self.topic(topic)
            return status if status[counter] >= count else None

        return wait_until(look, PATIENCE, f"{counter} of {topic} is {count}") or {}

    def wait_broker(self, state: str) -> dict[str, Any]:
        """The status of the connection, once it is in that state."""

        def look() -> dict[str, Any] | None:
            broker: dict[str, Any] = self.status()["broker"]
            return broker if broker["state"] == state else None

        return wait_until(look, PATIENCE, f"the connection is {state}") or {}

    def events(self, event: str) -> list[dict[str, Any]]:
        """What it logged with that event word."""
        lines = [json.loads(line) for line in self.process.stderr.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def wait_event(self, event: str) -> dict[str, Any]:
        """The first log line with that event word."""
        return wait_until(lambda: self.events(event), PATIENCE, f"{event} in the log")[0]

    # --- steering -----------------------------------------------------------------------------

    def hopctl(self, *arguments: str) -> str:
        """What `hopctl ARGUMENTS` prints; it must succeed."""
        process = self._processes.hopctl("-s", self.socket, *arguments)
        assert process.wait(PATIENCE) == 0, process.describe()
        return process.stdout

    def open_gate(self) -> None:
        """Let jobs go on that wait at the gate."""
        self.gate.touch()

    def leave(self, number: signal.Signals = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Ask it to leave; its exit code."""
        self.process.signal(number)
        return self.process.wait(timeout)


def put(url: str, ledger: Ledger, topic: str, count: int, body: bytes = b"x") -> None:
    """Put jobs whose ids the ledger knows, and have all of them confirmed."""
    with work_queue(url) as queue:
        put_on(queue, ledger, topic, count, body)


def put_on(queue: WorkQueue, ledger: Ledger, topic: str, count: int, body: bytes = b"x") -> None:
    """The same over a work queue that is there."""
    start = len(ledger.attempted)
    ids = [f"{topic}-{number}" for number in range(start, start + count)]
    ledger.attempt(*ids)
    queue.get_topic(topic).put_many(Message(body, message_id=one) for one in ids)
    ledger.confirm(*ids)


def wait_empty(node: Node, *topics: str) -> None:
    """Wait until these topics are there, with nothing ready or unsettled."""
    for topic in topics:
        wait_ready(node, topic, 0)


def wait_ready(node: Node, topic: str, count: int) -> None:
    """Wait until that many jobs are ready in the topic, and none is unsettled."""

    def look() -> bool:
        depth = node.list_queues().get(topic)
        assert depth is not None
        assert (depth.ready, depth.unsettled) == (count, 0)
        return True

    wait_until(look, PATIENCE, f"{count} jobs are ready in {topic}")
