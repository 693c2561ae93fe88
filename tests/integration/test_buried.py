"""Buried jobs on a real broker: looked at, kicked, kept for as long as was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest

from hopd import BuriedJob, Message, NotBuried, PutManyFailed, Topic, Unroutable, WorkQueue, names
from hopd.amqp.properties import Properties
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

#: How long a job that must not come is waited for. Seconds.
SILENCE = 0.3


@pytest.fixture(params=["classic", "quorum"])
def queue(request: pytest.FixtureRequest, broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name, queue_type=request.param) as queue:
        yield queue


@pytest.fixture
def topic(queue: WorkQueue, topic_name: str) -> Topic:
    return queue.get_topic(topic_name)


def bury(topic: Topic, *ids: str) -> None:
    for job_id in ids:
        topic.put(f"body of {job_id}", message_id=job_id, headers={"for": job_id})
        job = topic.pull(timeout=20)
        job.bury(f"reason of {job_id}", error=ValueError("no such customer"))


def ids(jobs: list[BuriedJob]) -> list[str | None]:
    return [job.id for job in jobs]


def pulled(topic: Topic, count: int) -> list[str | None]:
    """Pull jobs and settle them; their ids."""
    jobs = [topic.pull(timeout=20) for _ in range(count)]
    return [job.message_id for job in jobs if job.done()]


# --- looking ------------------------------------------------------------------------------------


def test_a_buried_job_says_what_and_why(topic: Topic) -> None:
    bury(topic, "a")

    (job,) = topic.buried()

    assert (job.id, job.body, job.reason, job.attempts) == ("a", b"body of a", "reason of a", 1)
    assert job.error == "ValueError: no such customer"
    assert job.headers["for"] == "a"
    assert "Traceback" in job.headers[names.ERROR_TRACEBACK] or "ValueError" in job.headers[names.ERROR_TRACEBACK]
    assert job.buried_at is not None
    assert abs(datetime.now(timezone.utc) - job.buried_at) < timedelta(minutes=5)


def test_a_topic_without_buried_jobs_shows_none(topic: Topic) -> None:
    assert topic.buried() == []


def test_looking_leaves_everything_where_it_was(topic: Topic) -> None:
    bury(topic, *"abcdef")

    looks = [ids(topic.buried(limit)) for limit in (2, 100, 1, 3, 100)]

    assert looks == [["a", "b"], list("abcdef"), ["a"], ["a", "b", "c"], list("abcdef")]


def test_a_buried_job_can_be_looked_at_many_times(topic: Topic) -> None:
    bury(topic, "a", "b")

    for _ in range(30):  # more than RabbitMQ's own limit of deliveries, where it has one
        assert ids(topic.buried()) == ["a", "b"]


def test_more_than_a_page_is_looked_at_at_once(topic: Topic, broker: Node) -> None:
    put_buried(topic, broker, 1200)

    assert ids(topic.buried(5000)) == [str(number) for number in range(1200)]
    assert ids(topic.buried(700)) == [str(number) for number in range(700)]


def jobs_in(broker: Node, queue: str) -> int:
    depth = broker.list_queues()[queue]
    return depth.ready + depth.unsettled


def put_buried(topic: Topic, broker: Node, count: int) -> None:
    """Many at once: published where they lie, as hopd does."""
    bury(topic, "to have the queue")
    assert topic.kick(1) == 1
    topic.pull(timeout=20).done()
    start = datetime.now(timezone.utc)
    with work_queue(broker.url, exchange="") as queue:
        lair = queue.topic(names.buried(topic.name))
        lair.put_many(
            Message(b"x", {names.BURIED_AT: (start + timedelta(milliseconds=number)).isoformat()}, str(number)) for number in range(count)
        )


# --- kicking ------------------------------------------------------------------------------------


def test_a_kicked_job_begins_anew(topic: Topic) -> None:
    # Given a job that was tried twice
    topic.put({"to": "anna"}, message_id="a", headers={"for": "a"}, priority=3, correlation_id="c")
    topic.pull(timeout=20).retry(0.1, error=ValueError("busy"))
    job = topic.pull(timeout=20)
    assert job.attempt == 2
    job.bury("no use", error=ValueError("no such customer"))

    # When it is kicked
    assert topic.kick("a") == 1

    # Then it is as it was put
    job = topic.pull(timeout=20)
    assert (job.message_id, job.attempt, dict(job.headers)) == ("a", 1, {"for": "a"})
    assert (job.json(), job.properties.priority, job.properties.correlation_id) == ({"to": "anna"}, 3, "c")
    assert job.properties.delivery_mode == 2


def test_kicking_a_number_takes_the_oldest(topic: Topic) -> None:
    bury(topic, *"abcde")

    assert topic.kick(2) == 2

    assert ids(topic.buried()) == ["c", "d", "e"]
    assert pulled(topic, 2) == ["a", "b"]


def test_kicking_more_than_there_are_kicks_all(topic: Topic) -> None:
    bury(topic, *"abc")

    assert topic.kick(10) == 3

    assert topic.buried() == []
    assert pulled(topic, 3) == ["a", "b", "c"]


def test_kicking_by_id_leaves_the_others_in_their_order(topic: Topic) -> None:
    bury(topic, *"abcdef")

    assert topic.kick(["e", "b"]) == 2

    assert ids(topic.buried()) == ["a", "c", "d", "f"]
    assert sorted(pulled(topic, 2), key=str) == ["b", "e"]


def test_ids_that_are_not_there_are_told_and_the_others_kicked(topic: Topic) -> None:
    bury(topic, "a", "b", "c")

    with pytest.raises(NotBuried, match="x") as told:
        topic.kick(["x", "b", "y"])

    assert (told.value.missing, told.value.kicked) == (("x", "y"), 1)
    assert pulled(topic, 1) == ["b"]
    assert ids(topic.buried()) == ["a", "c"]


def test_there_is_nothing_to_kick_where_nothing_was_buried(topic: Topic) -> None:
    assert topic.kick(5) == 0
    assert topic.kick([]) == 0
    with pytest.raises(NotBuried):
        topic.kick("a")


def test_of_two_jobs_with_one_id_the_older_is_kicked(topic: Topic) -> None:
    bury(topic, "a", "a")

    assert topic.kick("a") == 1

    assert ids(topic.buried()) == ["a"]


def test_many_are_kicked_and_found_page_by_page(topic: Topic, broker: Node) -> None:
    put_buried(topic, broker, 1300)

    assert topic.kick(["1250", "7", "600"]) == 3
    assert topic.kick(1100) == 1100

    assert [job.id for job in topic.buried(5)] == ["1102", "1103", "1104", "1105", "1106"]
    wait_until(lambda: jobs_in(broker, topic.name) == 1103, 20)  # a quorum queue is slow to say


def test_jobs_whose_topic_is_gone_stay_buried(topic: Topic) -> None:
    bury(topic, *"abc")
    topic.delete()

    with pytest.raises(PutManyFailed) as failed:
        topic.kick(2)

    assert {type(error) for error in failed.value.failures.values()} == {Unroutable}
    assert ids(topic.buried()) == ["a", "b", "c"]


@pytest.mark.parametrize("wrong", [lambda topic: topic.buried(0), lambda topic: topic.kick(0), lambda topic: topic.kick(-1)])
def test_numbers_that_make_no_sense_are_refused(topic: Topic, wrong: Callable[[Topic], object]) -> None:
    with pytest.raises(ValueError, match="1"):
        wrong(topic)


# --- what others bury ---------------------------------------------------------------------------


def test_a_message_that_hopd_did_not_bury_is_shown_and_kicked_all_the_same(topic: Topic) -> None:
    bury(topic, "a")
    death = {"queue": topic.name, "reason": "delivery_limit", "count": 1, "time": datetime(2026, 1, 2, tzinfo=timezone.utc)}
    headers = {"x-death": [death], "x-first-death-reason": "delivery_limit"}
    topic.put_publishing(b"x", Properties(message_id="b", headers=headers), exchange="", routing_key=names.buried(topic.name))

    (found,) = [job for job in topic.buried() if job.id == "b"]
    assert (found.id, found.reason, found.error, found.attempts) == ("b", "set aside by the broker: delivery_limit", None, 0)
    assert found.buried_at == datetime(2026, 1, 2, tzinfo=timezone.utc)

    # Its record of deaths must not go along: the broker would throw it away after its next delay.
    assert topic.kick("b") == 1
    job = topic.pull(timeout=20)
    assert dict(job.headers) == {}
    job.retry(0.1)
    assert topic.pull(timeout=20).message_id == "b"


# --- how long they are kept ---------------------------------------------------------------------


def test_buried_jobs_go_when_their_time_is_up(topic: Topic) -> None:
    topic.aside.keep_buried = 0.5
    bury(topic, "a")
    topic.aside.keep_buried = None
    bury(topic, "b")

    wait_until(lambda: ids(topic.buried()) == ["b"], 20)


def test_a_kicked_job_does_not_expire(topic: Topic, broker: Node) -> None:
    topic.aside.keep_buried = 1.0
    bury(topic, "a", "b")
    topic.kick("a")

    wait_until(lambda: topic.buried() == [], 20)

    assert pulled(topic, 1) == ["a"]


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_looking_goes_on_when_the_connection_was_lost(
    broker: Node, proxy: Proxy, exchange_name: str, topic_name: str, queue_type: str
) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name, queue_type=queue_type) as queue:
        topic = queue.get_topic(topic_name)
        bury(topic, *"abc")
        topic.buried()
        connection = queue.consuming.open_connection()

        proxy.reset()
        wait_until(lambda: queue.consuming.open_connection() is not connection)

        assert wait_until(lambda: ids(topic.buried()) == ["a", "b", "c"], 20)
