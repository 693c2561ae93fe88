"""One job from its handler to its settlement: every outcome, every way a handler can misbehave."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
import pytest
from gevent.event import Event

from hopd import names
from hopd.amqp import frames
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, decode, encode
from hopd.amqp.settlement import Settlement
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.config.retry import FailurePolicy, Outcome, RetryAfter
from hopd.engine import executor as executor_module
from hopd.engine.executor import Abandoned, Executor
from hopd.errors import AlreadySettled, BrokerBlocked, BrokerUnreachable, PutTimeout, PutUncertain
from hopd.job import Job
from hopd.logs import RUNNING
from tests.support.loop import run_until, take_turns

TAG = 7

Handler = Callable[[Job], object]


class Broker:
    """The publishing side of a broker: keeps what is published, after failing as often as it was told to."""

    server_version = (3, 10, 8)

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.troubles: list[BaseException] = []
        self.gate: Event | None = None

    def publish(self, message: Outgoing, deadline: float) -> None:
        if self.gate is not None:
            self.gate.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        self.published.append(message)

    # A source, its connection and that one's channels, as far as declaring a queue needs them.

    def connection(self, deadline: float) -> Broker:
        return self

    def channel(self, deadline: float, *, ack_window: float) -> Broker:
        return self

    def declare_queue(self, name: str, deadline: float, **options: Any) -> int:
        return 0

    def close(self, deadline: float) -> None:
        """A channel's end."""


