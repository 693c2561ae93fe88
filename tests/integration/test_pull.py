"""Pulling from a real broker: whoever waits gets a job, nobody keeps jobs from others, and losses are overcome."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from hopd import Job, PullTimeout, Topic, WorkQueue
from hopd.amqp import frames
from hopd.pull import AHEAD
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def other(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    """Another process's work queue."""
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def topic(queue: WorkQueue, topic_name: str) -> Topic:
    return queue.get_topic(topic_name)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


def waiting(pool: ThreadPoolExecutor, broker: Node, topic: Topic, count: int = 1) -> list[Future[Job]]:
    """So many pulls, with their consumers at the broker."""
    pulls = [pool.submit(topic.pull, 30.0) for _ in range(count)]
    wait_until(lambda: broker.list_queues()[topic.name].consumers == min(count, AHEAD))
    return pulls


def test_a_pull_that_waits_gets_the_job_that_comes(broker: Node, topic: Topic, pool: ThreadPoolExecutor) -> None:
    (pull,) = waiting(pool, broker, topic)

    topic.put(b"x")

    assert pull.result(20).body == b"x"


def test_many_who_wait_get_a_job_each(broker: Node, topic: Topic, pool: ThreadPoolExecutor) -> None:
    pulls = waiting(pool, broker, topic, 20)

    topic.put_many([str(number) for number in range(20)])

    assert sorted(int(pull.result(20).body) for pull in pulls) == list(range(20))


def test_a_caller_may_have_many_unsettled_jobs(topic: Topic) -> None:
    topic.put_many([str(number) for number in range(30)])

    jobs = [topic.pull(20) for _ in range(30)]

    assert [job.done() for job in jobs] == [True] * 30


def test_jobs_come_in_the_order_they_were_put_as_long_as_none_goes_back(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given somebody who is never slow enough for what was fetched for him to go back
    monkeypatch.setattr("hopd.pull.MOMENT", 60.0)
    topic.put_many([str(number) for number in range(20)])

    came = []
    for _ in range(20):
        job = topic.pull(20)
        came.append(int(job.body))
        job.done()

    assert came == list(range(20))


def test_one_who_has_gone_quiet_hides_at_most_one_job(topic: Topic, other: WorkQueue) -> None:
    # Given somebody who has one job done, and asks for no more
    topic.put_many([b"x"] * 10)
    topic.pull(20).done()

    # When another takes what there is
    theirs = other.get_topic(topic.name)
    jobs = [theirs.pull(20) for _ in range(8)]

    # Then only one job is kept from it
    with pytest.raises(PullTimeout):
        theirs.pull(0.1)
    assert len(jobs) == 8


def test_one_who_was_quick_and_has_gone_quiet_hides_at_most_one_job(topic: Topic, other: WorkQueue) -> None:
    # Given somebody who has one job after the other done, and stops in the middle
    topic.put_many([b"x"] * 100)
    for _ in range(50):
        topic.pull(20).done()

    # When another pulls, then it gets all the others but one
    theirs = other.get_topic(topic.name)
    assert all(theirs.pull(20).done() for _ in range(49))


def test_those_who_gave_up_hide_at_most_one_job(broker: Node, topic: Topic, other: WorkQueue, pool: ThreadPoolExecutor) -> None:
    # Given many who waited in vain
    for pull in [pool.submit(topic.pull, 0.3) for _ in range(10)]:
        with pytest.raises(PullTimeout):
            pull.result(20)

    # When jobs come
    topic.put_many([b"x"] * 20)

    # Then another gets all but one
    theirs = other.get_topic(topic.name)
    jobs = [theirs.pull(20) for _ in range(19)]
    assert len(jobs) == 19
    wait_until(lambda: broker.list_queues()[topic.name].ready == 0)


def test_a_timeout_ends_a_pull_and_the_next_one_is_as_good_as_any(topic: Topic) -> None:
    with pytest.raises(PullTimeout):
        topic.pull(0)

    topic.put(b"x")

    assert topic.pull(20).body == b"x"


def test_jobs_come_to_a_loop_until_the_end(queue: WorkQueue, topic: Topic, pool: ThreadPoolExecutor) -> None:
    # Given a loop over a topic
    done: list[bytes] = []

    def work() -> None:
        for job in topic:
            done.append(job.body)
            job.done()

    loop = pool.submit(work)

    # When jobs are put, and then the work queue is closed
    topic.put_many([b"one", b"two", b"three"])
    wait_until(lambda: len(done) == 3)
    queue.close()

    # Then the loop has done them, and ends
    assert loop.result(20) is None
    assert done == [b"one", b"two", b"three"]


# --- losses -------------------------------------------------------------------------------------


def test_a_pull_goes_on_when_the_connection_is_lost(
    proxy: Proxy, broker: Node, exchange_name: str, topic_name: str, pool: ThreadPoolExecutor, other: WorkQueue
) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        # Given a pull that waits
        (pull,) = waiting(pool, broker, queue.get_topic(topic_name))

        # When its connection is reset, and a job put by another
        proxy.reset()
        other.get_topic(topic_name).put(b"x")

        # Then it gets it
        assert pull.result(20).body == b"x"


def test_a_pull_ends_at_its_timeout_though_the_broker_is_away(proxy: Proxy, broker: Node, exchange_name: str, topic_name: str) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        topic = queue.get_topic(topic_name)
        proxy.refuse()
        proxy.reset()

        with pytest.raises(PullTimeout, match="Connection refused"):
            topic.pull(0.3)


def test_a_pull_goes_on_when_its_queue_is_deleted(broker: Node, topic: Topic, other: WorkQueue, pool: ThreadPoolExecutor) -> None:
    # Given a pull that waits
    (pull,) = waiting(pool, broker, topic)

    # When somebody deletes the queue under it
    other.topic(topic.name).delete()
    wait_until(lambda: topic.name in (queues := broker.list_queues()) and queues[topic.name].consumers == 1)

    # Then it is declared again, and consumed
    topic.put(b"x")
    assert pull.result(20).body == b"x"


def test_a_job_of_a_deleted_queue_is_lost(topic: Topic, other: WorkQueue) -> None:
    # Given a job, and the end of its queue
    topic.put(b"x")
    job = topic.pull(20)
    other.topic(topic.name).delete()
    wait_until(lambda: job.delivery.settlement.closed)

    # When it is settled, then that is too late
    assert (job.done(), job.outcome) == (False, "lost")


def test_a_job_whose_channel_the_broker_closes_comes_again(queue: WorkQueue, topic: Topic) -> None:
    # Given a job, on a channel that the broker closes, as it would when a job is held for too long
    topic.put(b"x")
    job = topic.pull(20)
    connection = queue.consuming.open_connection()
    assert connection is not None
    with connection.lock:
        connection.send(frames.ack(job.delivery.channel, 999, False))
    wait_until(lambda: job.delivery.settlement.closed)

    # When it is settled too late
    settled = job.done()

    # Then it comes again, over the same connection
    assert (settled, topic.pull(20).body) == (False, b"x")
    assert queue.consuming.open_connection() is connection
