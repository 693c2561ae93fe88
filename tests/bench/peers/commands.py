"""How the peers are started, how their queues are filled, and why one may be missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.order import Order
from tests.bench.raw import RawChannel
from tests.bench.stage import PATIENCE, Stage
from tests.support.process import ROOT, Process

#: Their environment; `make bench` makes it.
PYTHON = ROOT / ".venv-bench" / "bin" / "python"

#: The packages of each, for the versions in the report.
PACKAGES: Mapping[str, str] = {"pika": "pika", "pyamqp": "amqp", "aiopika": "aio-pika", "dramatiq": "dramatiq", "celery": "celery"}

#: Where Debian puts the sources of Go libraries.
GOPATH = Path("/usr/share/gocode")
STREADWAY = GOPATH / "src" / "github.com" / "streadway" / "amqp"
GO_PACKAGES = ("golang-go", "golang-github-streadway-amqp-dev")

#: Those that are written in Go.
GO = ("go", "go-get")


def absent() -> dict[str, str]:
    """Who cannot compete on this machine, and why."""
    missing = {} if PYTHON.exists() else dict.fromkeys(PACKAGES, "`make bench` installs it")
    if not (shutil.which("go") and STREADWAY.exists()):
        missing |= dict.fromkeys(GO, f"Debian's {' and '.join(GO_PACKAGES)} are not installed")
    return missing


def versions() -> dict[str, str]:
    """The versions of those that can."""
    missing, found = absent(), {}
    if "pika" not in missing:
        code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
        numbers = _output(str(PYTHON), "-c", code, *PACKAGES.values()).split()
        found = dict(zip(PACKAGES.values(), numbers, strict=True))
    if "go" not in missing:
        found["Go"] = _output("go", "version").split()[2].removeprefix("go")
        found["streadway/amqp"] = _output("dpkg-query", "--show", "--showformat", "${Version}", GO_PACKAGES[1])
    return found


def script(module: str, stage: Stage, order: Order) -> Process:
    """A program of `peers`."""
    return stage.processes.start(str(PYTHON), "-m", f"tests.bench.peers.{module}", env=order.environment())


def pika_blocking(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    return script("pika_blocking", stage, order)


def pyamqp(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    return script("pyamqp", stage, order)


def aiopika(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    return script("aiopika", stage, order)


def dramatiq(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    greenlets = ("--processes", "1", "--threads", str(order.concurrency))
    command = str(PYTHON.with_name("dramatiq-gevent"))
    return stage.processes.start(command, *greenlets, "tests.bench.peers.dramatiq_app", env=order.environment())


def celery(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    # Without what workers tell each other all the time.
    alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    pool = ("-P", "gevent", "-c", str(order.concurrency), "-l", "WARNING")
    command = (str(PYTHON), "-m", "celery", "-A", "tests.bench.peers.celery_app", "worker")
    return stage.processes.start(*command, *pool, *alone, env=order.environment())


def fill_with(module: str, stage: Stage, order: Order, queues: Sequence[str], _size: int) -> None:
    """Have the peer put its own jobs, whose form only it knows."""
    with RawChannel(order.url) as channel:
        for queue in queues:
            channel.delete(queue)
    process = script(module, stage, order)
    if process.wait(PATIENCE) != 0:
        raise RuntimeError(f"the jobs could not be put: {process.describe()}")


def fill_dramatiq(stage: Stage, order: Order, queues: Sequence[str], size: int) -> None:
    fill_with("dramatiq_app", stage, order, queues, size)


def fill_celery(stage: Stage, order: Order, queues: Sequence[str], size: int) -> None:
    fill_with("celery_app", stage, order, queues, size)


def go(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    return stage.processes.start(str(_build(stage.directory)), env=order.environment())


def go_get(stage: Stage, order: Order, _queues: Sequence[str]) -> Process:
    return stage.processes.start(str(_build(stage.directory)), "pull", env=order.environment())


def _build(directory: Path) -> Path:
    """The Go program, built once for each bench, with nothing from the network."""
    program = directory / "go-peer"
    if not program.exists():
        offline = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": "", "GOCACHE": str(directory / "go-cache")}
        source = Path(__file__).with_name("go")
        subprocess.run(["go", "build", "-o", str(program), "."], cwd=source, env={**os.environ, **offline}, check=True)
    return program


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
