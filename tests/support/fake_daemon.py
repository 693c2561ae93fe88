"""A fake daemon behind the real control server, in a process of its own.

As a module it starts and stops that process for tests; as a script it is the process. So gevent stays out of pytest's.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from hopd import errors
from hopd.control.client import ControlClient

ROOT = Path(__file__).resolve().parents[2]

#: Topics whose puts fail, and how; "bug" is an error that is not hopd's.
PUT_FAILURES: Mapping[str, Exception] = {
    "nowhere": errors.Unroutable("no queue takes jobs of nowhere"),
    "blocked": errors.BrokerBlocked(),
    "away": errors.BrokerUnreachable(),
    "late": errors.PutTimeout(),
    "lost": errors.PutUncertain(),
    "closed": errors.WorkQueueClosed(),
    "bug": RuntimeError("a bug"),
}

COUNTERS = ("done", "failed", "retried", "requeued", "buried", "dropped", "lost", "redelivered")


class FakeDaemon:
    """The running process, seen from a test."""

    def __init__(self, process: subprocess.Popen[str], path: str, log: Path) -> None:
        self.process = process
        self.path = path
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def call(self, cmd: str, args: Mapping[str, Any] | None = None, *, timeout: float = 10.0) -> Any:
        return ControlClient(self.path, timeout).call(cmd, args)

    def calls(self) -> list[Any]:
        """What the commands asked of the steering, in order."""
        return list(self.call("status")["calls"])

    def log(self) -> list[dict[str, Any]]:
        """The log's records so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def stop(self) -> int:
        """Stop it as the daemon stops: the server first. Returns the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=20)


def python_environ() -> dict[str, str]:
    """The environment for a Python of ours that imports hopd from this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


@contextmanager
def fake_daemon(path: str | Path, *options: str, limits: Mapping[str, float] | None = None) -> Iterator[FakeDaemon]:
    """Start the process with its socket at `path` and wait until it listens."""
    log = Path(f"{path}.log")
    command = [sys.executable, __file__, "--socket", str(path), "--limits", json.dumps(limits or {}), *options]
    environ = python_environ()
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if line != "ready\n":
                process.wait(timeout=20)
                raise errors.SocketUnusable(line or log.read_text())
            yield FakeDaemon(process, str(path), log)
        finally:
            process.kill()


