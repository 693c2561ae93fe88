"""Quorum topics on a real broker: what it counts, and where jobs go that it has delivered too often."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from time import monotonic

import pytest

from hopd import Job, Topic, WorkQueue, names
from tests.support.channels import break_channel
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.node_control import NodeControl
from tests.support.waiting import wait_until

#: How often RabbitMQ may take a job back before it gives up on it.
LIMIT = 2


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name, name=exchange_name) as queue:
        yield queue


@pytest.fixture
def topic(queue: WorkQueue, topic_name: str) -> Topic:
    topic = queue.topic(topic_name, queue_type="quorum", arguments={"x-delivery-limit": LIMIT})
    topic.declare()
    return topic


def pulled(topic: Topic) -> Job:
    return topic.pull(timeout=20)


def only_buried(queue: WorkQueue, topic: Topic) -> Job:
    """The one job in the topic's buried queue, once the topic itself is empty."""
    job = pulled(queue.topic(names.buried(topic.name)))
    assert topic.ready() == 0
    return job


def server_version(queue: WorkQueue) -> tuple[int, ...]:
    return queue.any_connection(monotonic() + 20).server_version


# --- attempts -----------------------------------------------------------------------------------


def test_jobs_that_nobody_pulled_have_not_been_attempted(queue: WorkQueue, topic: Topic, broker: NodeControl, exchange_name: str) -> None:
    # Given somebody who has one job after the other done, and stops in the middle
    topic.put_many([b"x"] * 40)
    for _ in range(20):
        pulled(topic).done()

    # When another pulls, then its jobs are new
    with work_queue(broker.url, exchange=exchange_name) as other:
        theirs = other.topic(topic.name, queue_type="quorum")
        assert [pulled(theirs).attempt for _ in range(19)] == [1] * 19


# --- the delivery limit -------------------------------------------------------------------------


def test_a_job_whose_channel_dies_again_and_again_is_buried_and_not_lost(
    broker: Node, queue: WorkQueue, topic: Topic, exchange_name: str
) -> None:
    # Given a job
    message_id = topic.put(b"kills channels", headers={"mine": "kept"})

    # When whoever has it loses the channel, once more often than the limit allows
    attempts = []
    for _ in range(LIMIT + 1):
        job = pulled(topic)
        attempts.append(job.attempt)
        assert break_channel(broker, f"{exchange_name}-consume")
        wait_until(partial(getattr, job.delivery.settlement, "closed"))

    # Then each delivery was an attempt, and the job is where a person finds it
    assert attempts == [1, 2, 3]
    buried = only_buried(queue, topic)
    assert (buried.body, buried.message_id, buried.headers["mine"]) == (b"kills channels", message_id, "kept")
    assert buried.headers["x-first-death-reason"] == "delivery_limit"


def test_a_job_that_is_requeued_again_and_again_is_buried(queue: WorkQueue, topic: Topic) -> None:
    topic.put(b"x")

    for _ in range(LIMIT + 1):
        pulled(topic).fail(requeue=True)

    assert only_buried(queue, topic).body == b"x"


def test_a_job_that_is_retried_begins_with_the_limit_anew_and_goes_on_with_its_attempts(topic: Topic) -> None:
    # Given a job at its limit
    topic.put(b"x")
    for _ in range(LIMIT):
        pulled(topic).fail(requeue=True)

    # When it is retried instead
    job = pulled(topic)
    assert job.attempt == LIMIT + 1
    job.retry(0.1)

    # Then it comes again, and the limit is as far away as at first
    again = pulled(topic)
    assert again.attempt == LIMIT + 2
    assert again.headers.get(names.DELIVERY_COUNT, 0) == 0
    again.done()


def test_a_job_given_back_unharmed_counts_until_rabbitmq_knows_better(queue: WorkQueue, topic: Topic) -> None:
    topic.put(b"x")

    pulled(topic).give_back()

    assert pulled(topic).attempt == (1 if server_version(queue) >= (4, 3) else 2)


# --- other ways out -----------------------------------------------------------------------------


def test_a_job_that_nobody_wants_any_more_is_not_buried(queue: WorkQueue, topic: Topic) -> None:
    topic.put(b"dropped")
    pulled(topic).drop()
    topic.put(b"buried")
    pulled(topic).bury("no such customer")

    assert only_buried(queue, topic).body == b"buried"


def test_a_job_that_failed_for_good_is_buried(queue: WorkQueue, topic: Topic) -> None:
    topic.put(b"x")

    pulled(topic).fail()

    assert only_buried(queue, topic).body == b"x"


def test_a_job_that_nobody_took_in_time_is_buried(queue: WorkQueue, topic: Topic) -> None:
    topic.put(b"x", expires=0.01)

    assert only_buried(queue, topic).body == b"x"


# --- declaring ----------------------------------------------------------------------------------


def test_a_quorum_topic_is_declared_alike_every_time(
    broker: Node, topic: Topic, exchange_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with work_queue(broker.url, exchange=exchange_name) as another:
        another.topic(topic.name, queue_type="quorum", arguments={"x-delivery-limit": LIMIT}).declare()

    assert "queue_differs" not in [getattr(record, "event", None) for record in caplog.records]


def test_a_job_beyond_its_limit_waits_for_a_buried_queue_that_is_gone(own_rabbitmq: NodeControl) -> None:
    # Given a job that is out, on a broker that looks every second whether a dead letter can be delivered
    own_rabbitmq.eval("application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 1000)")
    with work_queue(own_rabbitmq.url) as queue:
        topic = queue.topic("emails", queue_type="quorum", arguments={"x-delivery-limit": 0})
        topic.declare()
        topic.put(b"x")
        job = pulled(topic)

        # When the buried queue is deleted, and then the job exceeds its limit
        queue.topic(names.buried("emails")).delete()
        job.fail(requeue=True)
        topic.put(b"next")
        pulled(topic).done()  # it comes only after the other was taken back

        # Then that one is buried as soon as there is a place for it
        topic.declare()
        assert only_buried(queue, topic).body == b"x"
