"""Delayed jobs on a real broker, and the library that leads them through their steps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from time import monotonic, time

import pytest

from hopd import BrokerBlocked, Job, Message, PullTimeout, PutManyFailed, Topic, Unroutable, WorkQueue, names
from hopd.amqp.properties import Properties
from tests.support.library import work_queue
from tests.support.node import Node, OwnNode
from tests.support.waiting import wait_until

#: No step of the ladder, nor near to the next one: it takes two.
TWO_STEPS = 1.2


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def topic(queue: WorkQueue, topic_name: str) -> Topic:
    return queue.get_topic(topic_name)


def pulled(topic: Topic) -> Job:
    job = topic.pull(timeout=20)
    job.done()
    return job


def waiting_for_an_hour(queue: WorkQueue, topic: Topic) -> int:
    return queue.topic(names.retry(topic.name, 3_600_000)).ready()


def put_by_somebody_else(topic: Topic, seconds: float) -> None:
    """As a producer does it that knows nothing of hopd but the header."""
    headers = {names.DUE_AT: round((time() + seconds) * 1000)}
    topic.put_publishing(b"later", Properties(message_id="later", headers=headers, delivery_mode=2))


# --- when they come -----------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.1, "250ms"])
def test_a_delayed_job_does_not_come_before_its_time(topic: Topic, delay: float | str) -> None:
    seconds = 0.25 if isinstance(delay, str) else delay
    before = time()

    topic.put(b"later", message_id="a", delay=delay)

    job = pulled(topic)
    assert time() - before >= seconds
    assert (job.body, job.message_id, job.attempt, job.redelivered) == (b"later", "a", 1, False)


def test_a_job_for_a_moment_does_not_come_before_it(topic: Topic) -> None:
    moment = datetime.now(timezone.utc) + timedelta(seconds=TWO_STEPS)

    topic.put(b"later", at=moment)
    pulled(topic)

    assert datetime.now(timezone.utc) >= moment


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_delay_that_is_no_step_is_walked_in_several(queue: WorkQueue, topic_name: str, broker: Node, kind: str) -> None:
    topic = queue.topic(topic_name, queue_type=kind)
    topic.declare()
    before = time()

    topic.put(b"later", delay=3.0)

    assert pulled(topic).attempt == 1
    assert time() - before >= 3.0
    # Which step follows the longest that fits depends on how soon the job was looked at.
    steps = [queue for queue in broker.list_queues() if queue.startswith(f"{topic.name}.retry.")]
    assert names.retry(topic.name, 2000) in steps
    assert len(steps) > 1


def test_jobs_that_are_due_pass_those_that_wait(topic: Topic) -> None:
    topic.put(b"third", delay=TWO_STEPS)
    topic.put(b"second", delay=0.5)
    topic.put(b"first")

    assert [pulled(topic).body for _ in range(3)] == [b"first", b"second", b"third"]


def test_many_are_put_with_delays_of_their_own(topic: Topic) -> None:
    messages = [Message(str(number), delay=0.5 if number % 2 else None) for number in range(20)]

    assert topic.put_many(messages) == 20

    bodies = [int(pulled(topic).body) for _ in range(20)]
    assert [number % 2 for number in bodies] == [0] * 10 + [1] * 10
    assert sorted(bodies) == list(range(20))


def test_a_delay_is_over_once_and_for_all(topic: Topic) -> None:
    topic.put(b"later", delay=0.1)
    job = topic.pull(timeout=20)
    assert names.DUE_AT in job.headers

    job.retry(0.1)

    job = pulled(topic)
    assert (job.attempt, names.DUE_AT in job.headers) == (2, False)


# --- those that come too early ------------------------------------------------------------------


def test_a_job_that_comes_before_its_time_is_not_handed_out(queue: WorkQueue, topic: Topic) -> None:
    put_by_somebody_else(topic, 3600)
    topic.put(b"now")

    assert pulled(topic).body == b"now"
    with pytest.raises(PullTimeout):
        topic.pull(timeout=0.2)

    assert (waiting_for_an_hour(queue, topic), topic.ready()) == (1, 0)


def test_a_moment_told_by_somebody_else_is_kept(topic: Topic) -> None:
    before = monotonic()
    put_by_somebody_else(topic, TWO_STEPS)

    assert pulled(topic).message_id == "later"
    assert monotonic() - before >= TWO_STEPS - 0.01  # the two clocks


# --- queues that are gone -----------------------------------------------------------------------


def test_a_retry_queue_that_was_deleted_is_there_again_for_the_next_put(queue: WorkQueue, topic: Topic) -> None:
    topic.put(b"lost with it", delay=3600)
    assert queue.topic(names.retry(topic.name, 3_600_000)).delete() == 1

    topic.put(b"later", delay=3600)

    assert waiting_for_an_hour(queue, topic) == 1


def test_of_many_those_whose_retry_queue_was_deleted_are_told(queue: WorkQueue, topic: Topic) -> None:
    topic.put(b"lost with it", delay=3600)
    assert queue.topic(names.retry(topic.name, 3_600_000)).delete() == 1
    messages = [Message(b"now"), Message(b"later", delay=3600)]

    with pytest.raises(PutManyFailed) as failed:
        topic.put_many(messages)

    assert {index: type(error) for index, error in failed.value.failures.items()} == {1: Unroutable}
    assert topic.put_many(messages) == 2


# --- a broker that takes nothing ----------------------------------------------------------------


def test_under_an_alarm_an_early_job_is_held_and_given_back(own_node: OwnNode) -> None:
    with work_queue(own_node.url) as queue:
        topic = queue.get_topic("emails")
        topic.put(b"now")
        pulled(topic)
        put_by_somebody_else(topic, 3600)
        own_node.set_alarm()

        # Given that the broker is known to take nothing
        with pytest.raises(BrokerBlocked):
            topic.put(b"later", delay="10m", timeout=1)

        # When the early job can neither be handed out nor put aside
        with pytest.raises(PullTimeout, match="put aside"):
            topic.pull(timeout=1)

        # Then it is there as before, and waits on when that is possible again
        own_node.clear_alarm()
        topic.put(b"now")
        assert pulled(topic).body == b"now"
        wait_until(lambda: waiting_for_an_hour(queue, topic) == 1, 20)
