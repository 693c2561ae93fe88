"""A real daemon whose jobs fail: attempts, delays and what a job tells in the end, over restarts and lost channels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hopd import Job, Topic, WorkQueue, names
from hopd.control.client import ControlClient
from tests.support.channels import break_channel
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Process, Processes
from tests.support.waiting import wait_until

HANDLERS = """
import json, os, time
import hopd

class Refused(Exception): pass
class Forbidden(Refused): pass

def note(job):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps({"attempt": job.attempt, "pid": os.getpid(), "at": time.time()}) + "\\n")

def fail(job):
    note(job)
    raise Refused(f"attempt {job.attempt} is refused")

def forbid(job):
    note(job)
    raise Forbidden

def decide(job):
    note(job)
    decision = {b"retry": hopd.Retry(0.1), b"bury": hopd.Bury("no such customer"), b"drop": hopd.Drop()}[job.body]
    if job.attempt == 1:
        raise decision

def wait(job):
    note(job)
    while True:
        time.sleep(60)
"""

CONFIG = """
broker: {{url: '{url}', exchange: {exchange}, connection_name: {exchange}, recovery_max: 1s}}
control: {{socket: hopd.sock}}
import_path: [.]
topics:
  {topic}: {options}
"""


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def daemons(tmp_path: Path, broker: Node, exchange_name: str, topic_name: str, processes: Processes) -> Daemons:
    (tmp_path / "jobs.py").write_text(HANDLERS)
    return Daemons(tmp_path, CONFIG.format(url=broker.url, exchange=exchange_name, topic=topic_name, options="{options}"), processes)


class Daemons:
    """Starts daemons with one topic, and knows what their handlers noted."""

    def __init__(self, directory: Path, config: str, processes: Processes) -> None:
        self._directory = directory
        self._config = config
        self._processes = processes

    def write_config(self, options: str) -> None:
        (self._directory / "hopd.yaml").write_text(self._config.replace("{options}", f"{{{options}}}"))

    def start(self, options: str, instance: str = "a") -> Process:
        """A daemon that consumes; `options` are the topic's."""
        self.write_config(options)
        daemon = self.hopd("run", "-c", "hopd.yaml", "--instance", instance)
        daemon.wait_for("Consuming")
        return daemon

    def hopd(self, *arguments: str) -> Process:
        return self._processes.hopd(*arguments, cwd=self._directory, env={"NOTES": str(self._directory / "notes")})

    def counters(self, topic: str, instance: str = "a") -> dict[str, Any]:
        """The topic's part of the status."""
        status = ControlClient(str(self._directory / f"hopd-{instance}.sock"), timeout=20.0).call("status")
        counters: dict[str, Any] = status["topics"][topic]
        return counters

    def notes(self) -> list[dict[str, Any]]:
        """What the handlers noted: attempt, pid, and at, in seconds since 1970."""
        notes = self._directory / "notes"
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    def attempts(self) -> list[int]:
        return [note["attempt"] for note in self.notes()]


def buried(queue: WorkQueue, topic: str) -> Job:
    return queue.topic(names.buried(topic)).pull(timeout=30)


def put(queue: WorkQueue, topic: str, body: bytes = b"x") -> Topic:
    target = queue.topic(topic)
    target.put(body)
    return target


