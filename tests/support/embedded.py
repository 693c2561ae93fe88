"""The embedded broker as a node of its own: a real process, with the interface of a private RabbitMQ node.

with EmbeddedNode() as node:
    connect(node.wait_ready().url)
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from hopd.broker.model import ChannelInfo, QueueInfo
from tests.support.embedded_process import SERVING
from tests.support.node_control import NodeFailed, QueueDepth
from tests.support.private_node import free_port
from tests.support.process import Process, Processes
from tests.support.waiting import wait_until

#: It serves half a second after its start, on an idle machine. Seconds.
START_TIMEOUT = 60.0

#: How long one question may take. Seconds.
ASK_TIMEOUT = 30.0

#: How many times another port is tried when another process took ours between choosing and binding.
_PORT_ATTEMPTS = 5

#: RabbitMQ's. Seconds.
_CONSUMER_TIMEOUT = 1800.0


class EmbeddedNode:
    """One embedded broker, its store on disk. `consumer_timeout` is in seconds."""

    def __init__(self, *, consumer_timeout: float = _CONSUMER_TIMEOUT) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="hopd-embedded-"))
        self.port = free_port()
        self._consumer_timeout = consumer_timeout
        self._door = self.home / "door"
        self._processes = Processes(self.home)
        self._process: Process | None = None
        self._was_ready = False

    def __enter__(self) -> EmbeddedNode:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The AMQP URL of its virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    # --- life -----------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether its process lives (frozen or not)."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """Of its process; 0 when there is none."""
        return self._process.pid if self._process is not None and self.running else 0

    def start(self) -> None:
        """Start it and return at once. One that was stopped or killed starts again on its old port and data."""
        if not self.running:
            store, door = self.home / "store", self._door
            arguments = (str(self.port), str(store), str(door), str(self._consumer_timeout))
            self._process = self._processes.python("-m", "tests.support.embedded_process", *arguments)

    def wait_ready(self, timeout: float = START_TIMEOUT) -> EmbeddedNode:
        """Wait until it serves. NodeFailed with its last words when it does not."""
        for _ in range(_PORT_ATTEMPTS):
            try:
                self._there.wait_for(f"^{SERVING}$", timeout)
            except (AssertionError, RuntimeError) as error:
                if self._was_ready or "in use" not in str(error):
                    raise NodeFailed(str(error)) from error
                self.port = free_port()
                self.start()
            else:
                self._was_ready = True
                return self
        raise NodeFailed(f"all of {_PORT_ATTEMPTS} ports were taken")

    def stop(self, timeout: float = START_TIMEOUT) -> None:
        """Stop it gracefully: clients are told 320."""
        process = self._there
        self.thaw()
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise NodeFailed(f"the embedded broker did not stop in {timeout:.0f} s") from error

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._there.kill()
        self._there.wait()

    def restart(self, *, gracefully: bool = False, timeout: float = START_TIMEOUT) -> None:
        """Stop or kill it, start it again with its data, wait until it serves."""
        if gracefully:
            self.stop(timeout)
        else:
            self.kill()
        self.start()
        self.wait_ready(timeout)

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): the kernel still accepts connections and data for it, nothing answers."""
        process = self._there
        process.signal(signal.SIGSTOP)
        # A process of several threads, on a busy machine, goes on for a moment.
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, ASK_TIMEOUT, "it has stopped")

    def thaw(self) -> None:
        """Let it go on."""
        self._there.signal(signal.SIGCONT)

    def close(self) -> None:
        """End it now and remove every trace of it. Safe to call twice."""
        self._processes.end()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def _there(self) -> Process:
        if self._process is None:
            raise NodeFailed("the embedded broker was not started")
        return self._process

    # --- looking inside, and making its clients suffer --------------------------------------------

    def list_queues(self) -> dict[str, QueueDepth]:
        """Every queue."""
        queues = [QueueInfo(*each) for each in self._ask("queues")]
        return {queue.name: QueueDepth(queue.ready, queue.unsettled, queue.consumers) for queue in queues}

    def connections(self) -> int:
        """How many clients are connected."""
        return int(self._ask("connections"))

    def channels(self) -> list[ChannelInfo]:
        """All open channels."""
        return [ChannelInfo(*each) for each in self._ask("channels")]

    def close_channel(self, serial: int) -> None:
        """Close one of them with 406, as the broker's own checks do."""
        self._ask("close_channel", serial)

    def set_alarm(self, resource: str = "memory") -> None:
        """Raise a `memory` or `disk` alarm: it stops reading connections that publish. It knows one at a time."""
        self._ask("block", f"low on {resource}")

    def clear_alarm(self, resource: str = "memory") -> None:
        """End the alarm."""
        self._ask("unblock")

    def close_all_connections(self, reason: str = "closed for a test") -> None:
        """Force every connection closed with code 320, as an operator would."""
        self._ask("close_connections", reason)

    def _ask(self, *question: object) -> Any:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(ASK_TIMEOUT)
            try:
                door.connect(str(self._door))
                door.sendall(json.dumps(question).encode() + b"\n")
                with door.makefile() as answer:
                    return json.loads(answer.readline())
            except (OSError, ValueError) as error:
                raise NodeFailed(f"the embedded broker did not answer {question}: {error}\n{self._there.describe()}") from error
