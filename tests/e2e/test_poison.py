"""Jobs that kill the daemon's process: found, buried, and nobody else suffers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hopd import Message, Topic, WorkQueue, names
from tests.support.hopd_process import HopdProcess
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

HANDLER = "tests.support.bad_handlers:obey"

#: A crash, a restart and a look at the broker take half a second on an idle machine. Seconds.
PATIENCE = 120.0


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


class Supervised:
    """A daemon that is started again whenever it has died, as a service manager would."""

    def __init__(self, daemon: HopdProcess) -> None:
        self.daemon = daemon
        self.deaths = 0

    def until(self, condition: Callable[[], object], why: str) -> None:
        """Look after it until `condition` holds."""

        def tended() -> object:
            self.tend()
            return condition()

        wait_until(tended, PATIENCE, why)

    def tend(self) -> None:
        """Start it again if it has died."""
        # By the test's own thread: the system ends a process of ours when the thread that started it ends.
        if not self.daemon.process.alive:
            self.deaths += 1
            self.daemon.restart()

    def stop(self) -> int:
        """Have it leave in order; returns the exit code. One that has only just been started would die of the signal instead."""
        self.daemon.wait_consuming()
        self.daemon.process.terminate()
        return self.daemon.process.wait()


class Place:
    """Starts daemons, in directories of their own, that consume one topic of one exchange."""

    def __init__(self, directory: Path, processes: Processes, broker: Node, exchange: str, topic: str, ledger: Ledger) -> None:
        self.directory = directory
        self._processes = processes
        self._url = broker.url
        self._exchange = exchange
        self._topic = topic
        self._ledger = ledger

    def start(self, name: str = "one", state_directory: str | None = None, **options: Any) -> Supervised:
        directory = self.directory / name
        directory.mkdir()
        topics = {self._topic: {"handler": HANDLER, **options}}
        sections = {} if state_directory is None else {"state_directory": state_directory}
        env, exchange = self._ledger.environment, {"exchange": self._exchange}
        daemon = HopdProcess(self._processes, directory, self._url, topics, broker=exchange, env=env, **sections)
        return Supervised(daemon)


@pytest.fixture
def place(tmp_path: Path, processes: Processes, broker: Node, exchange_name: str, topic_name: str, ledger: Ledger) -> Place:
    return Place(tmp_path, processes, broker, exchange_name, topic_name, ledger)


def put(topic: Topic, ledger: Ledger, count: int, **killers: str) -> None:
    """Put `count` healthy jobs with the killers among them."""
    ids = [f"healthy-{number}" for number in range(count)]
    messages = [Message({}, message_id=message_id) for message_id in ids]
    for number, (name, how) in enumerate(killers.items()):
        messages.insert(count * (number + 1) // (len(killers) + 1), Message({"do": how}, message_id=name))
    topic.put_many(messages)
    ledger.confirm(*ids)


def dig_up(queue: WorkQueue, topic: str) -> dict[str, dict[str, Any]]:
    """The headers of the buried jobs by message id; they are buried no more."""
    grave = queue.get_topic(names.buried(topic))
    jobs = [grave.pull(timeout=5) for _ in range(grave.ready())]
    for job in jobs:
        job.done()
    return {job.message_id or "": dict(job.headers) for job in jobs}


def test_killers_among_thousands_of_healthy_jobs_are_buried_and_all_others_done(
    place: Place, queue: WorkQueue, topic_name: str, ledger: Ledger
) -> None:
    # Given three killers among 3,000 healthy jobs
    put(queue.get_topic(topic_name), ledger, 3000, segfaulting="segfault", leaving="leave", hungry="run_out_of_memory")
    topic = queue.get_topic(topic_name)
    # When a daemon that is started again whenever it dies has worked on them
    supervised = place.start(concurrency=20, max_crashes=2)
    # One killer may end the process between another's being buried and its ack: then that one is buried twice.
    supervised.until(lambda: len({job.id for job in topic.buried()}) == 3 and not ledger.lost(), "the killers are buried, the others done")
    # Then the killers, and only they, are buried
    found = dig_up(queue, topic_name)
    assert set(found) == {"segfaulting", "leaving", "hungry"}
    for headers in found.values():
        assert headers[names.REASON] == "the process died 2 times while this job ran"
        assert headers[names.CRASHES] == 2
        assert headers[names.ATTEMPTS] == 1
    # And nothing is left, nothing ran that was not put, and the daemon has died no more often than it takes: once for each killer
    # among ordinary jobs, once among other suspects, and then alone
    assert topic.ready() == 0
    assert not ledger.unexpected()
    assert supervised.deaths <= 3 * (1 + 1 + 2)
    assert supervised.stop() == 0


def test_a_killer_in_a_quorum_topic_is_found_too(place: Place, queue: WorkQueue, topic_name: str, ledger: Ledger) -> None:
    # Given a killer in a topic whose queue gives back what a dead process had in its own order
    topic = queue.topic(topic_name, queue_type="quorum")
    topic.declare()
    put(topic, ledger, 300, killer="segfault")
    grave = queue.topic(names.buried(topic_name), queue_type="quorum")
    grave.declare()
    # When a daemon that is started again whenever it dies has worked on it
    supervised = place.start(concurrency=5, max_crashes=2, queue_type="quorum")
    supervised.until(lambda: grave.ready() == 1 and not ledger.lost(), "the killer is buried and the others done")
    # Then it, and only it, is buried
    assert set(dig_up(queue, topic_name)) == {"killer"}
    assert supervised.deaths <= 1 + 1 + 2


def test_two_daemons_that_share_a_killer_both_survive_it(place: Place, queue: WorkQueue, topic_name: str, ledger: Ledger) -> None:
    # Given two daemons on one topic, and a killer among healthy jobs
    daemons = [place.start(name, concurrency=5, max_crashes=2) for name in ("one", "two")]
    put(queue.get_topic(topic_name), ledger, 500, killer="leave")
    grave = queue.get_topic(names.buried(topic_name))

    def over() -> bool:
        for daemon in daemons:
            daemon.tend()
        return grave.ready() > 0 and not ledger.lost()

    wait_until(over, PATIENCE, "the killer is buried and the others done")
    # Then the killer, and only it, is buried, and each daemon has died of it no more often than it takes one
    assert set(dig_up(queue, topic_name)) == {"killer"}
    assert all(daemon.deaths <= 1 + 1 + 2 for daemon in daemons)
    assert [daemon.stop() for daemon in daemons] == [0, 0]


def test_jobs_that_come_back_to_a_daemon_that_did_not_die_are_no_suspects(
    place: Place, queue: WorkQueue, topic_name: str, ledger: Ledger
) -> None:
    # Given a daemon that runs, and another whose jobs take long
    survivor = place.start("survivor", concurrency=50)
    survivor.daemon.wait_consuming()
    survivor.daemon.control.call("pause", {"topics": [topic_name]})
    victim = place.start("victim", concurrency=50)
    topic = queue.get_topic(topic_name)
    topic.put_many([Message({"after": 1.0}, message_id=f"{number}") for number in range(50)])
    wait_until(lambda: victim.daemon.states() and victim.daemon.topic(topic_name)["running"] == 50, PATIENCE, "all run")
    # When the other is killed
    victim.daemon.process.kill()
    victim.daemon.process.wait()
    survivor.daemon.control.call("resume", {"topics": [topic_name]})
    # Then the first runs them all at once
    wait_until(lambda: survivor.daemon.topic(topic_name)["running"] == 50, PATIENCE, "all run again")
    assert survivor.daemon.topic(topic_name)["redelivered"] == 50
    assert survivor.daemon.topic(topic_name)["suspects"] == 0


def test_suspects_that_take_long_start_one_after_the_other_and_the_hunt_ends_by_itself(
    place: Place, queue: WorkQueue, topic_name: str, ledger: Ledger
) -> None:
    # Given a daemon that was killed in the middle of ten jobs
    victim = place.start(concurrency=10)
    queue.get_topic(topic_name).put_many([Message({"after": 0.6}, message_id=f"{number}") for number in range(10)])
    wait_until(lambda: Ledger(Path(f"{ledger.path}.begun")).count() == 10, PATIENCE, "all run")
    victim.daemon.process.kill()
    victim.daemon.process.wait()
    # When it is started again
    victim.daemon.restart()
    # Then they do not all start at once
    wait_until(lambda: victim.daemon.states() and victim.daemon.topic(topic_name)["suspects"], PATIENCE, "suspects wait")
    assert victim.daemon.topic(topic_name)["running"] < 10
    # And yet not one only after the other, and when no more come the topic is like any other
    wait_until(lambda: victim.daemon.topic(topic_name)["running"] > 1, PATIENCE, "a second one starts beside the first")
    wait_until(lambda: ledger.count() == 10, PATIENCE, "all are done")
    victim.daemon.process.wait_for("event=suspects_cleared")
    assert victim.daemon.topic(topic_name)["suspects"] == 0


def test_suspects_go_back_unharmed_when_their_topic_is_paused_or_the_daemon_leaves(
    place: Place, queue: WorkQueue, topic_name: str, ledger: Ledger
) -> None:
    # Given a daemon with suspects that wait behind one that takes long
    topic = queue.get_topic(topic_name)
    victim = place.start(concurrency=1, prefetch=20)
    topic.put_many([Message({"after": 1.0}, message_id=f"{number}") for number in range(20)])
    wait_until(lambda: victim.daemon.states() and victim.daemon.topic(topic_name)["waiting"] == 19, PATIENCE, "the others wait")
    victim.daemon.process.kill()
    victim.daemon.process.wait()
    victim.daemon.restart()
    wait_until(lambda: victim.daemon.states() and victim.daemon.topic(topic_name)["suspects"] >= 15, PATIENCE, "suspects wait")
    # When the topic is paused
    victim.daemon.control.call("pause", {"topics": [topic_name]})
    # Then they are in the broker, and come again as suspects when it goes on
    assert victim.daemon.topic(topic_name)["waiting"] == 0
    wait_until(lambda: topic.ready() >= 15, PATIENCE, "they are back")
    victim.daemon.control.call("resume", {"topics": [topic_name]})
    wait_until(lambda: victim.daemon.topic(topic_name)["suspects"] >= 10, PATIENCE, "they are suspects again")
    # And when the daemon leaves
    assert victim.stop() == 0
    assert topic.ready() + ledger.count() == 20


def test_without_a_directory_for_the_journal_hopd_runs_all_the_same(
    place: Place, queue: WorkQueue, topic_name: str, ledger: Ledger
) -> None:
    # Given a state directory that cannot be
    (place.directory / "file").write_text("no directory")
    put(queue.get_topic(topic_name), ledger, 10)
    # When hopd is started with it
    supervised = place.start(state_directory=str(place.directory / "file" / "state"))
    # Then it says so, and works
    supervised.until(lambda: not ledger.lost(), "the jobs are done")
    supervised.daemon.process.wait_for("event=poison_unprotected")
    assert supervised.stop() == 0


def test_the_marker_is_there_as_long_as_the_daemon_runs(place: Place) -> None:
    # Given a daemon with a directory of its own for its state
    state = place.directory / "state"
    supervised = place.start(state_directory=str(state))
    supervised.daemon.wait_consuming()
    assert {file.name for file in state.iterdir()} == {"hopd.running", "hopd.suspects"}
    # When it leaves in order, Then the next one knows
    assert supervised.stop() == 0
    assert {file.name for file in state.iterdir()} == {"hopd.suspects"}
    supervised.daemon.restart()
    supervised.daemon.wait_consuming()
    assert "unclean_exit" not in supervised.daemon.process.stderr