class Topic:
    """A topic with one delivery: its broker, its settlement, its counters."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.aside = Aside(QueueSpec("emails"), self.broker, self.broker)  # type: ignore[arg-type]
        self.settlement = Settlement(1, lambda settlement: None)

    def run(self, handler: Handler, *, on_failure: str = "bury", properties: Properties | bytes = b"\0\0", body: bytes = b"hello") -> None:
        self.run_with(FailurePolicy(on_failure), handler, properties, body)  # type: ignore[arg-type]

    def run_with(self, policy: Any, handler: Handler, properties: Properties | bytes = b"\0\0", body: bytes = b"hello") -> None:
        Executor(handler, policy, self.aside).run(self.delivery(properties, body))

    def delivery(self, properties: Properties | bytes = b"\0\0", body: bytes = b"hello") -> Delivery:
        raw = encode(properties) if isinstance(properties, Properties) else properties
        one = Delivery(1, TAG, False, b"", raw, body)
        one.settlement = self.settlement
        self.settlement.opened(TAG)
        return one

    @property
    def sent(self) -> bytes:
        """What goes to the broker about the delivery."""
        return self.settlement.take(0.0)

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.aside.counts.items() if count}

    @property
    def buried(self) -> Properties:
        (message,) = self.broker.published
        assert message.routing_key == "emails.buried"
        return decode(message.properties)


ACKED = frames.ack(1, TAG, False)
NOTHING = b""


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "REQUEUE_PACE", 0.0)
    monkeypatch.setattr(executor_module, "ASIDE_PAUSE", 0.001)


def fails(job: Job) -> None:
    raise ValueError("no such user")


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["event"] for record in caplog.records if "event" in vars(record)]


# --- every outcome --------------------------------------------------------------------------------


def test_a_handler_that_returns_has_done_its_job(topic: Topic) -> None:
    topic.run(lambda job: None)

    assert topic.sent == ACKED
    assert topic.counts == {"done": 1}


@pytest.mark.parametrize(
    ("settle", "sent", "outcome"),
    [
        (lambda job: job.done(), ACKED, "done"),
        (lambda job: job.fail(requeue=True), frames.reject(1, TAG, True), "requeued"),
        (lambda job: job.fail(), frames.reject(1, TAG, False), "dropped"),
        (lambda job: job.give_back(), frames.nack(1, TAG, True), "requeued"),
        (lambda job: job.retry(5), ACKED, "delayed"),
        (lambda job: job.bury("broken"), ACKED, "buried"),
    ],
    ids=["done", "requeue", "drop", "give back", "retry", "bury"],
)
def test_what_a_handler_settles_itself_stands(topic: Topic, settle: Handler, sent: bytes, outcome: str) -> None:
    topic.run(settle)

    assert topic.sent == sent
    assert topic.counts == {outcome: 1}


@pytest.mark.parametrize(
    ("on_failure", "sent", "outcome", "published"),
    [
        ("bury", ACKED, "buried", ["emails.buried"]),
        ("requeue", frames.reject(1, TAG, True), "requeued", []),
        ("drop", ACKED, "dropped", []),
    ],
)
def test_the_policy_decides_about_a_handler_that_raises(
    topic: Topic, on_failure: str, sent: bytes, outcome: str, published: list[str]
) -> None:
    topic.run(fails, on_failure=on_failure)

    assert topic.sent == sent
    assert topic.counts == {"failed": 1, outcome: 1}
    assert [message.routing_key for message in topic.broker.published] == published


def test_a_policy_that_tries_again_later_delays_the_job(topic: Topic) -> None:
    class Later:
        def decide(self, *about: object) -> Outcome:
            return RetryAfter(5.0)

    topic.run_with(Later(), fails)

    assert topic.counts == {"failed": 1, "delayed": 1}
    assert decode(topic.broker.published[0].properties).headers[names.ATTEMPTS] == 1


def test_a_requeued_job_waits_so_that_it_does_not_come_straight_back(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "REQUEUE_PACE", 0.01)
    worker = gevent.spawn(topic.run, fails, on_failure="requeue")

    take_turns(3)
    at_once = topic.sent
    worker.join()

    assert at_once == NOTHING
    assert topic.sent == frames.reject(1, TAG, True)


# --- a handler may raise anything -------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("cannot be shown")


def recurse(job: Job) -> None:
    recurse(job)


def raises(error: BaseException) -> Handler:
    def handler(job: Job) -> None:
        raise error

    return handler


ANYTHING: Mapping[str, Handler] = {
    "Exception": raises(ValueError("no such user")),
    "SystemExit": raises(SystemExit(1)),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "GreenletExit": raises(gevent.GreenletExit()),
    "RecursionError": recurse,
    "MemoryError": raises(MemoryError()),
    "Timeout": raises(gevent.Timeout(5)),
    "StopIteration": raises(StopIteration()),
    "unprintable": raises(Unprintable()),
    "half a surrogate": raises(ValueError("\udc80")),
    "BaseException": raises(BaseException("bare")),
}


@pytest.mark.parametrize("handler", ANYTHING.values(), ids=ANYTHING)
def test_whatever_a_handler_raises_fails_its_job_and_nothing_else(topic: Topic, handler: Handler) -> None:
    topic.run(handler)

    assert topic.sent == ACKED
    assert topic.counts == {"failed": 1, "buried": 1}
    assert topic.buried.headers[names.REASON]


def test_only_abandoned_leaves_and_the_job_stays_the_brokers(topic: Topic) -> None:
    with pytest.raises(Abandoned):
        topic.run(raises(Abandoned()))

    assert topic.sent == NOTHING
    assert topic.settlement.unsettled == 1
    assert topic.counts == {}


def test_a_failure_is_logged_with_what_finds_the_job(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    topic.run(fails, properties=Properties(message_id="m-1", headers={names.ATTEMPTS: 2}))

    (record,) = [vars(record) for record in caplog.records]
    about = {key: record[key] for key in ("event", "topic", "job", "attempt", "outcome")}
    assert about == {"event": "job_failed", "topic": "emails", "job": "m-1", "attempt": 3, "outcome": "buried"}
    assert record["exc_info"]


@pytest.mark.parametrize("message", ["two\nlines", "a\r\nb"])
def test_a_failure_takes_one_line_in_the_log(topic: Topic, caplog: pytest.LogCaptureFixture, message: str) -> None:
    topic.run(raises(ValueError(message)))

    assert "\n" not in caplog.messages[0]
    assert "\r" not in caplog.messages[0]
    assert "ValueError" in caplog.messages[0]


def test_a_note_does_not_take_the_place_of_the_error(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    error: Any = ValueError("no such user")
    error.__notes__ = ["user 17"]  # what add_note() does from Python 3.11 on

    topic.run(raises(error))

    assert "no such user" in caplog.messages[0]
    assert "no such user" in topic.buried.headers[names.ERROR_MESSAGE]


def test_the_job_is_known_to_the_log_while_it_runs_and_not_after(topic: Topic) -> None:
    seen: list[Any] = []

    topic.run(lambda job: seen.append(RUNNING.get()))

    assert [context.topic for context in seen] == ["emails"]
    assert RUNNING.get() is None


# --- what a buried job tells --------------------------------------------------------------------------


def test_a_buried_job_tells_why_and_after_how_many_attempts(topic: Topic) -> None:
    topic.run(fails, properties=Properties(message_id="m-1", content_type="text/x", headers={names.ATTEMPTS: 2, "mine": "kept"}))

    headers = topic.buried.headers
    assert headers[names.REASON] == "attempt 3 failed: ValueError: no such user"
    assert headers[names.ERROR_TYPE] == "builtins.ValueError"
    assert "no such user" in headers[names.ERROR_MESSAGE]
    assert "in fails" in headers[names.ERROR_TRACEBACK]
    assert headers[names.ATTEMPTS] == 3
    assert headers[names.TOPIC] == "emails"
    assert headers["mine"] == "kept"
    assert (topic.buried.message_id, topic.buried.content_type) == ("m-1", "text/x")
    assert topic.broker.published[0].body == b"hello"


def test_a_long_traceback_keeps_its_end(topic: Topic) -> None:
    topic.run(raises(ValueError("x" * 100_000 + " the end")))

    assert topic.buried.headers[names.ERROR_TRACEBACK].endswith("the end\n")
    assert len(encode(topic.buried)) < 20_000


def test_a_message_that_cannot_be_decoded_is_buried_with_its_properties_as_they_came(topic: Topic) -> None:
    raw = b"\x20\x00\xff\xff\xff\xff"  # headers that are said to have 4 GB

    topic.run(lambda job: job.headers, properties=raw)

    assert topic.counts == {"failed": 1, "buried": 1}
    assert topic.buried.headers[names.RAW_PROPERTIES] == raw
    assert topic.buried.headers[names.ATTEMPTS] == 1
    assert "UndecodableJob" in topic.buried.headers[names.REASON]


def test_a_message_that_cannot_be_decoded_is_done_when_its_handler_does_not_look(topic: Topic) -> None:
    topic.run(lambda job: job.body, properties=b"\x20\x00\xff\xff\xff\xff")

    assert topic.counts == {"done": 1}


def test_a_message_whose_properties_decode_but_fit_no_frame_again_is_buried_all_the_same(topic: Topic) -> None:
    # Given a content type of 200 bytes that are no UTF-8: as text, and encoded again, each of them has three
    raw = b"\x80\x00" + bytes([200]) + b"\xff" * 200

    topic.run(fails, properties=raw)

    assert topic.counts == {"failed": 1, "buried": 1}
    assert topic.buried.headers[names.RAW_PROPERTIES] == raw


# --- settled twice ------------------------------------------------------------------------------------


def test_the_first_of_two_settlements_stands_and_the_second_is_an_error_to_the_handler(topic: Topic) -> None:
    seen: list[BaseException] = []

    def handler(job: Job) -> None:
        job.done()
        try:
            job.fail(requeue=True)
        except AlreadySettled as error:
            seen.append(error)

    topic.run(handler)

    assert topic.sent == ACKED
    assert topic.counts == {"done": 1}
    assert len(seen) == 1


def test_a_handler_that_settles_twice_and_does_not_catch_it_has_not_failed(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    def handler(job: Job) -> None:
        job.done()
        job.bury("twice")

    topic.run(handler)

    assert topic.sent == ACKED
    assert topic.counts == {"done": 1}
    assert events(caplog) == ["settled_twice"]


def test_a_handler_that_settles_and_raises_has_failed_but_its_settlement_stands(topic: Topic, caplog: pytest.LogCaptureFixture) -> None:
    def handler(job: Job) -> None:
        job.fail(requeue=True)
        raise ValueError("and then it broke")

    topic.run(handler)

    assert topic.sent == frames.reject(1, TAG, True)
    assert topic.counts == {"failed": 1, "requeued": 1}
    assert vars(caplog.records[0])["outcome"] == "requeued"


def test_a_job_settled_by_another_greenlet_while_it_runs_is_settled_once(topic: Topic) -> None:
    def handler(job: Job) -> None:
        gevent.spawn(job.fail, requeue=True).join()

    topic.run(handler)

    assert topic.sent == frames.reject(1, TAG, True)
    assert topic.counts == {"requeued": 1}


def test_a_job_that_another_greenlet_is_about_to_bury_is_not_done_by_its_handlers_return(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a bury that waits for the broker's confirm while the handler returns
    topic.broker.gate = Event()
    greenlets: list[gevent.Greenlet[..., Any]] = []

    def handler(job: Job) -> None:
        greenlets.append(gevent.spawn(job.bury, "by another"))
        take_turns(2)

    topic.run(handler)
    unsettled = topic.sent
    topic.broker.gate.set()
    gevent.joinall(greenlets)

    assert unsettled == NOTHING
    assert topic.sent == ACKED
    assert topic.counts == {"buried": 1}
    assert events(caplog) == ["settled_twice"]


def test_a_handler_that_trips_over_another_job_has_failed(topic: Topic) -> None:
    """The error says that a job is settled already; it does not say that this one is."""
    topic.run(raises(AlreadySettled()))

    assert topic.sent == ACKED
    assert topic.counts == {"failed": 1, "buried": 1}


# --- a broker that does not take it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [PutTimeout(), BrokerBlocked(), PutUncertain(), BrokerUnreachable(), gevent.Timeout(1)],
    ids=lambda error: type(error).__name__,
)
def test_a_job_that_cannot_be_set_aside_is_held_until_it_can(
    topic: Topic, trouble: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a broker that does not confirm, twice
    topic.broker.troubles = [trouble, trouble]

    topic.run(fails)

    assert len(topic.broker.published) == 1
    assert topic.sent == ACKED
    assert topic.counts == {"failed": 1, "buried": 1}
    assert events(caplog) == ["job_failed", "aside_waits", "aside_waits"]


def test_nothing_is_settled_while_a_job_waits_to_be_set_aside(topic: Topic) -> None:
    topic.broker.troubles = [PutTimeout()] * 1000
    worker = gevent.spawn(topic.run, fails)

    run_until(lambda: len(topic.broker.troubles) < 995)

    assert topic.sent == NOTHING
    assert topic.settlement.unsettled == 1
    topic.broker.troubles.clear()
    worker.join()


def test_a_job_whose_channel_goes_while_it_waits_is_lost_and_not_buried(topic: Topic) -> None:
    topic.broker.troubles = [PutTimeout()] * 1000
    worker = gevent.spawn(topic.run, fails)
    run_until(lambda: len(topic.broker.troubles) < 995)

    topic.settlement.close()
    worker.join()

    assert topic.broker.published == []
    assert topic.counts == {"failed": 1, "lost": 1}


def test_a_worker_that_is_abandoned_while_its_job_waits_leaves_it_to_the_broker(topic: Topic) -> None:
    topic.broker.troubles = [PutTimeout()] * 1000
    worker = gevent.spawn(topic.run, fails)
    run_until(lambda: len(topic.broker.troubles) < 995)

    worker.kill(Abandoned)

    assert isinstance(worker.exception, Abandoned)
    assert topic.settlement.unsettled == 1
    assert topic.sent == NOTHING


@pytest.mark.parametrize("handler", [lambda job: None, fails], ids=["returns", "raises"])
def test_a_job_whose_channel_is_gone_when_its_handler_ends_is_lost(topic: Topic, handler: Handler) -> None:
    def ends_late(job: Job) -> None:
        topic.settlement.close()
        handler(job)

    topic.run(ends_late)

    assert topic.sent == NOTHING
    assert topic.counts["lost"] == 1
    assert "done" not in topic.counts
    assert "buried" not in topic.counts


@pytest.fixture(autouse=True)
def quiet_greenlets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert RUNNING.get() is None
