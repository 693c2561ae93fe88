"""The daemons of the soak, each a real `hopd run --instance` behind a proxy of its own, and the keeper that restarts them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from hopd.control.client import ControlClient
from hopd.control.paths import socket_for
from hopd.errors import HopError
from tests.soak import topics
from tests.support.node import Node
from tests.support.process import Process, Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

#: The variable in the config that says where a daemon finds its broker.
BROKER = "HOPD_SOAK_BROKER"

#: How often the keeper looks whether somebody died. Seconds.
LOOK_INTERVAL = 0.1

#: A daemon starts in a second; two busy cores take longer.
START_TIMEOUT = 60.0

#: The config's grace and then some: a busy machine. Seconds.
STOP_TIMEOUT = 40.0


class Daemon:
    """One daemon: its process, whichever that is at the moment, and its network."""

    def __init__(self, number: int, processes: Processes, config: Path, control: str, node: Node, environment: Mapping[str, str]) -> None:
        self.number = number
        self.proxy = Proxy(node.port)
        self.control = ControlClient(socket_for(control, str(number)))
        self.pids: set[int] = set()
        self._processes = processes
        self._arguments = ("run", "-c", str(config), "--instance", str(number))
        self._environment = {**environment, BROKER: self.proxy.through(node.url)}
        #: Held by whoever stops the process on purpose; the keeper leaves it alone meanwhile.
        self.hands_off = threading.Lock()
        self.process = self._start()

    def _start(self) -> Process:
        process = self._processes.hopd(*self._arguments, env=self._environment)
        self.pids.add(process.pid)
        return process

    def start(self) -> None:
        """Start it again, after its process has ended."""
        self.process = self._start()

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, once it runs. Returns the exit code."""
        wait_until(self._answers, START_TIMEOUT, f"daemon {self.number} answers")
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT)

    def _answers(self) -> bool:
        try:
            return self.control.call("status")["state"] == "running"  # type: ignore[no-any-return]
        except HopError:
            return not self.process.alive

    def freeze(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)


class Keeper:
    """Starts again every daemon that ended by itself, as a service manager would; each end that no poisonous job explains is trouble.

    Its thread must live as long as the daemons it has started: they are killed with the thread that is their parent.
    """

    def __init__(self, daemons: list[Daemon], trouble: Callable[[str], None]) -> None:
        self.poisoned: list[float] = []
        self._daemons = daemons
        self._trouble = trouble
        self._resting = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def rest(self) -> None:
        """Start nobody again: the daemons are about to be stopped."""
        self._resting = True

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_INTERVAL):
            for daemon in self._daemons:
                with daemon.hands_off:
                    if not (daemon.process.alive or self._resting):
                        self._restart(daemon)

    def _restart(self, daemon: Daemon) -> None:
        code = daemon.process.wait()
        if code == topics.POISONED:
            self.poisoned.append(monotonic())
        else:
            self._trouble(f"daemon {daemon.number} ended by itself with exit code {code}: {daemon.process.describe()}")
        daemon.start()
