"""A work queue before it has met a broker."""

from __future__ import annotations

from time import monotonic

import pytest

from hopd import HopError, WorkQueue, WorkQueueClosed
from hopd.errors import BrokerError

#: Nobody listens there; nothing here connects.
URL = "amqp://anna:s3cret@localhost:1/"


def test_making_one_connects_to_nobody() -> None:
    queue = WorkQueue(URL)

    assert {status.state for status in queue.status().values()} == {"closed"}
    queue.close()


def test_a_work_queue_needs_a_url() -> None:
    with pytest.raises(HopError, match="at least one broker URL"):
        WorkQueue([])


def test_a_wrong_url_is_refused_at_once_without_its_password() -> None:
    with pytest.raises(BrokerError) as caught:
        WorkQueue(["amqp://anna:s3cret@localhost/", "amqp://anna:s3cret@localhost:port/"])

    assert "s3cret" not in str(caught.value)


def test_the_status_shows_no_password() -> None:
    assert "s3cret" not in repr(WorkQueue(URL).status())


def test_asking_twice_for_a_topic_gives_the_same() -> None:
    queue = WorkQueue(URL)

    assert queue.topic("emails") is queue.topic("emails")


def test_every_job_has_an_id_of_its_own() -> None:
    one, other = WorkQueue(URL), WorkQueue(URL)

    assert len({queue.new_id() for queue in (one, other) for _ in range(100)}) == 200


def test_a_closed_one_has_no_topics() -> None:
    queue = WorkQueue(URL)
    queue.close()

    with pytest.raises(WorkQueueClosed):
        queue.topic("emails")


def test_closing_ends_the_puts_before_the_settlements(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a work queue: a job that is being buried is put elsewhere first, and settled then
    queue = WorkQueue(URL)
    order: list[tuple[str, float]] = []
    began = monotonic()
    monkeypatch.setattr(queue._publisher, "wait_idle", lambda deadline: order.append(("puts", deadline - began)))
    monkeypatch.setattr(queue.consuming, "close", lambda deadline: order.append(("settlements", deadline - began)))
    monkeypatch.setattr(queue.publishing, "close", lambda deadline: order.append(("publishing", deadline - began)))

    # When it is closed
    queue.close(timeout=8.0)

    # Then puts end first, and leave some of the time
    assert [name for name, _ in order] == ["puts", "settlements", "publishing"]
    assert [round(seconds) for _, seconds in order] == [6, 8, 8]
