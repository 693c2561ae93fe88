"""Leaving: on every signal, in every state, within the time that was given, with nothing lost. Faults 23 and 24 of the design's table."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.support.daemon import Daemon, handler, put, wait_ready
from tests.support.node import Node
from tests.support.process import Process, Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

#: What leaving may take beyond the grace period when the broker does not answer: last words on channel and connection, and the
#: start of nothing else; and the same again, because the machine is busy. Seconds.
AT_ONCE = 15.0

#: Longer than any test waits: who leaves earlier has not waited for it.
FOR_EVER = "1h"

Start = Callable[..., Daemon]


@pytest.fixture
def start(processes: Processes, tmp_path: Path, broker: Node, topic_name: str) -> Start:
    def start(function: str = "hold", *, url: str = broker.url, grace: str = FOR_EVER, **options: Any) -> Daemon:
        topic = handler(function, **{"concurrency": 2, "prefetch": 5, **options})
        return Daemon(processes, tmp_path, url, {topic_name: topic}, shutdown={"grace": grace})

    return start


@pytest.fixture
def busy(start: Start, broker: Node, topic_name: str) -> Start:
    """A daemon with two running and three waiting jobs of ten."""

    def busy(**options: Any) -> Daemon:
        daemon = start(**options).wait_consuming()
        put(broker.url, daemon.ledger, topic_name, 10)
        daemon.wait_count(topic_name, "waiting", 3)
        return daemon

    return busy


def leaves(process: Process) -> int:
    """The exit code of a process that leaves at once."""
    return process.wait(AT_ONCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_idle_daemon_leaves_at_once_and_takes_its_socket_along(start: Start, number: signal.Signals) -> None:
    daemon = start().wait_consuming()

    assert daemon.leave(number, AT_ONCE) == 0
    assert not os.path.exists(daemon.socket)
    assert daemon.events("stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_daemon_that_still_imports_its_handlers_leaves_at_once(processes: Processes, tmp_path: Path, number: signal.Signals) -> None:
    """By an import, too, that catches everything."""
    (tmp_path / "slow.py").write_text("open('importing', 'w')\nimport time\ntry:\n    time.sleep(600)\nfinally:\n    time.sleep(600)\n")
    (tmp_path / "hopd.yaml").write_text(
        "broker: {url: 'amqp://127.0.0.1:9/'}\nimport_path: [.]\ncontrol: {socket: hopd.sock}\ntopics: {a: {handler: 'slow:run'}}\n"
    )
    daemon = processes.hopd("run", "-c", "hopd.yaml", cwd=tmp_path)
    wait_until((tmp_path / "importing").exists)

    daemon.signal(number)

    assert leaves(daemon) == 0


def test_a_busy_daemon_lets_running_jobs_finish_and_returns_the_others_unharmed(busy: Start, broker: Node, topic_name: str) -> None:
    daemon = busy()

    daemon.process.terminate()
    draining = daemon.wait_state(topic_name, "draining")
    daemon.wait_event("draining")
    daemon.open_gate()

    assert leaves(daemon.process) == 0
    assert draining["running"] == 2
    assert daemon.ledger.count() == 2
    wait_ready(broker, topic_name, 8)


def test_jobs_that_take_longer_than_the_grace_period_go_back(busy: Start, broker: Node, topic_name: str) -> None:
    daemon = busy(grace="200ms")

    assert daemon.leave(timeout=AT_ONCE) == 0

    assert daemon.ledger.count() == 0
    wait_ready(broker, topic_name, 10)


def test_a_handler_that_will_not_go_does_not_keep_the_daemon(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start("cling", grace="200ms").wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 10)
    daemon.wait_count(topic_name, "waiting", 3)

    assert daemon.leave(timeout=AT_ONCE) == 0
    wait_ready(broker, topic_name, 10)


def test_a_thread_that_a_handler_left_behind_does_not_keep_the_daemon(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start("leave_a_thread_behind").wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 1)
    daemon.wait_count(topic_name, "done", 1)

    assert daemon.leave(timeout=AT_ONCE) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_means_now(busy: Start, broker: Node, topic_name: str, second: signal.Signals) -> None:
    daemon = busy()
    daemon.process.terminate()
    daemon.wait_event("draining")

    assert daemon.leave(second, AT_ONCE) == 1

    assert daemon.ledger.count() == 0
    wait_ready(broker, topic_name, 10)


def test_a_signal_after_hopctl_shutdown_is_a_first_one(busy: Start, broker: Node, topic_name: str) -> None:
    """A service manager's TERM cuts an operator's long grace to its own; it does not cut off jobs that have that time."""
    daemon = busy(grace="200ms")
    daemon.hopctl("shutdown", "--grace", FOR_EVER)
    daemon.wait_event("draining")

    assert daemon.leave(timeout=AT_ONCE) == 0
    wait_ready(broker, topic_name, 10)


def test_shutdown_now_returns_running_jobs_at_once(busy: Start, broker: Node, topic_name: str) -> None:
    daemon = busy()

    daemon.hopctl("shutdown", "--now")

    assert leaves(daemon.process) == 0
    assert daemon.ledger.count() == 0
    wait_ready(broker, topic_name, 10)


def test_shutdown_with_a_grace_period_of_its_own_counts_that(busy: Start, broker: Node, topic_name: str) -> None:
    daemon = busy()

    daemon.hopctl("shutdown", "--grace", "200ms")

    assert leaves(daemon.process) == 0
    wait_ready(broker, topic_name, 10)


def test_topics_cannot_be_changed_any_more_while_the_daemon_leaves(busy: Start, topic_name: str, processes: Processes) -> None:
    daemon = busy()
    daemon.process.terminate()
    daemon.wait_event("draining")

    resume = processes.hopctl("-s", daemon.socket, "resume", topic_name, "--json")

    assert resume.wait() == 1
    assert "shutting_down" in resume.stdout + resume.stderr
    daemon.open_gate()
    assert leaves(daemon.process) == 0


def test_a_daemon_that_drains_leaves_when_its_running_jobs_have_finished(
    busy: Start, broker: Node, topic_name: str, processes: Processes
) -> None:
    daemon = busy()
    drain = processes.hopctl("-s", daemon.socket, "drain", topic_name)
    daemon.wait_state(topic_name, "paused")

    daemon.process.terminate()
    daemon.wait_event("draining")
    daemon.open_gate()

    assert leaves(daemon.process) == 0
    assert drain.wait() in (0, 1)  # it learns that the topic is drained, or that hopd has left
    assert daemon.ledger.count() == 2
    wait_ready(broker, topic_name, 8)


# --- while the broker is not there --------------------------------------------------------------------


def test_a_daemon_that_is_still_connecting_leaves_at_once(start: Start, broker: Node, proxy: Proxy) -> None:
    proxy.stay_silent()
    daemon = start(url=proxy.through(broker.url)).wait_up()

    assert daemon.leave(timeout=AT_ONCE) == 0


def test_a_daemon_whose_broker_is_down_leaves_at_once(start: Start, broker: Node, proxy: Proxy) -> None:
    proxy.refuse()
    daemon = start(url=proxy.through(broker.url)).wait_up()
    daemon.wait_broker("recovering")

    assert daemon.leave(timeout=AT_ONCE) == 0


def test_jobs_that_run_when_the_broker_goes_down_have_the_grace_period(busy: Start, broker: Node, proxy: Proxy) -> None:
    daemon = busy(url=proxy.through(broker.url))
    proxy.refuse()
    proxy.reset()
    daemon.wait_broker("recovering")

    daemon.process.terminate()
    daemon.wait_event("draining")
    daemon.open_gate()

    assert leaves(daemon.process) == 0
    assert daemon.ledger.count() == 2


def test_a_daemon_whose_broker_is_frozen_leaves_soon(start: Start, broker: Node, proxy: Proxy, topic_name: str) -> None:
    # Given a broker that does not answer any more, and a question it was asked
    daemon = start("record", url=proxy.through(broker.url), paused=True).wait_up()
    daemon.wait_broker("open")
    wait_ready(broker, topic_name, 0)
    proxy.black_hole()
    daemon.hopctl("resume", topic_name)
    began = monotonic()

    assert daemon.leave(timeout=AT_ONCE) == 0
    assert monotonic() - began < AT_ONCE
