"""A daemon that runs out of something: room for its log, readers of its streams, file descriptors."""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from hopd import Topic, WorkQueue
from tests.support.control_connection import ControlConnection
from tests.support.hopd_process import HopdProcess
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Process, Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

#: Seconds.
PATIENCE = 60.0

#: More lines than may wait for a stuck log (hopd.logs.MAX_WAITING), and than fit into a pipe.
FLOOD = 15_000

LINES = 50


class Bench(HopdProcess):
    """A daemon whose handler logs and prints `LINES` lines a job, or none, and opens no file. `redirect` is a shell's."""

    def __init__(self, queue: Topic, node: Node, redirect: str, *arguments: Any, **options: Any) -> None:
        self.queue = queue
        self._node = node
        self._redirect = redirect
        super().__init__(*arguments, **options)

    def _start(self) -> Process:
        hopd = (sys.executable, "-c", "from hopd.cli.hopd import main; main()", "run", "-c", str(self.path))
        return self._processes.start("sh", "-c", f'exec "$@" {self._redirect}', "sh", *hopd, env=self._env)

    def put(self, count: int, *, lines: int = 0) -> None:
        self.queue.put_many([{"lines": lines}] * count)

    def wait_done(self) -> None:
        """Wait until the broker has no job left, ready or under way."""

        def depth() -> tuple[int, int]:
            depth = self._node.list_queues()[self.queue.name]
            return depth.ready, depth.unsettled

        wait_until(lambda: depth() == (0, 0), PATIENCE, "all jobs are done")

    def flood(self) -> None:
        """Have far more logged than can wait, and wait until it is done."""
        self.put(FLOOD // LINES, lines=LINES)
        self.wait_done()
        assert self.topic(self.queue.name)["failed"] == 0

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait() == 0, self.process.describe()


Start = Callable[..., Bench]


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def start(tmp_path: Path, processes: Processes, proxy: Proxy, broker: Node, queue: WorkQueue, topic_name: str) -> Start:
    def start(redirect: str = "", **sections: Any) -> Bench:
        topics = {topic_name: {"handler": "tests.support.bad_handlers:chatter", "concurrency": 10}}
        url, exchange = proxy.through(broker.url), {"exchange": queue.exchange}
        topic = queue.get_topic(topic_name)
        daemon = Bench(topic, broker, redirect, processes, tmp_path, url, topics, broker=exchange, **sections)
        daemon.wait_consuming()
        return daemon

    return start


# --- the log ------------------------------------------------------------------------------------


def test_a_log_on_a_full_disk_stops_nothing(start: Start) -> None:
    # Given a log to which nothing can be written, on a disk that is full
    daemon = start(logging={"file": "/dev/full"})
    # When far more is logged than can wait, Then jobs go on, and the daemon leaves in order
    daemon.flood()
    daemon.stop()


def test_lines_for_which_there_was_no_room_are_counted_when_there_is_again(start: Start, tmp_path: Path) -> None:
    # Given a log that cannot grow
    log = tmp_path / "hopd.log"
    daemon = start(logging={"file": str(log)})
    daemon.put(1, lines=LINES)
    daemon.wait_done()
    wait_until(lambda: log.read_text().count("a line of the log") == LINES, PATIENCE, "it is written")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
    # When jobs log, Then they go on
    daemon.flood()
    assert log.read_text().count("a line of the log") == LINES
    # And when there is room again, the log says what it misses
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def told() -> bool:
        daemon.put(1, lines=1)
        return "event=log_failed count=" in log.read_text()

    wait_until(told, PATIENCE, "it tells")
    daemon.stop()
    assert "event=stopped" in log.read_text()


def test_a_log_that_nobody_reads_stops_nothing_and_tells_what_it_dropped(start: Start, tmp_path: Path) -> None:
    # Given a daemon whose standard output and error are one pipe, which somebody has opened and does not read
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    daemon = start(redirect=f">{pipe} 2>&1")
    # When jobs log and print far more than it holds, Then they go on, and the daemon can be steered
    daemon.flood()
    assert daemon.status()["broker"]["attempt"] == 0
    # And when it is read again, it tells how much is missing
    seen = b""

    def told() -> bool:
        nonlocal seen
        try:
            seen += os.read(reader, 1 << 20)
        except BlockingIOError:
            daemon.put(1, lines=1)
        return b"event=log_dropped count=" in seen

    wait_until(told, PATIENCE, "it tells")
    daemon.process.terminate()
    assert daemon.process.wait() == 0
    os.close(reader)


def test_a_log_that_nobody_reads_does_not_keep_the_daemon_from_leaving(start: Start, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    daemon = start(redirect=f">{pipe} 2>&1")
    daemon.flood()
    daemon.stop()
    os.close(reader)


def test_a_log_whose_reader_has_gone_stops_nothing(start: Start, tmp_path: Path) -> None:
    # Given a daemon whose standard output and error are a pipe
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    daemon = start(redirect=f">{pipe} 2>&1")
    # When its reader goes, Then jobs go on
    os.close(reader)
    daemon.flood()
    daemon.stop()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_daemon_that_is_started_with_closed_streams_works(start: Start, closed: str) -> None:
    # Given a daemon that was started with standard streams closed
    daemon = start(redirect=closed)
    # Then no connection has the number of one, and jobs may print
    for connection in psutil.Process(daemon.process.pid).net_connections("all"):
        assert connection.fd > 2
    daemon.flood()
    daemon.stop()


# --- file descriptors ---------------------------------------------------------------------------


def status(client: ControlConnection) -> dict[str, Any]:
    """What the daemon says over a connection that it has already."""
    result: dict[str, Any] = client.ask(cmd="status")["result"]
    return result


def leave_descriptors(daemon: HopdProcess, count: int) -> None:
    """Let the daemon open so many more and no more."""
    used = max(int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd"))
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (used + 1 + count, 4096))


def test_without_descriptors_accepting_pauses_and_jobs_go_on(start: Start) -> None:
    # Given a daemon that can open two more, and clients that take more than that
    daemon = start()
    with ExitStack() as clients:
        first = clients.enter_context(ControlConnection(daemon.socket))
        status(first)
        leave_descriptors(daemon, 2)
        for _ in range(10):
            clients.enter_context(ControlConnection(daemon.socket))
        daemon.process.wait_for("event=control_accept_failed")
        # Then jobs go on, and it spends no time on those that it cannot let in
        cpu, began = daemon.process.cpu(), status(first)["uptime"]
        daemon.put(200)
        daemon.wait_done()
        wait_until(lambda: status(first)["uptime"] >= began + 3, PATIENCE, "three seconds have passed")
        assert daemon.process.cpu() - cpu < 1.5
        assert daemon.process.stderr.count("control_accept_failed") == 1
    # And when they leave it hears hopctl again
    wait_until(lambda: daemon.states(), PATIENCE, "it answers")
    assert daemon.topic(daemon.queue.name)["done"] == 200
    daemon.stop()


def test_without_descriptors_a_lost_connection_is_tried_for_until_it_can_be_made(start: Start, proxy: Proxy) -> None:
    # Given a daemon that can open nothing more
    daemon = start()
    with ControlConnection(daemon.socket) as client:
        status(client)
        leave_descriptors(daemon, 0)
        with ExitStack() as fillers:
            # When its connection is lost, and others take the descriptor
            proxy.refuse()
            proxy.reset()
            for _ in range(5):
                fillers.enter_context(ControlConnection(daemon.socket))
            # Then it tells why there is none
            wait_until(lambda: os.strerror(errno.EMFILE) in str(status(client)["broker"]["reason"]), PATIENCE, "it tells")
            proxy.heal()
        # And has one when it can be made
        wait_until(lambda: status(client)["broker"]["state"] == "open", PATIENCE, "it is back")
    daemon.wait_consuming()
    daemon.put(10)
    daemon.wait_done()
    daemon.stop()
