"""Jobs that a daemon does not run: those that came before their time, and those that are too large."""

from __future__ import annotations

from time import time
from typing import Any

import gevent
import pytest

from hopd import names
from hopd.amqp import frames
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, decode, encode
from hopd.amqp.settlement import Settlement
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.config.retry import FailurePolicy
from hopd.engine import executor as executor_module
from hopd.engine.executor import Abandoned, Executor
from hopd.errors import BrokerBlocked
from hopd.job import Job
from tests.support.loop import run_until

TAG = 7
MAX_BODY = 100
ACKED = frames.ack(1, TAG, False)


class Broker:
    """Keeps what is published, after failing as often as it was told to; has every queue."""

    server_version = (3, 10, 8)

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.troubles: list[Exception] = []

    def publish(self, message: Outgoing, deadline: float) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
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
    """A topic that runs one delivery, and keeps the bodies that reached its handler."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.aside = Aside(QueueSpec("emails"), self.broker, self.broker)  # type: ignore[arg-type]
        self.settlement = Settlement(1, lambda settlement: None)
        self.handled: list[bytes] = []

    def handler(self, job: Job) -> None:
        self.handled.append(job.body)

    def run(self, body: bytes = b"hello", *, max_body: int | None = MAX_BODY, raw: bytes | None = None, **headers: Any) -> None:
        one = Delivery(1, TAG, False, b"", encode(Properties(headers=headers, message_id="7")) if raw is None else raw, body)
        one.settlement = self.settlement
        self.settlement.opened(TAG)
        Executor(self.handler, FailurePolicy(), self.aside, max_body=max_body).run(one)

    @property
    def sent(self) -> bytes:
        return self.settlement.take(0.0)

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.aside.counts.items() if count}

    @property
    def put(self) -> tuple[str, Properties]:
        (message,) = self.broker.published
        return message.routing_key, decode(message.properties)


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "ASIDE_PAUSE", 0.001)


def due_in(seconds: float) -> dict[str, Any]:
    return {names.DUE_AT: round((time() + seconds) * 1000)}


# --- before their time --------------------------------------------------------------------------


def test_a_job_before_its_time_waits_on_and_is_not_run(topic: Topic) -> None:
    topic.run(**due_in(3600), x=1)

    queue, properties = topic.put
    assert (topic.handled, topic.sent, queue) == ([], ACKED, "emails.retry.3600000")
    assert (properties.message_id, properties.headers["x"], properties.headers[names.DELAY_LEFT]) == ("7", 1, 0)


def test_waiting_on_counts_as_nothing(topic: Topic) -> None:
    topic.run(**due_in(3600))

    assert topic.counts == {}
    assert names.ATTEMPTS not in topic.put[1].headers


@pytest.mark.parametrize(
    "headers", [due_in(-1), {**due_in(3600), names.DELAY_LEFT: 0}, {names.DUE_AT: "soon"}], ids=["past", "over", "text"]
)
def test_a_job_whose_time_has_come_is_run(topic: Topic, headers: dict[str, Any]) -> None:
    topic.run(**headers)

    assert (topic.handled, topic.counts) == ([b"hello"], {"done": 1})


def test_a_job_that_cannot_wait_on_yet_is_held(topic: Topic) -> None:
    topic.broker.troubles = [BrokerBlocked(), gevent.Timeout(1)]

    topic.run(**due_in(3600))

    assert topic.put[0] == "emails.retry.3600000"
    assert (topic.handled, topic.sent) == ([], ACKED)


def test_a_job_whose_channel_goes_before_it_waits_on_is_the_brokers(topic: Topic) -> None:
    topic.settlement.close()

    topic.run(**due_in(3600))

    assert (topic.handled, topic.broker.published, topic.counts) == ([], [], {"lost": 1})


def test_a_worker_that_is_abandoned_leaves_an_early_job_to_the_broker(topic: Topic) -> None:
    topic.broker.troubles = [BrokerBlocked() for _ in range(10_000)]
    worker = gevent.spawn(topic.run, **due_in(3600))
    run_until(lambda: len(topic.broker.troubles) < 10_000)

    worker.kill(Abandoned)

    assert (topic.handled, topic.sent) == ([], b"")


# --- too large ----------------------------------------------------------------------------------


def test_a_job_that_is_too_large_is_buried_and_not_run(topic: Topic) -> None:
    topic.run(b"x" * (MAX_BODY + 1))

    queue, properties = topic.put
    assert (topic.handled, topic.sent, queue, topic.counts) == ([], ACKED, "emails.buried", {"buried": 1})
    assert properties.headers[names.REASON] == "its body has 101 bytes, max_body allows 100"


@pytest.mark.parametrize(("before", "attempts"), [({}, 0), ({names.ATTEMPTS: 2}, 2)])
def test_a_job_that_is_too_large_was_not_tried_once_more(topic: Topic, before: dict[str, Any], attempts: int) -> None:
    topic.run(b"x" * (MAX_BODY + 1), **before)

    assert topic.put[1].headers[names.ATTEMPTS] == attempts


@pytest.mark.parametrize(("size", "max_body"), [(MAX_BODY, MAX_BODY), (0, 1), (10_000, None)])
def test_a_job_that_is_no_larger_than_allowed_is_run(topic: Topic, size: int, max_body: int | None) -> None:
    topic.run(b"x" * size, max_body=max_body)

    assert topic.handled == [b"x" * size]


def test_a_delayed_job_that_is_no_larger_than_allowed_is_run(topic: Topic) -> None:
    topic.run(b"x" * MAX_BODY, **due_in(-1))

    assert topic.handled == [b"x" * MAX_BODY]


def test_a_large_job_that_cannot_be_decoded_is_buried(topic: Topic) -> None:
    topic.run(b"x" * (MAX_BODY + 1), raw=b"\x20\x00\xff")

    assert (topic.handled, topic.put[0]) == ([], "emails.buried")


def test_a_large_job_waits_for_its_time_like_all_others(topic: Topic) -> None:
    topic.run(b"x" * (MAX_BODY + 1), **due_in(3600))

    assert topic.put[0] == "emails.retry.3600000"
