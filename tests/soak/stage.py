"""Where the soak happens: one broker, daemons and producers behind proxies, the ledger, and what is known about all of them."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from types import TracebackType

from hopd import Topic, WorkQueue, names
from tests.soak import load, topics
from tests.soak.daemons import BROKER, Daemon, Keeper
from tests.soak.load import Load
from tests.soak.schedule import ALL
from tests.soak.verdict import Evidence
from tests.soak.watch import Watch
from tests.support.broker import START_TIMEOUT, node_of
from tests.support.ledger import Ledger
from tests.support.process import Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

#: How long after the last fault everything must be done. Seconds.
DRAIN_TIMEOUT = 120.0

#: Longer than any job waits in a retry queue. RabbitMQ 3.10 that was killed counts nothing in such a queue until its first message is due,
#: so that all has to look empty for this long. Seconds.
EMPTY_FOR = load.DELAYS[1] + 1.0

#: A buried job arrives at once: the node has nothing else to do by then. Seconds.
PULL_TIMEOUT = 5.0


class Stage:
    """Builds everything, and at the end heals it, drains it and counts. Use as a context manager."""

    def __init__(self, directory: Path, daemons: int, rate: float, broker: str) -> None:
        self.troubles: list[str] = []
        self._empty_since = 0.0  # monotonic seconds
        self.ledger = Ledger(directory / "ledger")
        self._closing = ExitStack()
        self.node = self._closing.enter_context(node_of(broker))
        self.processes = Processes(directory)
        self.outage = directory / "outage"
        self._config, self._control = directory / "soak.yaml", str(directory / "hopd.sock")
        self.configure()
        environment = {**self.ledger.environment, topics.OUTAGE: str(self.outage)}
        self.daemons = [Daemon(number, self.processes, self._config, self._control, self.node, environment) for number in range(daemons)]
        self.keeper = Keeper(self.daemons, self.troubles.append)
        self.watch = Watch(self.ledger.path, self.daemon_of)
        self.network = Proxy(self.node.port)
        self.load = Load(self.network.through(self.node.url), self.ledger, rate, self.troubles.append)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.keeper.rest()
        self.processes.end()
        self.keeper.close()
        self.watch.close()
        for proxy in (self.network, *(daemon.proxy for daemon in self.daemons)):
            proxy.close()
        self._closing.close()

    def configure(self, halved: str = "") -> None:
        """Write the config, in one step as a good editor does; in it the topic `halved` has half its concurrency."""
        written = self._config.with_suffix(".new")
        written.write_text(topics.config(f"${{{BROKER}}}", self._control, halved))
        written.replace(self._config)

    def hit(self, target: int) -> list[Daemon]:
        """The daemons that a fault hits."""
        return self.daemons if target == ALL else [self.daemons[target]]

    def daemon_of(self, pid: int) -> int | None:
        """The number of the daemon whose process that is."""
        return next((daemon.number for daemon in self.daemons if daemon.process.pid == pid), None)

    def check_exit(self, daemon: Daemon, code: int) -> None:
        """A daemon that was asked to leave must do so with 0, unless a poisonous job that it still ran was faster."""
        if code == topics.POISONED:
            self.keeper.poisoned.append(monotonic())
        elif code != 0:
            self.troubles.append(f"daemon {daemon.number} was asked to leave and did so with {code}: {daemon.process.describe()}")

    def begin(self) -> None:
        """Load, and the daemons at work."""
        self.load.start()
        self.watch.expect(range(len(self.daemons)))
        wait_until(self.watch.settled, START_TIMEOUT, "every daemon handles jobs")

    def end(self, bound: int) -> Evidence:
        """Stop the load, let the daemons finish, and count."""
        self._drain()
        self.keeper.rest()
        self._stop_daemons()
        queues = self.node.list_queues()
        return Evidence(
            frozenset(self.ledger.attempted),
            frozenset(self.ledger.confirmed),
            self.ledger.handled(),
            self._buried(),
            queues,
            bound,
            tuple(self.troubles),
        )

    def _drain(self) -> None:
        try:
            wait_until(self.watch.settled, DRAIN_TIMEOUT, "every daemon consumes again")
            self.load.stop()
            self._empty_since = monotonic()
            wait_until(self._stays_empty, DRAIN_TIMEOUT, "the topics are empty")
        except AssertionError as late:
            self.troubles.append(str(late))

    def _stays_empty(self) -> bool:
        if not self._empty():
            self._empty_since = monotonic()
        return monotonic() - self._empty_since > EMPTY_FOR

    def _empty(self) -> bool:
        queues = self.node.list_queues()
        return not any(depth.unsettled or (depth.ready and not _is_grave(name)) for name, depth in queues.items())

    def _stop_daemons(self) -> None:
        for daemon in self.daemons:
            self.check_exit(daemon, daemon.stop())

    def _buried(self) -> Counter[str]:
        found: Counter[str] = Counter()
        with WorkQueue(self.node.url, name="soak-count") as queue:
            for name, depth in self.node.list_queues().items():
                if _is_grave(name):
                    found.update(_taken(queue.topic(name), depth.ready))
        return found


def _is_grave(name: str) -> bool:
    return name.endswith(names.buried(""))


def _taken(topic: Topic, count: int) -> list[str]:
    """The ids of the `count` messages in a queue; they are taken out."""
    ids = []
    for _ in range(count):
        job = topic.pull(PULL_TIMEOUT)
        ids.append(job.message_id or "")
        job.done()
    return ids
