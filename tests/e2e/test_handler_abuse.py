"""Handlers that take from their process what is not theirs: its signals, its streams, its descriptors, its very self (fork)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hopd import Topic, WorkQueue
from tests.support.hopd_process import HopdProcess
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: Seconds.
PATIENCE = 60.0


class Bench:
    """A daemon that was abused, and the way to see whether it still does what it is for."""

    def __init__(self, daemon: HopdProcess, topic: Topic, ledger: Ledger) -> None:
        self.daemon = daemon
        self.topic = topic
        self.ledger = ledger
        self.connected = len(self.connections())

    def connections(self) -> list[Any]:
        return psutil.Process(self.daemon.process.pid).net_connections("tcp")

    def abuse(self, **wish: Any) -> None:
        """Have it done, and wait until the job is over."""
        message_id = self.topic.put(wish)
        wait_until(lambda: message_id in self.ledger.handled(), PATIENCE, f"{wish} is done")

    def check(self) -> None:
        """Jobs run, hopctl is heard, and the connections are those that there were."""
        assert self.daemon.process.alive, self.daemon.process.describe()
        self.abuse()
        assert self.daemon.status()["broker"]["attempt"] == 0
        assert "broker_lost" not in self.daemon.process.stderr

    def stop(self) -> None:
        self.daemon.process.terminate()
        assert self.daemon.process.wait() == 0, self.daemon.process.describe()


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def start(tmp_path: Path, processes: Processes, broker: Node, queue: WorkQueue, topic_name: str, ledger: Ledger) -> Callable[..., Bench]:
    def start(**options: Any) -> Bench:
        topics = {topic_name: {"handler": "tests.support.bad_handlers:obey", "concurrency": 5, **options}}
        env, exchange = ledger.environment, {"exchange": queue.exchange}
        daemon = HopdProcess(processes, tmp_path, broker.url, topics, broker=exchange, env=env)
        return Bench(daemon.wait_consuming(), queue.get_topic(topic_name), ledger)

    return start


@pytest.fixture
def bench(start: Callable[..., Bench]) -> Bench:
    return start()


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ignore_signals", "default_signals", "own_signals", "asyncio_run"])
def test_a_handler_that_takes_the_signals_does_not_take_the_drain(bench: Bench, how: str) -> None:
    # Given a handler that has changed what SIGTERM does, and a job that runs
    bench.abuse(do=how)
    bench.check()
    message_id = bench.topic.put({"after": 0.5})
    wait_until(lambda: bench.daemon.topic(bench.topic.name)["running"] == 1, PATIENCE, "it runs")
    # When the daemon is asked to leave
    bench.daemon.process.terminate()
    # Then it lets the job finish, and leaves in order
    assert bench.daemon.process.wait() == 0
    assert message_id in bench.ledger.handled()


def test_signals_that_c_code_has_taken_are_back_within_seconds(bench: Bench) -> None:
    # Given C code that lets SIGTERM be ignored
    bench.abuse(do="ignore_signals_in_c")

    # When the daemon is asked to leave, now and then
    def asked() -> bool:
        bench.daemon.process.terminate()
        return "event=draining" in bench.daemon.process.stderr

    # Then it hears it
    wait_until(asked, 5.0, "it drains")


def test_a_handler_may_have_signals_that_are_not_hopds(bench: Bench) -> None:
    bench.abuse(do="count_usr1")
    bench.daemon.process.signal(signal.SIGUSR1)
    wait_until(lambda: "caught SIGUSR1" in bench.daemon.process.stderr, PATIENCE, "the job's own handler is called")
    bench.check()


# --- streams and descriptors --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close_stdout", "close_descriptors", "close_stderr"])
def test_a_handler_that_closes_standard_streams_closes_nothing_else(bench: Bench, how: str) -> None:
    # Given a handler that closed them, and others that print
    bench.abuse(do=how)
    bench.abuse(do="say_hello")
    # Then the daemon works, logs, and can be steered
    bench.check()
    bench.daemon.process.wait_for("Hello from a job")
    bench.stop()
    assert "event=stopped" in bench.daemon.process.stderr


def test_what_a_job_prints_is_in_the_log_with_its_name(bench: Bench) -> None:
    message_id = bench.topic.put({"do": "say_hello"})
    bench.daemon.process.wait_for(f"INFO    Hello from a job  event=printed stream=stdout topic={bench.topic.name} job={message_id}")


def test_descriptors_that_a_handler_leaks_are_not_inherited_by_its_children(bench: Bench) -> None:
    # Given a child process that a handler started and left behind
    bench.abuse(do="leave_a_child")
    child = psutil.Process(bench.daemon.process.pid).children()[0]
    # Then it holds none of the daemon's sockets
    assert child.net_connections("all") == []
    child.kill()


# --- fork ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fork", "fork_and_exit", "fork_and_return", "fork_and_raise", "fork_and_settle", "multiprocess", "run"])
def test_a_handler_that_forks_leaves_the_daemon_its_connections(bench: Bench, how: str) -> None:
    # Given other jobs in the middle of their work
    others = [bench.topic.put({"after": 0.5}) for _ in range(3)]
    wait_until(lambda: bench.daemon.topic(bench.topic.name)["running"] == 3, PATIENCE, "the others run")
    # When one forks, and its child waits, works, and ends in one way or another
    bench.abuse(do=how)
    wait_until(lambda: all(other in bench.ledger.handled() for other in others), PATIENCE, "the others are done")
    bench.check()
    # Then every job was run to its end once, by the daemon itself
    assert set(bench.ledger.handled().values()) == {1}
    assert bench.ledger.pids() == {bench.daemon.process.pid}
    # And no child is left, nor does one keep the daemon from leaving
    wait_until(lambda: not psutil.Process(bench.daemon.process.pid).children(), PATIENCE, "the child has ended")
    bench.stop()


def test_a_child_that_outlives_the_daemon_keeps_nothing_of_it(bench: Bench) -> None:
    # Given a forked child that goes on for as long as it likes
    bench.abuse(do="fork_for_long")
    child = psutil.Process(bench.daemon.process.pid).children()[0]
    # When the daemon is killed
    bench.daemon.process.kill()
    bench.daemon.process.wait()
    # Then its connection is closed and its socket is nobody's, so that the next one can begin
    bench.daemon.restart()
    bench.daemon.wait_consuming()
    assert child.is_running()
    bench.check()
    os.kill(child.pid, signal.SIGTERM)  # as multiprocessing's terminate() does
    wait_until(lambda: not child.is_running(), PATIENCE, "the child has ended")
