"""What every trial needs: a private broker, processes that end, and the ear that hears their reports."""

from __future__ import annotations

import itertools
import json
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.private_node import PrivateNode
from tests.support.process import Process, Processes
from tests.support.waiting import wait_until

#: How long a contender may take to do what it is to report. Seconds.
PATIENCE = 120.0

#: Between two looks at whether a contender that does not report has ended. Seconds.
LOOK_INTERVAL = 0.5


class Stage:
    """A node and a directory for the whole bench. A context manager."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="hopd-bench-")
        self._numbers = itertools.count(1)
        self.directory = Path(self._temporary.name)
        self.node = PrivateNode()
        self.processes = Processes(self.directory)

    def __enter__(self) -> Stage:
        self.node.start()
        self.node.wait_ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.processes.end()
        self.node.close()
        self._temporary.cleanup()

    def new_directory(self) -> Path:
        """An empty directory."""
        directory = self.directory / str(next(self._numbers))
        directory.mkdir()
        return directory


class Reports:
    """Where a contender reports; see `tally`. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "reports")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(LOOK_INTERVAL)

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def wait(self, mark: str, process: Process) -> dict[str, Any]:
        """The contender's report `mark`; RuntimeError when it ends without, AssertionError when it takes too long."""

        def hear() -> dict[str, Any] | None:
            try:
                report: dict[str, Any] = json.loads(self._socket.recv(65_536))
            except TimeoutError:
                if not process.alive:
                    raise RuntimeError(f"a contender has ended: {process.describe()}") from None
                return None
            return report if report["mark"] == mark else None

        return wait_until(hear, PATIENCE, f"{mark} is reported by {process.describe()}") or {}
