"""Buried jobs, against a queue and a publisher that log what happens to them, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopd import buried as buried_module
from hopd import names
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, decode, encode
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.buried import PAGE, Buried, BuriedJob, buried_job
from hopd.errors import BrokerRefused, NotBuried, PutError, PutManyFailed, PutRefused, Unroutable

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

#: Patience that no test needs. Seconds.
TIMEOUT = 30.0


def delivery(tag: int, job_id: str | None = None, **headers: Any) -> Delivery:
    return Delivery(1, tag, False, b"", encode(Properties(message_id=job_id, headers=headers)), b"body")


def aged(tag: int, age: int) -> Delivery:
    """A job named by its age: 0 is the oldest."""
    return delivery(tag, str(age), **{names.BURIED_AT: (START + timedelta(seconds=age)).isoformat()})


class FakeQueue:
    """Browser, link, publisher and queue in one. `log` has what was put and what was settled, in order."""

    def __init__(self, jobs: Sequence[Delivery] = ()) -> None:
        self.jobs = list(jobs)
        self.log: list[str] = []
        self.put: list[Outgoing] = []
        self.failures: dict[int, PutError] = {}
        self.crash: BaseException | None = None
        self.missing: BrokerRefused | None = None
        self.seen: list[Delivery] = []
        self.settled: set[int] = set()

    # A link.

    def connection(self, deadline: float) -> None:
        return None

    # A browser.

    def browse(self, connection: None, queue: str, timeout: float) -> FakeQueue:
        self.seen = []
        return self

    def __enter__(self) -> FakeQueue:
        return self

    def __exit__(self, *error: object) -> None:
        # As a quorum queue does: what was looked at comes first, in an order of its own.
        returned = [one for one in self.seen if one.tag not in self.settled]
        self.jobs = returned[::-1] + [one for one in self.jobs if one.tag not in self.settled and one not in returned]

    def page(self, count: int) -> list[Delivery]:
        if self.missing is not None:
            raise self.missing
        page = [one for one in self.jobs if one not in self.seen][:count]
        self.seen += page
        return page

    @property
    def left(self) -> int:
        return sum(one.tag not in self.settled for one in self.seen)

    def settle(self, one: Delivery) -> None:
        self.settled.add(one.tag)
        self.log.append(f"settle {one.tag}")

    # A publisher.

    def publish_many(self, messages: Iterable[Outgoing], timeout: float) -> tuple[int, dict[int, PutError]]:
        sent = list(messages)
        self.put += sent
        self.log += [f"put {message.message_id}" for message in sent]
        if self.crash is not None:
            raise self.crash
        return len(sent) - len(self.failures), dict(self.failures)


def make(queue: FakeQueue, monkeypatch: pytest.MonkeyPatch, kind: str = "classic") -> Buried:
    monkeypatch.setattr(buried_module, "Browser", queue.browse)
    return Buried(QueueSpec("emails", True, kind), queue, queue)  # type: ignore[arg-type]


def ids(jobs: Iterable[BuriedJob]) -> list[str | None]:
    return [job.id for job in jobs]


# --- publish, confirm, settle -------------------------------------------------------------------


def test_a_job_is_taken_away_only_after_it_is_confirmed_in_its_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue([delivery(1, "a"), delivery(2, "b")])

    assert make(queue, monkeypatch).kick(2, TIMEOUT) == 2

    assert queue.log == ["put a", "put b", "settle 1", "settle 2"]
    assert {(message.exchange, message.routing_key) for message in queue.put} == {("", "emails")}


def test_a_crash_between_put_and_settle_leaves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue([delivery(1, "a")])
    queue.crash = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        make(queue, monkeypatch).kick(1, TIMEOUT)

    assert queue.log == ["put a"]


@pytest.mark.parametrize("which", ["number", "ids"])
def test_a_job_that_is_not_confirmed_stays_buried(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    queue = FakeQueue([delivery(tag, str(tag)) for tag in range(1, 4)])
    queue.failures = {1: PutRefused()}
    buried = make(queue, monkeypatch)

    with pytest.raises(PutManyFailed) as failed:
        buried.kick(3, TIMEOUT) if which == "number" else buried.kick_ids(["1", "2", "3"], TIMEOUT)

    assert queue.settled == {1, 3}
    assert (failed.value.confirmed, list(failed.value.failures)) == (2, [1])


def test_a_failure_tells_all_that_were_kicked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue([delivery(tag, str(tag)) for tag in range(PAGE + 10)])
    buried = make(queue, monkeypatch)
    publish_many = queue.publish_many

    def fail_later(messages: Iterable[Outgoing], timeout: float) -> tuple[int, dict[int, PutError]]:
        queue.failures = {3: Unroutable()} if queue.settled else {}
        return publish_many(messages, timeout)

    monkeypatch.setattr(queue, "publish_many", fail_later)

    with pytest.raises(PutManyFailed) as failed:
        buried.kick(PAGE + 10, TIMEOUT)

    assert (failed.value.confirmed, list(failed.value.failures)) == (PAGE + 9, [PAGE + 3])


# --- which ones ---------------------------------------------------------------------------------


def test_a_kick_takes_no_more_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue([delivery(tag, str(tag)) for tag in range(2000)])

    make(queue, monkeypatch).kick(PAGE + 7, TIMEOUT)

    assert (len(queue.seen), len(queue.settled)) == (PAGE + 7, PAGE + 7)


def test_ids_are_looked_for_until_all_are_found_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue([delivery(tag, str(tag)) for tag in range(3 * PAGE)])

    assert make(queue, monkeypatch).kick_ids([str(PAGE + 1), "4", "4"], TIMEOUT) == 2

    assert (queue.settled, len(queue.seen)) == ({4, PAGE + 1}, 2 * PAGE)


def test_many_ids_that_are_not_there_are_told_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [f"x{number}" for number in range(1000)]

    with pytest.raises(NotBuried) as told:
        make(FakeQueue([delivery(1, "a")]), monkeypatch).kick_ids([*missing, "a"], TIMEOUT)

    assert (told.value.missing, told.value.kicked) == (tuple(missing), 1)
    assert len(str(told.value)) < 300


def test_a_job_without_an_id_or_with_broken_properties_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Delivery(1, 2, False, b"", b"\x20\x00\xff", b"body")
    queue = FakeQueue([delivery(1), broken, delivery(3, "a")])

    assert make(queue, monkeypatch).kick_ids(["a"], TIMEOUT) == 1
    assert queue.settled == {3}


@pytest.mark.parametrize("count", [0, -1])
def test_a_kick_of_none_is_a_mistake(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        make(FakeQueue(), monkeypatch).kick(count, TIMEOUT)


def test_only_a_missing_queue_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue()
    buried = make(queue, monkeypatch)

    queue.missing = BrokerRefused("no queue", code=404)
    assert buried.look(10, TIMEOUT) == []
    queue.missing = BrokerRefused("no permission", code=403)
    with pytest.raises(BrokerRefused):
        buried.look(10, TIMEOUT)


# --- the order of a quorum queue ----------------------------------------------------------------


@settings(deadline=None)
@given(depth=st.integers(1, 12), steps=st.lists(st.tuples(st.sampled_from(["look", "kick"]), st.integers(1, 15)), max_size=6))
def test_the_oldest_come_first_though_the_queue_forgets_their_order(depth: int, steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(buried_module, "PAGE", 4)
        queue = FakeQueue([aged(tag, tag) for tag in range(depth)])
        buried = make(queue, monkeypatch, "quorum")
        expected = [str(age) for age in range(depth)]
        for step, count in steps:
            if step == "look":
                assert ids(buried.look(count, TIMEOUT)) == expected[:count]
            else:
                queue.put.clear()
                assert buried.kick(count, TIMEOUT) == min(count, len(expected))
                assert [message.message_id for message in queue.put] == expected[:count]
                del expected[:count]


def test_looking_at_a_quorum_queue_goes_no_deeper_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue([aged(tag, tag) for tag in range(10 * PAGE)])
    buried = make(queue, monkeypatch, "quorum")

    depths = []
    for _ in range(5):
        buried.look(3, TIMEOUT)
        depths.append(len(queue.seen))

    assert depths == [PAGE] * 5


# --- what is known of a job ---------------------------------------------------------------------


def test_what_hopd_wrote_is_read_back() -> None:
    headers = {
        "x": 1,
        names.REASON: "attempt 3 failed",
        names.ERROR_MESSAGE: "ValueError: no",
        names.ATTEMPTS: 3,
        names.BURIED_AT: "2026-01-02T03:04:05.000+00:00",
    }

    job = buried_job(delivery(1, "a", **headers))

    assert job == BuriedJob("a", b"body", "attempt 3 failed", "ValueError: no", 3, START, headers)


@pytest.mark.parametrize(
    ("headers", "reason", "buried_at"),
    [
        ({"x-death": [{"reason": "delivery_limit", "time": START}]}, "set aside by the broker: delivery_limit", START),
        ({}, "set aside by the broker: it does not say why", None),
        ({names.BURIED_AT: "2026-01-02T03:04:05"}, "set aside by the broker: it does not say why", START),
    ],
    ids=["dead-lettered", "nothing", "a time without a zone"],
)
def test_what_others_buried_says_what_can_be_known(headers: dict[str, Any], reason: str, buried_at: datetime | None) -> None:
    job = buried_job(delivery(1, "a", **headers))

    assert (job.reason, job.buried_at, job.attempts, job.error) == (reason, buried_at, 0, None)


def test_a_job_whose_properties_are_broken_is_shown_with_that_as_its_reason() -> None:
    job = buried_job(Delivery(1, 1, False, b"", b"\x20\x00\xff", b"body"))

    assert (job.id, job.body, job.attempts) == (None, b"body", 0)
    assert "cannot be decoded" in job.reason


#: No wire carries other numbers.
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), FLOATS, st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)),
    max_leaves=5,
)
WORDS = st.sampled_from(sorted(names.FAILURE | names.DEAD_LETTERED))


@settings(deadline=None)
@given(st.dictionaries(WORDS, ANYTHING, max_size=6))
def test_headers_written_by_anybody_can_be_shown_and_put_in_order(headers: dict[str, Any]) -> None:
    strange, other = delivery(1, "a", **headers), aged(2, 5)

    with pytest.MonkeyPatch.context() as monkeypatch:
        jobs = make(FakeQueue([other, strange]), monkeypatch, "quorum").look(2, TIMEOUT)

    assert sorted(map(str, ids(jobs))) == ["5", "a"]
    assert all(isinstance(job.reason, str) and job.attempts >= 0 for job in jobs)


# --- a kicked job begins anew -------------------------------------------------------------------


@pytest.mark.parametrize("word", sorted(names.FAILURE | names.DEAD_LETTERED | {names.DELIVERY_COUNT, names.DELAY_LEFT}))
def test_what_is_known_of_its_failures_does_not_go_along(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    queue = FakeQueue([delivery(1, "a", **{"x": 1, word: "anything"})])

    make(queue, monkeypatch).kick(1, TIMEOUT)

    assert decode(queue.put[0].properties).headers == {"x": 1}


def test_all_else_goes_along_and_the_job_does_not_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Properties(
        content_type="text/plain", headers={"x": 1}, delivery_mode=2, priority=3, expiration="1000", message_id="a", timestamp=5
    )
    queue = FakeQueue([Delivery(1, 1, False, b"", encode(given), b"body")])

    make(queue, monkeypatch).kick(1, TIMEOUT)

    assert decode(queue.put[0].properties) == Properties(
        content_type="text/plain", headers={"x": 1}, delivery_mode=2, priority=3, message_id="a", timestamp=5
    )
    assert queue.put[0].body == b"body"


def test_properties_that_could_not_be_decoded_go_along_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    headers: dict[str, Any] = {names.RAW_PROPERTIES: b"\x20\x00\xff", names.REASON: "undecodable"}
    queue = FakeQueue([delivery(1, **headers)])

    make(queue, monkeypatch).kick(1, TIMEOUT)

    assert decode(queue.put[0].properties).headers == {names.RAW_PROPERTIES: b"\x20\x00\xff"}
