"""A real daemon for a test: `hopd run` with a config of the test's own, and its control socket."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hopd.control.client import ControlClient
from hopd.errors import HopError
from tests.support.process import Process, Processes
from tests.support.waiting import wait_until

#: A daemon starts in a second; two busy cores take longer.
START_TIMEOUT = 60.0

#: What makes a test quick: a lost connection is noticed and made again within seconds.
IMPATIENT = {"heartbeat": 3, "connect_timeout": "2s", "recovery_max": "1s"}


class HopdProcess:
    """`hopd run` in `directory`, with `topics` as the config would have them. It ends with `processes`."""

    def __init__(
        self,
        processes: Processes,
        directory: Path,
        urls: str | Sequence[str],
        topics: Mapping[str, Mapping[str, Any]],
        *,
        broker: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        **sections: Any,
    ) -> None:
        self.path = directory / "hopd.yaml"
        self.socket = str(directory / "hopd.sock")
        self.control = ControlClient(self.socket, timeout=20.0)
        where = {"url": urls} if isinstance(urls, str) else {"urls": list(urls)}
        self.sections = {"broker": {**IMPATIENT, **where, **(broker or {})}, "control": {"socket": self.socket}}
        self.configure(topics=topics, **sections)
        self._processes = processes
        self._env = dict(env or {})
        self.process: Process = self._start()

    def configure(self, **sections: Any) -> None:
        """Write these sections anew; a running hopd takes them up when it is told to."""
        self.sections.update(sections)
        self.path.write_text(json.dumps(self.sections, indent=1))  # JSON is YAML

    def _start(self) -> Process:
        return self._processes.hopd("run", "-c", str(self.path), env=self._env)

    def restart(self) -> None:
        """Start it again; its process has ended."""
        self.process = self._start()

    def status(self) -> dict[str, Any]:
        """What `hopctl status --json` shows."""
        status: dict[str, Any] = self.control.call("status")
        return status

    def topic(self, name: str) -> dict[str, Any]:
        """One topic of the status."""
        topic: dict[str, Any] = self.status()["topics"][name]
        return topic

    def states(self) -> dict[str, str]:
        """The state of each topic; empty as long as nobody answers."""
        try:
            return {name: topic["state"] for name, topic in self.status()["topics"].items()}
        except HopError:
            return {}

    def check_alive(self) -> None:
        """RuntimeError, for which nobody waits on, when the process has ended."""
        if not self.process.alive:
            raise RuntimeError(f"hopd has ended: {self.process.describe()}")

    def wait_consuming(self, *topics: str, timeout: float = START_TIMEOUT) -> HopdProcess:
        """Wait until these topics, or all, are consumed."""

        def consuming() -> bool:
            self.check_alive()
            states = self.states()
            return bool(states) and all(states[name] == "consuming" for name in topics or states)

        wait_until(consuming, timeout, "the topics are consumed")
        return self
