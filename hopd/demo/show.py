"""`hopd demo`: a broker, a daemon, a producer, and a picture of what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rich.console import Console
from rich.live import Live

from hopd import names
from hopd.broker.server import Broker
from hopd.control.client import ControlClient
from hopd.demo import picture
from hopd.errors import HopError, NotRunning
from hopd.workqueue import WorkQueue

CONFIG = Path(__file__).with_name("demo.yaml")
EXCHANGE = "hop.demo"

#: Which part of the jobs each topic of demo.yaml gets.
SHARES: Mapping[str, float] = {"demo.fingerprints": 0.4, "demo.webhooks": 0.5, "demo.payments": 0.1}

#: How often the picture is drawn, and how long the parts of the demo may take. Seconds.
FRAME = 0.1
LINE = 1.0
START_TIMEOUT = 30.0
CONNECT_TIMEOUT = 5.0
STALL_TIMEOUT = 30.0
STOP_TIMEOUT = 40.0


class DemoFailed(HopError):
    """The demo did not come to its end."""


@dataclass(frozen=True)
class Daemon:
    """The daemon of the demo: its process, its control socket, and where its log is."""

    process: subprocess.Popen[bytes]
    socket: str
    log: Path

    def topics(self) -> dict[str, dict[str, Any]]:
        """What `hopctl status` would show of the topics; `DemoFailed` when the daemon is gone."""
        if self.process.poll() is not None:
            raise DemoFailed(f"hopd ended with exit code {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
        topics: dict[str, dict[str, Any]] = ControlClient(self.socket, timeout=5.0).call("status", {})["topics"]
        return topics


def run_demo(jobs: int) -> int:
    """Run the demo with that many jobs; returns the exit code."""
    console = Console(highlight=False)
    counts = _share_out(jobs)
    try:
        with ExitStack() as stack:
            url = _broker(console, stack)
            queue = stack.enter_context(WorkQueue(url, exchange=EXCHANGE, name="hopd-demo", max_connection_retry=CONNECT_TIMEOUT))
            _require_untouched(queue, counts)
            stack.callback(_clean_up, queue, counts)
            daemon = stack.enter_context(_daemon(url))
            started = monotonic()
            _watch(console, daemon, queue, counts)
            elapsed = monotonic() - started
            final = daemon.topics()
            code = _stop(daemon)
            console.print(picture.closing_table(final, counts, elapsed))
            return _verdict(console, final, counts, code)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except HopError as error:
        console.print(f"[red]The demo failed:[/red] {error}", markup=True)
        return 1


def _share_out(jobs: int) -> dict[str, int]:
    counts = {topic: int(jobs * share) for topic, share in SHARES.items()}
    counts["demo.webhooks"] += jobs - sum(counts.values())
    return counts


def _broker(console: Console, stack: ExitStack) -> str:
    url = os.environ.get("HOP_BROKER_URL")
    if url:
        console.print("Using the broker in HOP_BROKER_URL.")
        return url
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hopd-demo-"))
    broker = stack.enter_context(Broker(store=str(Path(directory, "broker.db"))))
    console.print("HOP_BROKER_URL names no broker, so hopd's own is used, on disk until the end of the demo.")
    return broker.url


def _require_untouched(queue: WorkQueue, counts: Mapping[str, int]) -> None:
    """The demo deletes its topics at the end, so they must have been empty at its beginning."""
    for topic in counts:
        if queue.get_topic(topic).ready():
            raise DemoFailed(f"the topic {topic} has jobs already, from a demo that was cut short? Delete the queue and start again")


def _clean_up(queue: WorkQueue, counts: Mapping[str, int]) -> None:
    for topic in counts:
        for name in (topic, names.buried(topic)):
            queue.topic(name).delete()


@contextmanager
def _daemon(url: str) -> Iterator[Daemon]:
    """A real `hopd run` with the demo's config, stopped in any case."""
    with tempfile.TemporaryDirectory(prefix="hopd-demo-") as directory:
        log = Path(directory, "hopd.log")
        environ = {**os.environ, "HOP_BROKER_URL": url, "HOPD_SOCKET": str(Path(directory, "hopd.sock"))}
        command = [sys.executable, "-m", "hopd.cli.hopd", "run", "-c", str(CONFIG)]
        with log.open("wb") as output, subprocess.Popen(command, env=environ, stdout=output, stderr=output) as process:
            daemon = Daemon(process, environ["HOPD_SOCKET"], log)
            try:
                _wait_until_consuming(daemon)
                yield daemon
            finally:
                if process.poll() is None:
                    process.kill()


