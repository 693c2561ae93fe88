"""A broker that goes and comes back, and one that takes nothing: the library waits, recovers, and says what it does not know."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

import pytest

from hopd import BrokerBlocked, Job, PutManyFailed, PutTimeout, Topic, WorkQueue
from tests.support.broker import BROKERS, START_TIMEOUT, node_of
from tests.support.library import work_queue
from tests.support.node import OwnNode
from tests.support.waiting import wait_until


@pytest.fixture(scope="module", params=BROKERS)
def node(request: pytest.FixtureRequest) -> Iterator[OwnNode]:
    """A node of these tests' own: each leaves it serving, and without an alarm."""
    with node_of(request.param) as node:
        yield node


@pytest.fixture
def queue(node: OwnNode, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(node.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def topic(queue: WorkQueue, topic_name: str) -> Topic:
    return queue.get_topic(topic_name)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def alarm(node: OwnNode) -> Iterator[OwnNode]:
    """The node, to raise an alarm on."""
    yield node
    node.clear_alarm()


def waiting(pool: ThreadPoolExecutor, node: OwnNode, topic: Topic) -> Future[Job]:
    """A pull that has its consumer at the broker."""
    pull = pool.submit(topic.pull, 60.0)
    wait_until(lambda: node.list_queues()[topic.name].consumers == 1)
    return pull


# --- a broker that goes -------------------------------------------------------------------------


def test_a_broker_that_is_killed_and_started_again_costs_no_job(
    node: OwnNode, queue: WorkQueue, topic: Topic, exchange_name: str, topic_name: str, pool: ThreadPoolExecutor
) -> None:
    with work_queue(node.url, exchange=exchange_name, durable=False) as transient:
        # Given jobs that are put, one that is held, and somebody who waits at a topic that does not survive the broker
        topic.put_many([str(number) for number in range(100)])
        held = topic.pull(20)
        passing = transient.get_topic(f"{topic_name}.transient")
        pull = waiting(pool, node, passing)

        # When the broker is killed, one more is put meanwhile, and the broker is started again
        node.kill()
        wait_until(lambda: {connection.state for connection in queue.status().values()} == {"recovering"})
        put = pool.submit(topic.put, b"100", timeout=60.0)
        node.start()
        node.wait_ready(START_TIMEOUT)

        # Then the held job is known to be lost, and comes again with all the others
        put.result(60)
        assert held.done() is False
        came: set[int] = set()
        while len(came) < 101:
            job = topic.pull(60)
            came.add(int(job.body))
            job.done()
        assert came == set(range(101))

        # And the one who waits, waits at the topic that is there again
        wait_until(lambda: node.list_queues().get(passing.name), 60)
        passing.put(b"x")
        assert pull.result(60).body == b"x"


def test_a_connection_that_an_operator_closes_is_made_again(
    node: OwnNode, queue: WorkQueue, topic: Topic, pool: ThreadPoolExecutor
) -> None:
    # Given somebody who waits
    pull = waiting(pool, node, topic)

    connection = queue.consuming.open_connection()

    # When every connection is closed by force
    node.close_all_connections("closed for maintenance")
    wait_until(lambda: queue.consuming.open_connection() is not connection)

    # Then it goes on waiting, and gets what comes
    topic.put(b"x", retry_uncertain=True)
    assert pull.result(60).body == b"x"


def test_connections_that_are_closed_again_and_again_leave_nothing_behind(node: OwnNode, queue: WorkQueue, topic: Topic) -> None:
    # Given a work queue with both its connections
    topic.put(b"x")
    topic.pull(20).done()
    threads, descriptors = threading.active_count(), open_descriptors()

    # When they are closed again and again
    for _ in range(5):
        node.close_all_connections()
        topic.put(b"x", retry_uncertain=True)
        topic.pull(20).done()

    # Then there are as many threads and descriptors as before
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: open_descriptors() <= descriptors)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- a broker that takes nothing ----------------------------------------------------------------


def blocked(queue: WorkQueue, topic: Topic, alarm: OwnNode) -> None:
    """Raise an alarm and let the broker notice that we publish: only then it blocks us."""
    topic.put(b"first")
    alarm.set_alarm()
    wait_until(lambda: not _takes(topic))
    assert queue.status()["publishing"].state == "blocked"


def _takes(topic: Topic) -> bool:
    try:
        topic.put(b"more", timeout=0.05)
    except BrokerBlocked:
        return False
    except PutTimeout:
        return True  # on its way to tell us
    return True


def test_a_put_to_a_broker_under_an_alarm_says_so_at_its_deadline(queue: WorkQueue, topic: Topic, alarm: OwnNode) -> None:
    blocked(queue, topic, alarm)

    with pytest.raises(BrokerBlocked, match="takes no jobs: low on memory"):
        topic.put(b"x", timeout=0.1)


def test_many_puts_to_a_broker_under_an_alarm_say_so_too(queue: WorkQueue, topic: Topic, alarm: OwnNode) -> None:
    blocked(queue, topic, alarm)

    with pytest.raises(PutManyFailed) as caught:
        topic.put_many([b"x"] * 1000, timeout=0.1)

    assert caught.value.confirmed == 0
    assert {type(error) for error in caught.value.failures.values()} == {BrokerBlocked}


def test_the_status_says_that_the_broker_takes_nothing_and_why(queue: WorkQueue, topic: Topic, alarm: OwnNode) -> None:
    blocked(queue, topic, alarm)

    status = queue.status()["publishing"]
    assert (status.state, status.reason) == ("blocked", "low on memory")


def test_jobs_are_pulled_and_settled_under_an_alarm(queue: WorkQueue, topic: Topic, alarm: OwnNode) -> None:
    # Given a job
    topic.put(b"x")
    blocked(queue, topic, alarm)

    # When it is done under an alarm
    topic.pull(20).done()

    # Then the broker has heard of it: the next one comes
    assert topic.pull(20).body == b"first"


def test_a_put_goes_on_when_the_alarm_is_over(queue: WorkQueue, topic: Topic, alarm: OwnNode, pool: ThreadPoolExecutor) -> None:
    blocked(queue, topic, alarm)
    put = pool.submit(topic.put, b"x", timeout=60.0)

    alarm.clear_alarm()

    assert put.result(60)
    wait_until(lambda: queue.status()["publishing"].state == "open")


def test_closing_under_an_alarm_ends_at_its_deadline(queue: WorkQueue, topic: Topic, alarm: OwnNode) -> None:
    blocked(queue, topic, alarm)

    began = monotonic()
    queue.close(timeout=0.5)

    assert monotonic() - began < 0.5 + 2.5
