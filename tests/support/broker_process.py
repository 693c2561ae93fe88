"""`hopd broker` as a real process for a test: it may be killed, and serves again where it was."""

from __future__ import annotations

from pathlib import Path

from tests.support.private_node import free_port
from tests.support.process import Process, Processes

#: For a broker to be up: half a second, and more where everybody wants the processor. Seconds.
START_TIMEOUT = 60.0


class BrokerProcess:
    """The embedded broker with its store at `store`, on a port that stays the same. It ends with `processes`."""

    def __init__(self, processes: Processes, store: Path) -> None:
        self._processes = processes
        self._arguments = ("--listen", f"127.0.0.1:{free_port()}", "--store", str(store))
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self._arguments[1]}/"

    def _start(self) -> Process:
        process = self._processes.hopd("broker", *self._arguments)
        process.wait_for("event=broker_started", START_TIMEOUT)
        return process

    def kill(self) -> None:
        """Kill it, and start it again."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()