class FakeSteering:
    """Keeps what it is asked and behaves as the topic's name says; the topic `slow` never finishes its jobs."""

    version = "9.8.7"

    def __init__(self, instance: str | None, topics: Sequence[str], overrides: Mapping[str, Any]) -> None:
        self.calls: list[Any] = []
        self.worst_lag = 0.0
        self.ticks = 0
        self.turns = 0
        self._instance = instance
        self._states = dict.fromkeys(topics, "consuming")
        self._overrides = overrides

    def status(self) -> dict[str, Any]:
        topics = {name: self._topic(name, state) for name, state in self._states.items()}
        broker = {"state": "open", "url": "amqp://guest:***@localhost:5672/", "attempt": 0, "next_try": None, "reason": None}
        return {
            "state": "running",
            "version": self.version,
            "instance": self._instance,
            "pid": os.getpid(),
            "uptime": 4000.5,
            "started_at": "2024-05-01T10:00:00+00:00",
            "config": "/etc/hopd/hopd.yaml",
            "broker": broker,
            "publisher": {**broker, "state": "closed"},
            "topics": topics,
            "calls": self.calls,
            "worst_lag": self.worst_lag,
            "ticks": self.ticks,
            "turns": self.turns,
            **self._overrides,
        }

    def topic_names(self) -> list[str]:
        return list(self._states)

    def pause(self, topics: Sequence[str]) -> None:
        self._note("pause", topics=topics)
        self._states.update(dict.fromkeys(topics, "paused"))

    def resume(self, topics: Sequence[str]) -> None:
        self._note("resume", topics=topics)
        self._states.update(dict.fromkeys(topics, "consuming"))

    def drain(self, topics: Sequence[str], timeout: float) -> dict[str, int]:
        import gevent

        self._note("drain", topics=topics, timeout=timeout)
        self._states.update(dict.fromkeys(topics, "paused"))
        if "slow" in topics:
            gevent.sleep(timeout)
        return {topic: 2 if topic == "slow" else 0 for topic in topics}

    def reload(self) -> Mapping[str, Sequence[str]]:
        self._note("reload")
        if "broken" in self._states:
            raise errors.ConfigError((errors.Problem("/etc/hopd/hopd.yaml", 3, 1, "topics", "is not there"),))
        return {"added": ["new"], "changed": ["emails", "images"], "removed": [], "restart": ["broker.heartbeat"]}

    def shutdown(self, now: bool, grace: float | None) -> None:
        self._note("shutdown", now=now, grace=grace)

    def put(
        self,
        topic: str,
        body: bytes,
        *,
        headers: Mapping[str, Any],
        message_id: str | None,
        content_type: str | None,
        delay: float | None,
        at: datetime | None,
        timeout: float,
    ) -> str:
        if topic == "fork":
            return str(_fork_child_that_stays())
        if topic == "spin":
            import gevent

            gevent.spawn(_count_turns, self)
        if topic in PUT_FAILURES:
            raise PUT_FAILURES[topic]
        about = {"headers": headers, "message_id": message_id, "content_type": content_type, "timeout": timeout}
        about |= {"delay": delay, "at": None if at is None else at.isoformat()}
        self._note("put", topic=topic, body=body.hex(), **about)
        return message_id or "made-up-id"

    def _note(self, call: str, **args: Any) -> None:
        self.calls.append([call, args])

    def _topic(self, name: str, state: str) -> dict[str, Any]:
        numbers = {"concurrency": 50, "prefetch": 150, "running": 2 if name == "slow" else 0, "waiting": 7}
        return {"state": state, "reason": None, "handler": f"app:{name}", **numbers, **dict.fromkeys(COUNTERS, 1)}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        known = logging.makeLogRecord({}).__dict__
        extra = {key: value for key, value in record.__dict__.items() if key not in known}
        return json.dumps({"level": record.levelname, "message": record.getMessage(), **extra})


def main() -> int:
    """Serve until standard input ends."""
    options = _options()
    if options.patched:
        from gevent import monkey

        monkey.patch_all()
    import gevent
    from gevent.fileobject import FileObject

    from hopd.control import commands, server

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    if options.nofile:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.nofile, options.nofile))
    steering = FakeSteering(options.instance, options.topics.split(","), json.loads(options.status))
    limits = server.Limits(**json.loads(options.limits))
    if options.owner is not None:
        mock.patch.object(os, "geteuid", return_value=options.owner).start()
    handle = partial(commands.dispatch, steering)
    control = server.ControlServer(options.socket, int(options.mode, 8), options.group, handle, limits=limits)
    try:
        control.start()
    except errors.SocketUnusable as error:
        print(error, flush=True)
        return 73
    gevent.spawn(_watch_lag, steering)
    print("ready", flush=True)
    FileObject(sys.stdin.fileno(), "rb", close=False).read()
    control.stop()
    return 0


def _fork_child_that_stays() -> int:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    return child


def _count_turns(steering: FakeSteering) -> None:
    """Count how often the loop gets to a greenlet that always has work."""
    import gevent

    while True:
        steering.turns += 1
        gevent.sleep(0)


def _watch_lag(steering: FakeSteering) -> None:
    """How late the loop gets to a greenlet that has work every 10 ms, as jobs do."""
    import time

    import gevent

    while True:
        before = time.monotonic()
        gevent.sleep(0.01)
        steering.ticks += 1
        steering.worst_lag = max(steering.worst_lag, time.monotonic() - before - 0.01)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--patched", action="store_true", help="monkey-patch first, as the daemon does")
    parser.add_argument("--mode", default="660")
    parser.add_argument("--group")
    parser.add_argument("--owner", type=int, help="the uid that counts as the daemon's own")
    parser.add_argument("--limits", default="{}")
    parser.add_argument("--instance")
    parser.add_argument("--topics", default="emails,images,slow")
    parser.add_argument("--status", default="{}")
    parser.add_argument("--nofile", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
