"""What the daemon promises when nothing goes wrong: handlers of every kind, steering, its log and its socket."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from time import time
from typing import Any

import pytest

from tests.support.channels import channel_pids
from tests.support.daemon import PATIENCE, Daemon, handler, put, wait_empty, wait_ready
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

Start = Callable[..., Daemon]


@pytest.fixture
def start(processes: Processes, tmp_path: Path, broker: Node) -> Start:
    def start(topics: dict[str, Any], **options: Any) -> Daemon:
        return Daemon(processes, tmp_path, broker.url, topics, **options)

    return start


def test_a_handler_of_any_kind_gets_every_job(start: Start, broker: Node, topic_name: str) -> None:
    kinds = ["record", "Recorder", "RECORDER", "RECORDER.handle"]  # function, class, object, method
    topics = {f"{topic_name}.{number}": handler(kind) for number, kind in enumerate(kinds)}
    daemon = start(topics).wait_consuming()

    for topic in topics:
        put(broker.url, daemon.ledger, topic, 50)
        daemon.wait_count(topic, "done", 50)

    assert daemon.leave() == 0
    assert (daemon.ledger.lost(), daemon.ledger.duplicates()) == (set(), 0)
    wait_empty(broker, *topics)


def test_what_a_daemon_has_once_its_topics_run_is_not_looked_through_for_garbage(
    start: Start, broker: Node, topic_name: str, tmp_path: Path
) -> None:
    # Given a handler that tells how many objects the collector leaves alone
    frozen = tmp_path / "frozen"
    (tmp_path / "telling.py").write_text(f"import gc\ndef tell(job): open({str(frozen)!r}, 'w').write(str(gc.get_freeze_count()))\n")
    daemon = start({topic_name: {"handler": "telling:tell"}}, import_path=["."]).wait_consuming()

    def told() -> int:
        daemon.hopctl("put", topic_name, "tell")
        return int(frozen.read_text() or 0) if frozen.exists() else 0

    # Then soon it is nearly everything there is
    assert wait_until(told, PATIENCE, "the objects are left alone") > 10_000


def test_an_operator_can_put_jobs_that_are_due_later(start: Start, topic_name: str) -> None:
    daemon = start({topic_name: handler("record")}).wait_consuming()
    before = time()
    at = datetime.fromtimestamp(before + 1.2, timezone.utc).isoformat()

    for due in (["--delay", "1200ms"], ["--at", at]):
        daemon.ledger.confirm(json.loads(daemon.hopctl("put", topic_name, "later", "--json", *due))["message_id"])

    daemon.wait_count(topic_name, "done", 2)
    assert time() - before >= 1.2
    assert (daemon.ledger.lost(), daemon.ledger.duplicates()) == (set(), 0)


def test_a_day_in_the_life_of_a_topic(start: Start, broker: Node, topic_name: str) -> None:
    """Paused in the config, put to, resumed, paused with jobs running and waiting, resumed, drained, and left: all by hopctl."""
    daemon = start({topic_name: handler("hold", concurrency=3, prefetch=10, paused=True)}).wait_up()
    wait_ready(broker, topic_name, 0)

    # Nothing is taken of a topic that starts paused
    put_one = json.loads(daemon.hopctl("put", topic_name, "hello", "--json"))
    daemon.ledger.confirm(put_one["message_id"])
    put(broker.url, daemon.ledger, topic_name, 19)
    wait_ready(broker, topic_name, 20)
    assert daemon.topic(topic_name)["state"] == "paused"

    # Resumed, it takes as many as prefetch allows and runs as many as concurrency
    daemon.hopctl("resume", topic_name)
    daemon.wait_count(topic_name, "waiting", 7)
    assert daemon.topic(topic_name)["running"] == 3

    # Paused, the running ones stay and the waiting ones go back
    daemon.hopctl("pause", topic_name)
    paused = daemon.topic(topic_name)
    assert (paused["state"], paused["running"], paused["waiting"]) == ("paused", 3, 0)
    depth = broker.list_queues()[topic_name]
    assert (depth.ready, depth.unsettled, depth.consumers) == (17, 3, 0)

    # Drained, they have finished
    daemon.open_gate()
    daemon.hopctl("drain", topic_name)
    drained = daemon.topic(topic_name)
    assert (drained["state"], drained["running"], drained["done"]) == ("paused", 0, 3)
    wait_ready(broker, topic_name, 17)

    # Resumed, the rest follows, and nobody was harmed
    daemon.hopctl("resume", "--all")
    status = daemon.wait_count(topic_name, "done", 20)
    counters = {name: status[name] for name in ("failed", "requeued", "buried", "dropped", "lost")}
    assert counters == dict.fromkeys(counters, 0)
    daemon.hopctl("shutdown")
    assert daemon.process.wait() == 0
    assert (daemon.ledger.lost(), daemon.ledger.duplicates()) == (set(), 0)
    assert not os.path.exists(daemon.socket)


def test_a_drain_that_takes_too_long_says_what_still_runs(start: Start, broker: Node, topic_name: str, processes: Processes) -> None:
    daemon = start({topic_name: handler("hold", concurrency=2)}).wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 5)
    daemon.wait_count(topic_name, "running", 2)

    drain = processes.hopctl("-s", daemon.socket, "drain", topic_name, "--timeout", "100ms")

    assert drain.wait() == 4
    assert "2 of" in drain.stderr
    wait_state = daemon.topic(topic_name)
    assert (wait_state["state"], wait_state["running"]) == ("paused", 2)
    daemon.open_gate()
    daemon.wait_count(topic_name, "done", 2)


def test_a_second_daemon_on_the_same_socket_is_refused_and_the_first_lives_on(
    start: Start, broker: Node, topic_name: str, processes: Processes
) -> None:
    daemon = start({topic_name: handler("record")}).wait_consuming()

    second = processes.hopd("run", "-c", str(daemon.path))

    assert second.wait() == 73
    assert daemon.socket in second.stderr
    put(broker.url, daemon.ledger, topic_name, 1)
    daemon.wait_count(topic_name, "done", 1)


def test_two_instances_of_one_config_share_the_jobs(start: Start, broker: Node, topic_name: str, processes: Processes) -> None:
    daemon = start({topic_name: handler("nap", concurrency=1)}, broker={"connection_name": topic_name}).wait_consuming()
    environment = daemon.ledger.environment
    second = processes.hopd("run", "-c", str(daemon.path), "--instance", "02", env=environment)
    other = daemon.socket.replace("hopd.sock", "hopd-02.sock")
    second.wait_for("topic_consuming")

    assert channel_pids(broker, f"{topic_name}@02-consume")

    put(broker.url, daemon.ledger, topic_name, 100)
    wait_empty(broker, topic_name)

    assert daemon.ledger.pids() == {daemon.process.pid, second.pid}
    assert (daemon.ledger.lost(), daemon.ledger.duplicates()) == (set(), 0)
    assert os.path.exists(other)
    second.terminate()
    assert second.wait() == 0


def test_every_line_of_a_json_log_is_json_and_a_failure_names_its_job(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start({topic_name: handler("misbehave")}).wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 1, b"Exception")
    daemon.wait_count(topic_name, "buried", 1)
    assert daemon.leave() == 0

    lines = [json.loads(line) for line in daemon.process.stderr.splitlines()]
    words = [line["event"] for line in lines]
    failed = next(line for line in lines if line["event"] == "job_failed")
    assert words[-1] == "stopped"
    assert {"started", "broker_connected", "topic_consuming", "job_failed", "topic_stopped"} <= set(words)
    assert (failed["topic"], failed["job"], failed["attempt"], failed["outcome"]) == (topic_name, f"{topic_name}-0", 1, "buried")
    assert "ValueError: no such user" in failed["traceback"]


def fill(pipe: int) -> None:
    while True:
        os.write(pipe, b"x" * 1000)


def test_a_log_whose_reader_has_stopped_stops_nothing(start: Start, broker: Node, topic_name: str, tmp_path: Path) -> None:
    # Given a pipe that is full to the brim before the daemon's first line
    file = str(tmp_path / "pipe")
    os.mkfifo(file)
    pipe = os.open(file, os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        fill(pipe)
    daemon = start({topic_name: handler("misbehave")}, logging={"file": file, "level": "debug"}).wait_consuming()

    # When every job has something to log
    put(broker.url, daemon.ledger, topic_name, 200, b"Exception")
    daemon.wait_count(topic_name, "buried", 200)

    # Then it is steered and leaves as ever
    assert daemon.leave() == 0
    assert daemon.ledger.lost() == set()
    os.close(pipe)