def _wait_until_consuming(daemon: Daemon) -> None:
    deadline = monotonic() + START_TIMEOUT
    while True:
        try:
            if all(topic["state"] == "consuming" for topic in daemon.topics().values()):
                return
        except NotRunning as error:
            if monotonic() > deadline:
                raise DemoFailed(f"hopd did not start: {error}") from error
        if monotonic() > deadline:
            raise DemoFailed(f"hopd does not consume:\n{daemon.log.read_text()[-2000:]}")
        sleep(0.05)


def _watch(console: Console, daemon: Daemon, queue: WorkQueue, counts: Mapping[str, int]) -> None:
    """Put the jobs in the background and draw until all of them are through."""
    producer = _Producer(queue, counts)
    producer.start()
    rates = picture.Rates()
    # A log file has no use for a picture that moves; it gets a line now and then.
    drawing = Live(console=console, refresh_per_second=1 / FRAME, transient=True) if console.is_terminal else nullcontext()
    with drawing as live:
        last_change, last_through, last_line = monotonic(), -1, 0.0
        while True:
            topics = daemon.topics()
            producer.check()
            through = sum(map(picture.through, topics.values()))
            if live is not None:
                live.update(picture.progress(topics, counts, producer.put, rates))
            elif monotonic() - last_line > LINE:
                console.print(picture.headline(topics, counts))
                last_line = monotonic()
            if through >= sum(counts.values()):
                return
            if through != last_through:
                last_change, last_through = monotonic(), through
            elif monotonic() - last_change > STALL_TIMEOUT:
                raise DemoFailed(f"nothing happened for {STALL_TIMEOUT:.0f} s:\n{daemon.log.read_text()[-2000:]}")
            sleep(FRAME)


class _Producer(threading.Thread):
    """Puts the jobs of all topics, in small batches in turn."""

    BATCH = 200

    def __init__(self, queue: WorkQueue, counts: Mapping[str, int]) -> None:
        super().__init__(name="producer", daemon=True)
        self._queue = queue
        self._counts = counts
        self.put = dict.fromkeys(counts, 0)
        self._error: HopError | None = None

    def run(self) -> None:
        """Put until every topic has its jobs."""
        try:
            while any(self.put[topic] < count for topic, count in self._counts.items()):
                for topic, count in self._counts.items():
                    self._put_batch(topic, count)
        except HopError as error:
            self._error = error

    def _put_batch(self, topic: str, count: int) -> None:
        first = self.put[topic]
        last = min(count, first + self.BATCH)
        self.put[topic] += self._queue.topic(topic).put_many({"number": number} for number in range(first, last))

    def check(self) -> None:
        """Raise what ended the producer, if something did."""
        if self._error is not None:
            raise self._error


def _stop(daemon: Daemon) -> int:
    daemon.process.send_signal(signal.SIGTERM)
    try:
        return daemon.process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"hopd did not stop within {STOP_TIMEOUT:.0f} s") from error


def _verdict(console: Console, topics: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int], code: int) -> int:
    done = sum(topic["done"] for topic in topics.values())
    buried = sum(topic["buried"] for topic in topics.values())
    total = sum(counts.values())
    if done + buried != total or code != 0:
        console.print(f"[red]Of {total:,} jobs {done:,} are done and {buried:,} buried; hopd ended with exit code {code}.[/red]")
        return 1
    accounted = f"All {total:,} jobs are accounted for: {done:,} done, {buried:,} failed and buried with their reason."
    console.print(accounted, "hopd drained its topics and left with exit code 0.", "To copy from:", sep="\n", soft_wrap=True)
    console.print(f"  {CONFIG.with_name('handlers.py')}\n  {CONFIG}", soft_wrap=True)
    return 0
