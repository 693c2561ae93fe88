"""How many jobs a second a real daemon does, and what each costs: `make bench`, or

    python -m tests.bench.throughput --jobs 100000 --concurrency 1000 --sleep 0.01

A private broker gets all jobs first. Then the daemon, which has its topic paused so that its start is not counted, is let loose.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hopd import WorkQueue
from hopd.control.client import ControlClient
from hopd.demo.node import PrivateNode
from tests.support.process import Process, Processes
from tests.support.waiting import wait_until

CONFIG = """
broker:
  url: {url}
control:
  socket: {socket}
logging:
  level: warning
topics:
  bench:
    handler: tests.bench.handlers:work
    concurrency: {concurrency}
    paused: true
"""

BODY = bytes(100)

#: How long the whole may take before it counts as stuck, seconds.
PATIENCE = 300.0


@dataclass(frozen=True)
class Result:
    """Times in seconds, memory in bytes."""

    jobs: int
    put: float
    done: float
    cpu: float
    memory: int

    def __str__(self) -> str:
        return (
            f"put:  {self.jobs / self.put:>8,.0f} jobs/s, confirmed\n"
            f"done: {self.jobs / self.done:>8,.0f} jobs/s, {self.cpu / self.jobs * 1e6:.1f} µs CPU a job, {self.memory / 2**20:.0f} MiB"
        )


def measure(jobs: int, concurrency: int, sleep: float) -> Result:
    """One run against a broker of its own."""
    with tempfile.TemporaryDirectory(prefix="hopd-bench-") as directory, PrivateNode() as node:
        node.wait_ready()
        put = _put(node.url, jobs)
        processes = Processes(Path(directory))
        try:
            socket = Path(directory, "hopd.sock")
            config = Path(directory, "hopd.yaml")
            config.write_text(CONFIG.format(url=node.url, socket=socket, concurrency=concurrency))
            daemon = processes.hopd("run", "-c", str(config), env={"HOPD_BENCH_SLEEP": str(sleep)})
            return _let_loose(daemon, ControlClient(str(socket)), jobs, put)
        finally:
            processes.end()


def _put(url: str, jobs: int) -> float:
    with WorkQueue(url) as queue:
        topic = queue.get_topic("bench")
        began = time.monotonic()
        topic.put_many(BODY for _ in range(jobs))
        return time.monotonic() - began


def _let_loose(daemon: Process, client: ControlClient, jobs: int, put: float) -> Result:
    wait_until(lambda: Path(client.path).exists() or not daemon.alive, 30, "the daemon starts")
    wait_until(lambda: client.call("status")["broker"]["state"] == "open", 30, "the daemon has a broker")
    cpu, began = daemon.cpu(), time.monotonic()
    client.call("resume", {"topics": ["bench"]})
    wait_until(lambda: client.call("status")["topics"]["bench"]["done"] >= jobs, PATIENCE, "all jobs are done")
    done = time.monotonic() - began
    return Result(jobs, put, done, daemon.cpu() - cpu, daemon.memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="how many jobs (default: 100000)")
    parser.add_argument("--concurrency", type=int, default=500, help="how many run at once (default: 500)")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds that each job sleeps (default: 0)")
    options = parser.parse_args()
    print(f"{options.jobs:,} jobs of {len(BODY)} bytes, {options.sleep * 1000:g} ms each, {options.concurrency:,} at once")
    print(measure(options.jobs, options.concurrency, options.sleep))


if __name__ == "__main__":
    main()
