"""A job, as its handler sees it."""

from __future__ import annotations

from typing import Any

import pytest

from hopd.amqp.properties import Properties, encode
from hopd.amqp.settlement import Settlement
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.errors import AlreadySettled, PutTimeout, UndecodableJob
from hopd.job import Job

#: A header flag and no headers.
BROKEN = b"\x20\x00"


class FakeAside(Aside):
    """Moves nothing, or fails to."""

    def __init__(self) -> None:
        super().__init__(QueueSpec("emails"), None, None)  # type: ignore[arg-type]
        self.error: Exception | None = None
        self.moved: list[tuple[str, dict[str, Any]]] = []

    def bury(self, delivery: Delivery, headers: Any, deadline: float) -> None:
        self._move("bury", headers)

    def retry(self, delivery: Delivery, after: float, headers: Any, deadline: float) -> None:
        self._move(f"retry {after}", headers)

    def _move(self, where: str, headers: Any) -> None:
        if self.error is not None:
            raise self.error
        self.moved.append((where, dict(headers)))


@pytest.fixture
def aside() -> FakeAside:
    return FakeAside()


def make_job(aside: Aside, *, raw: bytes | None = None, body: bytes = b"body", **properties: Any) -> Job:
    delivery = Delivery(1, 7, True, b"", encode(Properties(**properties)) if raw is None else raw, body)
    delivery.settlement = Settlement(1, lambda _settlement: None)
    delivery.settlement.opened(7)
    return Job(delivery, aside)


def test_a_job_shows_what_was_put(aside: FakeAside) -> None:
    job = make_job(aside, message_id="m", headers={"to": "anna"}, content_type="a/b")

    assert (job.body, job.message_id, job.headers, job.properties.content_type) == (b"body", "m", {"to": "anna"}, "a/b")
    assert (job.topic, job.redelivered, job.outcome) == ("emails", True, None)


def test_a_body_that_is_json_is_read_as_such(aside: FakeAside) -> None:
    assert make_job(aside, body=b'{"to": "anna"}').json() == {"to": "anna"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_a_body_that_is_not_json_is_a_value_error(aside: FakeAside, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        make_job(aside, body=body).json()


@pytest.mark.parametrize(
    ("headers", "attempt"),
    [
        ({}, 1),
        ({"hop-attempts": 2}, 3),
        ({"x-delivery-count": 1}, 2),
        ({"hop-attempts": 2, "x-delivery-count": 1}, 4),
        ({"hop-attempts": "many"}, 1),
        ({"hop-attempts": -5}, 1),
        ({"hop-attempts": True}, 1),
        ({"hop-attempts": 1.5}, 1),
    ],
    ids=repr,
)
def test_the_attempt_is_counted_in_headers_that_anybody_may_have_written(aside: FakeAside, headers: dict[str, Any], attempt: int) -> None:
    assert make_job(aside, headers=headers).attempt == attempt


@pytest.mark.parametrize("read", ["properties", "headers", "message_id", "attempt"])
def test_broken_properties_are_said_to_be(aside: FakeAside, read: str) -> None:
    job = make_job(aside, raw=BROKEN)

    with pytest.raises(UndecodableJob, match="cannot be decoded"):
        getattr(job, read)


def test_a_job_can_be_named_in_a_log_whatever_it_is_like(aside: FakeAside) -> None:
    names = [make_job(aside, message_id="m").log_id, make_job(aside).log_id, make_job(aside, raw=BROKEN).log_id]

    assert names == ["m", "delivery-7", "delivery-7"]


@pytest.mark.parametrize(
    ("settle", "outcome"),
    [
        (lambda job: job.done(), "done"),
        (lambda job: job.fail(), "dropped"),
        (lambda job: job.fail(requeue=True), "requeued"),
        (lambda job: job.give_back(), "requeued"),
        (lambda job: job.retry(1), "delayed"),
        (lambda job: job.bury("because"), "buried"),
    ],
    ids=["done", "fail", "fail with requeue", "give back", "retry", "bury"],
)
def test_each_way_to_settle_has_its_outcome_and_count(aside: FakeAside, settle: Any, outcome: str) -> None:
    job = make_job(aside)

    assert settle(job) is True
    assert (job.outcome, aside.counts[outcome]) == (outcome, 1)
    with pytest.raises(AlreadySettled):
        settle(job)


@pytest.mark.parametrize("settle", [lambda job: job.done(), lambda job: job.retry(1), lambda job: job.bury("because")])
def test_a_job_whose_channel_went_is_lost(aside: FakeAside, settle: Any) -> None:
    job = make_job(aside)
    job.delivery.settlement.close()

    assert settle(job) is False
    assert (job.outcome, aside.counts["lost"], aside.moved) == ("lost", 1, [])


def test_a_job_that_cannot_be_buried_is_unsettled_still(aside: FakeAside) -> None:
    # Given a broker that does not take it
    job = make_job(aside)
    aside.error = PutTimeout("the job was not sent")

    # When it is to be buried
    with pytest.raises(PutTimeout):
        job.bury("because")

    # Then it can be settled all the same
    assert job.outcome is None
    assert job.fail(requeue=True)


def test_a_job_with_broken_properties_can_be_buried(aside: FakeAside) -> None:
    job = make_job(aside, raw=BROKEN)

    job.bury("its headers are broken")

    ((where, headers),) = aside.moved
    assert (where, headers["hop-reason"]) == ("bury", "its headers are broken")


def test_a_job_is_shown_with_its_topic_and_outcome(aside: FakeAside) -> None:
    job = make_job(aside)
    before = repr(job)

    job.done()

    assert (before, repr(job)) == ("<Job 7 of emails, 4 bytes, unsettled>", "<Job 7 of emails, 4 bytes, done>")