def test_attempts_are_counted_over_a_restart_and_then_the_job_is_buried(
    daemons: Daemons, broker: Node, queue: WorkQueue, topic_name: str
) -> None:
    # Given a daemon whose handler has failed twice, so that the job waits for its third attempt in the broker
    options = "handler: 'jobs:fail', retry: {max_attempts: 3, backoff: [100ms, 5s], jitter: false}"
    first = daemons.start(options, "a")
    put(queue, topic_name)
    wait_until(lambda: len(daemons.notes()) == 2, 30)
    wait_until(lambda: daemons.counters(topic_name)["retried"] == 2, 30)
    wait_until(lambda: broker.list_queues()[topic_name].unsettled == 0, 30)

    # When the daemon is killed and another one takes its place
    first.kill()
    first.wait()
    second = daemons.start(options, "b")

    # Then it makes the third attempt, no sooner than it should, and buries the job
    job = buried(queue, topic_name)
    notes = daemons.notes()
    assert daemons.attempts() == [1, 2, 3]
    assert len({notes[0]["pid"], notes[1]["pid"]}) == 1
    assert notes[2]["pid"] != notes[0]["pid"]
    assert notes[1]["at"] - notes[0]["at"] >= 0.1
    assert notes[2]["at"] - notes[1]["at"] >= 5.0

    # And it tells all about it
    headers = job.headers
    assert headers[names.REASON] == "attempt 3 of 3 failed: Refused: attempt 3 is refused"
    assert (headers[names.ATTEMPTS], headers[names.TOPIC], headers[names.INSTANCE]) == (3, topic_name, "b")
    assert (headers[names.ERROR_TYPE], headers[names.ERROR_MESSAGE]) == ("jobs.Refused", "Refused: attempt 3 is refused")
    assert 'raise Refused(f"attempt {job.attempt} is refused")' in headers[names.ERROR_TRACEBACK]
    first_failed, buried_at = (datetime.fromisoformat(headers[key]) for key in (names.FIRST_FAILED_AT, names.BURIED_AT))
    assert notes[0]["at"] - 0.001 <= first_failed.timestamp() < notes[1]["at"]
    assert (buried_at - first_failed).total_seconds() >= 5.0

    # And the daemon leaves in order, with nothing left behind
    second.terminate()
    assert second.wait() == 0
    assert broker.list_queues()[topic_name].ready == 0


def test_an_error_that_never_passes_is_not_tried_again(daemons: Daemons, queue: WorkQueue, topic_name: str) -> None:
    daemons.start("handler: 'jobs:forbid', retry: {on: ['jobs:Refused'], never: ['jobs:Forbidden'], first: 100ms}")

    put(queue, topic_name)

    assert buried(queue, topic_name).headers[names.REASON] == "attempt 1 failed with an error that is not tried again: Forbidden"
    assert daemons.attempts() == [1]


def test_a_handler_decides_by_raising(daemons: Daemons, broker: Node, queue: WorkQueue, topic_name: str) -> None:
    daemons.start("handler: 'jobs:decide'")

    for body in (b"retry", b"bury", b"drop"):
        put(queue, topic_name, body)

    job = buried(queue, topic_name)
    assert (job.body, job.headers[names.REASON]) == (b"bury", "no such customer")
    wait_until(lambda: sorted(daemons.attempts()) == [1, 1, 1, 2], 30)
    seen = wait_until(lambda: (found := daemons.counters(topic_name))["done"] == 1 and found, 30)
    assert (seen["retried"], seen["buried"], seen["dropped"], seen["failed"]) == (1, 1, 1, 0)


def test_a_job_under_which_channels_die_is_buried_by_a_quorum_topics_limit(
    daemons: Daemons, broker: Node, queue: WorkQueue, topic_name: str, exchange_name: str
) -> None:
    # Given a daemon in which a job runs for ever
    daemons.start("handler: 'jobs:wait', queue_type: quorum, arguments: {x-delivery-limit: 2}")
    put(queue, topic_name)

    # When its channel dies under each attempt
    for attempt in (1, 2, 3):
        wait_until(lambda attempt=attempt: attempt in daemons.attempts(), 30)  # type: ignore[misc]
        assert break_channel(broker, f"{exchange_name}@a-consume")

    # Then the job is not lost, and the topic lives on
    assert buried(queue, topic_name).body == b"x"
    assert daemons.attempts() == [1, 2, 3]
    wait_until(lambda: daemons.counters(topic_name)["state"] == "consuming", 30)


@pytest.mark.parametrize("command", [("check", "hopd.yaml"), ("run", "-c", "hopd.yaml")])
def test_a_policy_that_names_no_exception_is_refused_with_its_line(daemons: Daemons, command: tuple[str, ...], topic_name: str) -> None:
    daemons.write_config("handler: 'jobs:fail', retry: {never: ['jobs:Refusd']}")

    refused = daemons.hopd(*command)

    assert refused.wait() == 78
    column = len(f"  {topic_name}: {{handler: 'jobs:fail', retry: {{never: [") + 1
    place = f"hopd.yaml:6:{column}: topics."
    assert place in refused.stderr
    assert "retry.never[0]: jobs:Refusd: jobs has no Refusd; did you mean Refused?" in refused.stderr
