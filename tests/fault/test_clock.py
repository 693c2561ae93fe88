"""The wall clock jumps, a day ahead and a day back, and nobody notices."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, handler, put, put_on, wait_empty
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.process import ROOT, Process, Processes
from tests.support.stamp import stamped
from tests.support.waiting import wait_until

DAY = 86_400

#: Names the file that holds by how many seconds the daemon's wall clock is wrong.
CLOCK = "HOPD_TEST_CLOCK"

#: `hopd` with a clock that can be set. hopd tells what time it is only when it writes something down for people or other machines,
#: and asks Python's `time.time` for it wherever anything depends on the answer.
RUN = f"""
import os, time
from pathlib import Path
right, wrong = time.time, Path(os.environ[{CLOCK!r}])
time.time = lambda: right() + float(wrong.read_text())
from hopd.cli.hopd import main
main()
"""

#: Who may look at the wall clock, and what for. Everything that waits or measures goes by the monotonic one.
MAY_LOOK = {
    "demo/picture.py",
    "broker/clock.py",  # messages expire in time also over a restart; when it is set back it stands still
    "control/arguments.py",  # whether the moment that hopctl put names lies within what a job can wait
    "delay.py",  # when delayed jobs are due, which travels from machine to machine; a wrong clock makes none wait longer
    "message.py",
    "topic.py",
    "engine/executor.py",
    "engine/suspects.py",  # how old a note of an earlier process is
    "engine/daemon.py",  # since when it runs, for people
    "failure.py",  # when a job failed first, for people
    "logs.py",  # the time of a line
}


class DaemonWithAClock(Daemon):
    """A daemon whose wall clock is `clock` seconds wrong."""

    def _start(self) -> Process:
        self.set_clock(0)
        env = {**self._env, CLOCK: str(self.path.parent / "clock")}
        return self._processes.python("-c", RUN, "run", "-c", str(self.path), env=env)

    def set_clock(self, wrong: float) -> None:
        """From now on it is wrong by so many seconds."""
        new = self.path.parent / "clock.new"
        new.write_text(str(wrong))
        new.rename(self.path.parent / "clock")


@pytest.fixture
def daemon(processes: Processes, tmp_path: Path, broker: NodeControl, topic_name: str) -> DaemonWithAClock:
    topics = {
        topic_name: handler("record"),
        f"{topic_name}.held": handler("hold", timeout="60s"),
        f"{topic_name}.again": {"handler": "tests.fault.handlers:again", "retry": {"max_attempts": 2, "first": "500ms", "jitter": False}},
    }
    daemon = DaemonWithAClock(processes, tmp_path, broker.url, topics, broker={"heartbeat": 2}, watchdog={"exit_after": "10s"})
    daemon.wait_consuming()
    return daemon


@pytest.mark.parametrize("jumps", [(DAY, 0), (-DAY, 0)], ids=["ahead and back", "back and ahead"])
def test_a_clock_that_jumps_disturbs_neither_jobs_nor_connections(
    daemon: DaemonWithAClock, broker: NodeControl, topic_name: str, jumps: tuple[float, float]
) -> None:
    # Given a job that runs, one that waits for another attempt, and one that waits for its time
    held, again = f"{topic_name}.held", f"{topic_name}.again"
    with work_queue(broker.url) as queue:
        put_on(queue, daemon.ledger, held, 1)
        daemon.wait_count(held, "running", 1)
        put_on(queue, daemon.ledger, again, 1)
        daemon.wait_count(again, "retried", 1)
        delayed = stamped("delayed")
        daemon.ledger.attempt(delayed)
        queue.get_topic(topic_name).put(b"", message_id=delayed, delay=2.2)
        daemon.ledger.confirm(delayed)

    # When the clock jumps, and jumps again
    for wrong in jumps:
        daemon.set_clock(wrong)
        done = daemon.topic(topic_name)["done"]
        put(broker.url, daemon.ledger, topic_name, 20)
        daemon.wait_count(topic_name, "done", done + 20)

    # Then everything goes on as if nothing had happened
    wait_until(lambda: len(daemon.ledger.lost()) == 1, 60, "all jobs but the one that is held are done")
    daemon.open_gate()
    wait_empty(broker, topic_name, held, again)
    status = daemon.status()
    assert daemon.ledger.lost() == set()
    assert (status["topics"][held]["failed"], status["broker"]["attempt"]) == (0, 0)
    assert 0 < status["uptime"] < DAY / 2
    assert not daemon.events("broker_lost")
    assert daemon.leave() == 0


def looks_at_the_wall_clock(tree: ast.AST) -> bool:
    nodes = list(ast.walk(tree))
    imported = {name.name for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "time" for name in node.names}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    used = {(node.value.id, node.attr) for node in attributes if isinstance(node.value, ast.Name)}
    return "time" in imported or bool(used & {("time", "time"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")})


def test_only_those_look_at_the_wall_clock_who_write_it_down() -> None:
    package = ROOT / "hopd"
    looking = {str(path.relative_to(package)) for path in package.rglob("*.py") if looks_at_the_wall_clock(ast.parse(path.read_text()))}

    assert looking <= MAY_LOOK
