"""A real daemon for a test: `hopd run` as a process of its own, on the test's broker, with the test's topics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any

import yaml

from hopd.config.load import load
from hopd.control.client import ControlClient
from hopd.errors import HopError, NotRunning

#: A daemon starts in half a second; a busy machine takes longer. Seconds.
START_TIMEOUT = 30.0

#: How long leaving may take beyond the config's own grace period. Seconds.
STOP_TIMEOUT = 15.0

#: How often is looked. Seconds.
LOOK_INTERVAL = 0.02

#: How much of the log an error quotes. Characters.
LAST_WORDS = 2000


class DaemonFailed(HopError):
    """The daemon did not start, or ended by itself."""


class DaemonProcess:
    """`hopd run` with a config, its broker replaced by `url`. Use as a context manager: it runs in the block.

    `config` is what a config file holds, or the path of one. Handlers are imported from where the test imports, too.
    """

    def __init__(self, config: Mapping[str, Any] | str | Path, url: str, directory: Path) -> None:
        self.directory = directory
        self.socket = str(directory / "hopd.sock")
        self.log = directory / "hopd.log"
        self._control = ControlClient(self.socket)
        self._path = directory / "hopd.yaml"
        self._path.write_text(json.dumps(_on(config, url, self.socket), indent=1))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DaemonProcess:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> DaemonProcess:
        """Start it and wait until it consumes every topic; `DaemonFailed` with the end of its log when it does not."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "hopd.cli.hopd", "run", "-c", str(self._path)]
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = monotonic() + START_TIMEOUT
        while not self._consumes():
            if monotonic() > deadline or not self.running:
                self.kill()
                raise DaemonFailed(f"hopd does not consume: {self.last_words()}")
            sleep(LOOK_INTERVAL)
        return self

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def status(self) -> dict[str, Any]:
        """What `hopctl status --json` shows."""
        status: dict[str, Any] = self._control.call("status")
        return status

    def topic(self, name: str) -> dict[str, Any]:
        """One topic of the status, with its counters."""
        topic: dict[str, Any] = self.status()["topics"][name]
        return topic

    def wait(self, topic: str, counter: str, count: int, timeout: float = 10.0) -> dict[str, Any]:
        """The topic's status once its `counter` (done, failed, buried …) has come to `count`; AssertionError after `timeout` seconds."""
        deadline = monotonic() + timeout
        while (status := self.topic(topic))[counter] < count:
            if monotonic() > deadline:
                raise AssertionError(f"{counter} of {topic} is {status[counter]} and not {count} after {timeout:g} s: {self.last_words()}")
            sleep(LOOK_INTERVAL)
        return status

    def stop(self) -> int:
        """Let it drain and leave; its exit code."""
        process = self._running_process()
        process.send_signal(signal.SIGTERM)
        return process.wait(self._grace() + STOP_TIMEOUT)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-LAST_WORDS:] if self.log.exists() else "(it wrote no log)"

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DaemonFailed("hopd was not started")
        return self._process

    def _grace(self) -> float:
        return load(str(self._path), os.environ).settings.shutdown.grace

    def _consumes(self) -> bool:
        try:
            return all(topic["state"] in ("consuming", "paused") for topic in self.status()["topics"].values())
        except NotRunning:
            return False


def _on(config: Mapping[str, Any] | str | Path, url: str, socket: str) -> dict[str, Any]:
    """The config with the test's broker and socket in place of its own."""
    whole = dict(config) if isinstance(config, Mapping) else _read(Path(config))
    kept = {key: value for key, value in (whole.get("broker") or {}).items() if key not in ("url", "urls", "url_file", "embedded", "tls")}
    control = {**(whole.get("control") or {}), "socket": socket}
    return {"shutdown": {"grace": "5s"}, **whole, "broker": {"recovery_max": "1s", **kept, "url": url}, "control": control}


def _read(path: Path) -> dict[str, Any]:
    """A config file, with its relative files still starting at its directory."""
    whole: dict[str, Any] = yaml.safe_load(path.read_text())
    places = whole.get("import_path") or []
    return {**whole, "import_path": [str(path.resolve().parent / place) for place in places]}
