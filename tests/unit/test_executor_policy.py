"""What the executor makes of a failure policy: retried jobs and what they tell, and what a handler decides by raising it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import gevent
import pytest

import hopd
from hopd import names
from hopd.amqp import frames
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, decode, encode
from hopd.amqp.settlement import Settlement
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.config.retry import FailurePolicy, RetryPolicy
from hopd.engine.executor import Executor
from hopd.errors import PutTooLarge
from hopd.failure import MAX_TRACEBACK
from hopd.job import Job

Handler = Callable[[Job], object]

TAG = 7
ACKED = frames.ack(1, TAG, False)


class Broker:
    """What takes jobs that are set aside, and a source of itself: it declares nothing and keeps what is published."""

    server_version = (3, 10, 8)

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.room = 100_000

    def publish(self, message: Outgoing, deadline: float) -> None:
        if len(message.properties) > self.room:
            raise PutTooLarge
        self.published.append(message)

    def connection(self, deadline: float) -> Broker:
        return self

    def channel(self, deadline: float, *, ack_window: float) -> Broker:
        return self

    def declare_queue(self, name: str, deadline: float, **options: Any) -> int:
        return 0

    def close(self, deadline: float) -> None:
        """A channel's end."""


class Topic:
    """A topic `emails` that takes one delivery at a time, by a policy."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.aside = Aside(QueueSpec("emails"), self.broker, self.broker)  # type: ignore[arg-type]
        self.policy = FailurePolicy("bury", RetryPolicy(max_attempts=3, first=5.0, jitter=False))
        self.sent = b""

    def run(self, handler: Handler, given: Mapping[str, Any] | bytes = MappingProxyType({})) -> None:
        """Run the handler for a job with these headers, or these raw properties."""
        raw = given if isinstance(given, bytes) else encode(Properties(message_id="m-1", headers=given))
        delivery = Delivery(1, TAG, False, b"", raw, b"hello")
        settlement = delivery.settlement = Settlement(1, lambda settlement: None)
        settlement.opened(TAG)
        Executor(handler, self.policy, self.aside).run(delivery)
        self.sent = settlement.take(0.0)

    def run_again(self, handler: Handler) -> None:
        """Run the handler for the job as it comes back from where it was set aside."""
        self.run(handler, self.broker.published[-1].properties)

    @property
    def queue(self) -> str:
        """Where the job was set aside last."""
        return self.broker.published[-1].routing_key

    @property
    def headers(self) -> Any:
        """What it told there."""
        return decode(self.broker.published[-1].properties).headers

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.aside.counts.items() if count}


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def fails(job: Job) -> None:
    raise ValueError("no such user")


def raises(error: BaseException | type[BaseException]) -> Handler:
    def handler(job: Job) -> None:
        raise error

    return handler


# --- tried again --------------------------------------------------------------------------------


def test_a_failed_job_waits_in_the_broker_for_its_next_attempt(topic: Topic) -> None:
    topic.run(fails)

    assert topic.queue == "emails.retry.5000"
    assert topic.sent == ACKED
    assert topic.counts == {"failed": 1, "delayed": 1}


def test_a_job_that_keeps_failing_is_buried_after_its_last_attempt(topic: Topic) -> None:
    topic.run(fails)
    queues = [topic.queue]
    for _ in range(2):
        topic.run_again(fails)
        queues.append(topic.queue)

    assert queues == ["emails.retry.5000", "emails.retry.10000", "emails.buried"]
    assert topic.headers[names.REASON] == "attempt 3 of 3 failed: ValueError: no such user"
    assert topic.headers[names.ATTEMPTS] == 3


def test_attempts_are_counted_by_nobody_but_the_job_itself(topic: Topic) -> None:
    topic.run(fails, {names.ATTEMPTS: 1})

    assert (topic.queue, topic.headers[names.ATTEMPTS]) == ("emails.retry.10000", 2)


def test_deliveries_that_a_quorum_queue_has_counted_are_attempts_too(topic: Topic) -> None:
    topic.run(fails, {names.ATTEMPTS: 1, names.DELIVERY_COUNT: 1})

    assert topic.queue == "emails.buried"
    assert topic.headers[names.ATTEMPTS] == 3


def test_a_count_of_deliveries_is_not_counted_twice_when_the_job_comes_back(topic: Topic) -> None:
    topic.policy = FailurePolicy("bury", RetryPolicy())
    topic.run(fails, {names.DELIVERY_COUNT: 2})

    topic.run_again(fails)

    assert names.DELIVERY_COUNT not in topic.headers
    assert topic.headers[names.ATTEMPTS] == 4


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), gevent.GreenletExit(), gevent.Timeout(1)], ids=lambda error: type(error).__name__
)
def test_what_is_no_exception_of_the_ordinary_kind_is_not_tried_again(topic: Topic, error: BaseException) -> None:
    topic.run(raises(error))

    assert topic.queue == "emails.buried"
    assert "not tried again" in topic.headers[names.REASON]


def test_a_job_whose_headers_cannot_be_read_is_not_tried_again_without_them(topic: Topic) -> None:
    raw = b"\x20\x00\xff\xff\xff\xff"  # headers that are said to have 4 GB

    topic.run(fails, raw)

    assert topic.queue == "emails.buried"
    assert topic.headers[names.RAW_PROPERTIES] == raw


@pytest.mark.parametrize(
    ("on_failure", "sent", "outcome"),
    [("drop", ACKED, "dropped"), ("requeue", frames.reject(1, TAG, True), "requeued")],
)
def test_a_job_at_its_last_attempt_goes_the_way_of_on_failure(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, on_failure: Any, sent: bytes, outcome: str
) -> None:
    monkeypatch.setattr("hopd.engine.executor.REQUEUE_PACE", 0.0)
    topic.policy = FailurePolicy(on_failure, RetryPolicy(max_attempts=3))

    topic.run(fails, {names.ATTEMPTS: 2})

    assert topic.sent == sent
    assert topic.counts == {"failed": 1, outcome: 1}
    assert topic.broker.published == []


def test_jitter_parts_jobs_that_failed_together(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    topic.policy = FailurePolicy("bury", RetryPolicy(first=8.0))
    chances = iter([0.0, 0.99])
    monkeypatch.setattr("hopd.engine.executor.random", lambda: next(chances))

    topic.run(fails)
    topic.run(fails)

    assert [message.routing_key for message in topic.broker.published] == ["emails.retry.10000", "emails.retry.5000"]


# --- what a job tells about its failures --------------------------------------------------------


def test_a_retried_job_tells_its_last_error_and_where_it_happened(topic: Topic) -> None:
    topic.aside.instance = "01"

    topic.run(fails, {"mine": "kept"})

    assert topic.headers[names.ERROR_TYPE] == "builtins.ValueError"
    assert topic.headers[names.ERROR_MESSAGE] == "ValueError: no such user"
    assert "in fails" in topic.headers[names.ERROR_TRACEBACK]
    assert topic.headers[names.HOST] == socket.gethostname()
    assert topic.headers[names.INSTANCE] == "01"
    assert topic.headers["mine"] == "kept"


def test_the_time_of_the_first_failure_stays_and_the_last_error_is_the_last(topic: Topic) -> None:
    topic.run(fails)
    first = topic.headers[names.FIRST_FAILED_AT]
    assert datetime.fromisoformat(first).utcoffset() is not None

    topic.run(
        raises(KeyError("another")), encode(Properties(headers={**topic.headers, names.FIRST_FAILED_AT: "2001-01-01T00:00:00+00:00"}))
    )

    assert topic.headers[names.FIRST_FAILED_AT] == "2001-01-01T00:00:00+00:00"
    assert topic.headers[names.ERROR_TYPE] == "builtins.KeyError"


def test_a_traceback_is_trimmed_to_its_end(topic: Topic) -> None:
    topic.run(raises(ValueError("x" * 100_000 + " the end")))

    assert len(topic.headers[names.ERROR_TRACEBACK]) == MAX_TRACEBACK
    assert topic.headers[names.ERROR_TRACEBACK].endswith("the end\n")


def test_a_job_with_headers_of_its_own_up_to_the_limit_still_counts_its_attempts(topic: Topic) -> None:
    topic.broker.room = 2000

    topic.run(fails, {"mine": "x" * 1900})

    assert topic.headers == {"mine": "x" * 1900, names.ATTEMPTS: 1}
    assert topic.sent == ACKED


def test_an_attempt_that_is_not_the_last_is_a_warning_and_the_last_an_error(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    topic.run(fails)
    topic.run(fails, {names.ATTEMPTS: 2})

    seen = [(record.levelname, vars(record)["outcome"], vars(record).get("delay")) for record in caplog.records]
    assert seen == [("WARNING", "delayed", 5.0), ("ERROR", "buried", None)]


# --- what a handler decides by raising it -------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "queue", "outcome"),
    [
        (hopd.Retry(after=60), "emails.retry.60000", "delayed"),
        (hopd.Retry("10m"), "emails.retry.600000", "delayed"),
        (hopd.Retry(0), "emails.retry.100", "delayed"),
        (hopd.Retry, "emails.retry.5000", "delayed"),
        (hopd.Bury("no such customer"), "emails.buried", "buried"),
        (hopd.Bury, "emails.buried", "buried"),
    ],
)
def test_a_handler_may_raise_what_becomes_of_its_job(topic: Topic, decision: Any, queue: str, outcome: str) -> None:
    topic.run(raises(decision))

    assert topic.queue == queue
    assert topic.sent == ACKED
    assert topic.counts == {outcome: 1}


def test_a_dropped_job_is_acked_and_goes_nowhere(topic: Topic) -> None:
    topic.run(raises(hopd.Drop))

    assert topic.sent == ACKED
    assert topic.counts == {"dropped": 1}
    assert topic.broker.published == []


def test_a_retry_that_the_handler_wants_is_not_bound_to_the_attempts(topic: Topic) -> None:
    topic.run(raises(hopd.Retry), {names.ATTEMPTS: 99})

    assert topic.queue.startswith("emails.retry.")
    assert topic.headers[names.ATTEMPTS] == 100


def test_a_reason_that_is_raised_is_what_the_buried_job_tells(topic: Topic) -> None:
    topic.run(raises(hopd.Bury("no such customer \udc80")))

    assert topic.headers[names.REASON] == "no such customer \\udc80"


def test_a_decision_is_no_failure_and_no_case_for_a_traceback(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    topic.run(raises(hopd.Retry(60)))

    (record,) = caplog.records
    about = {key: vars(record)[key] for key in ("event", "topic", "job", "attempt", "outcome", "delay")}
    assert about == {"event": "job_decided", "topic": "emails", "job": "m-1", "attempt": 1, "outcome": "delayed", "delay": 60.0}
    assert record.levelname == "INFO"
    assert not record.exc_info


@pytest.mark.parametrize("explicitly", [True, False])
def test_a_decision_tells_the_error_that_led_to_it(topic: Topic, explicitly: bool) -> None:
    def handler(job: Job) -> None:
        try:
            fails(job)
        except ValueError as error:
            if explicitly:
                raise hopd.Retry(60) from error
            raise hopd.Retry(60)  # noqa: B904 - the other way

    topic.run(handler)

    assert topic.headers[names.ERROR_TYPE] == "builtins.ValueError"
    assert "in fails" in topic.headers[names.ERROR_TRACEBACK]


def test_a_decision_without_an_error_tells_of_none(topic: Topic) -> None:
    topic.run(raises(hopd.Bury("no such customer")))

    assert names.ERROR_TYPE not in topic.headers
    assert topic.headers[names.ATTEMPTS] == 1


def test_a_decision_about_a_settled_job_changes_nothing(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    def handler(job: Job) -> None:
        job.done()
        raise hopd.Bury("too late")

    topic.run(handler)

    assert topic.counts == {"done": 1}
    assert topic.broker.published == []
    assert [vars(record)["event"] for record in caplog.records] == ["settled_twice"]


def test_a_job_that_ran_too_long_has_failed(topic: Topic) -> None:
    topic.run(raises(hopd.JobTimeout))

    assert topic.queue == "emails.retry.5000"
    assert topic.counts == {"failed": 1, "delayed": 1}


# --- the same by the job's own methods ----------------------------------------------------------


def told(topic: Topic) -> dict[str, Any]:
    """What the job told, but for the time and the place in the code."""
    return {
        key: value for key, value in topic.headers.items() if key not in (names.FIRST_FAILED_AT, names.BURIED_AT, names.ERROR_TRACEBACK)
    }


def failing(settle: Callable[[Job, Exception], object]) -> Handler:
    """A handler that fails in the middle and then settles its job with what it knows."""

    def handler(job: Job) -> None:
        try:
            fails(job)
        except ValueError as error:
            settle(job, error)

    return handler


def retry_by_raising(job: Job, error: Exception) -> None:
    raise hopd.Retry(60) from error


def bury_by_raising(job: Job, error: Exception) -> None:
    raise hopd.Bury("no such customer") from error


@pytest.mark.parametrize(
    ("by_raising", "by_calling"),
    [
        (retry_by_raising, lambda job, error: job.retry("1m", error=error)),
        (bury_by_raising, lambda job, error: job.bury("no such customer", error=error)),
    ],
    ids=["retry", "bury"],
)
def test_a_job_settled_by_calling_tells_what_one_settled_by_raising_tells(topic: Topic, by_raising: Any, by_calling: Any) -> None:
    topic.aside.instance = "01"
    topic.run(failing(by_raising), {names.ATTEMPTS: 1})
    queue, headers, counts = topic.queue, told(topic), topic.counts

    topic.run(failing(by_calling), {names.ATTEMPTS: 1})

    assert (topic.queue, told(topic)) == (queue, headers)
    assert topic.counts == {outcome: 2 * count for outcome, count in counts.items()}


@pytest.mark.parametrize("after", [-1, float("nan"), "soon", "31d"])
def test_a_delay_that_makes_no_sense_is_refused_and_the_job_has_failed(topic: Topic, after: Any) -> None:
    topic.run(lambda job: job.retry(after))

    assert topic.headers[names.ERROR_TYPE] == "builtins.ValueError"
    assert topic.queue == "emails.retry.5000"
