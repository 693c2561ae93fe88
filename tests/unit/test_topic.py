"""What a topic puts, against a publisher that takes what the test says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from hopd import PutManyFailed, PutTimeout, PutUncertain, Unroutable
from hopd.amqp import topology
from hopd.amqp.connection import Connection
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, PropertiesError, decode
from hopd.amqp.topology import QueueSpec
from hopd.errors import ConnectionLost, PutError
from hopd.message import Body, Message
from hopd.topic import Topic


class FakePublisher:
    """Keeps what is published, and raises what it is told to, in order."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.errors: list[PutError | None] = []

    def publish(self, message: Outgoing, _deadline: float) -> None:
        self.messages.append(message)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    def publish_many(self, messages: Iterable[Outgoing], _timeout: float) -> tuple[int, dict[int, PutError]]:
        self.messages += messages
        failures = {index: error for index, error in enumerate(self.errors) if error is not None}
        return len(self.messages) - len(failures), failures


class FakeOwner:
    exchange = "hop.exchange"
    durable = True
    put_timeout = 10.0
    call_timeout = 10.0

    def __init__(self) -> None:
        self.connections = 0

    def new_id(self) -> str:
        return "id-1"

    def check_process(self) -> None:
        """We never fork."""

    def any_connection(self, _deadline: float) -> Any:
        self.connections += 1
        return f"connection {self.connections}"


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def owner() -> FakeOwner:
    return FakeOwner()


@pytest.fixture
def topic(publisher: FakePublisher, owner: FakeOwner) -> Topic:
    return make_topic(publisher, owner)


def make_topic(publisher: Any, owner: FakeOwner, *, durable: bool = True) -> Topic:
    link: Any = None
    return Topic(QueueSpec("emails", durable), owner, publisher, link, link)


def put_properties(publisher: FakePublisher) -> Properties:
    return decode(publisher.messages[-1].properties)


# --- what is put --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "raw", "content_type"),
    [
        (b"raw\xff", b"raw\xff", None),
        (bytearray(b"raw"), b"raw", None),
        (memoryview(b"raw"), b"raw", None),
        ("gr\u00fc\u00df", "gr\u00fc\u00df".encode(), "text/plain; charset=utf-8"),
        ({"to": "anna"}, b'{"to":"anna"}', "application/json"),
        ([1, None], b"[1,null]", "application/json"),
        (1.5, b"1.5", "application/json"),
        (None, b"null", "application/json"),
    ],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_a_body_is_bytes_text_or_json(topic: Topic, publisher: FakePublisher, body: Body, raw: bytes, content_type: str | None) -> None:
    topic.put(body)

    assert (publisher.messages[0].body, put_properties(publisher).content_type) == (raw, content_type)


@pytest.mark.parametrize("body", [object(), {1, 2}, {"k": object()}, "\ud800"], ids=["object", "set", "inside", "not utf-8"])
def test_what_is_no_body_is_the_callers_error(topic: Topic, publisher: FakePublisher, body: Any) -> None:
    with pytest.raises(PropertiesError, match="a body is bytes, text or JSON"):
        topic.put(body)
    assert publisher.messages == []


def test_a_put_returns_the_id_it_made(topic: Topic, publisher: FakePublisher) -> None:
    assert topic.put(b"x") == "id-1" == put_properties(publisher).message_id


def test_a_put_keeps_the_id_it_was_given(topic: Topic, publisher: FakePublisher) -> None:
    assert topic.put(b"x", message_id="7") == "7" == put_properties(publisher).message_id


def test_a_put_has_every_property_it_was_given(topic: Topic, publisher: FakePublisher) -> None:
    topic.put(b"x", headers={"k": 1}, priority=3, expires=1.5, content_type="a/b", correlation_id="c", reply_to="r", type="t")

    put = put_properties(publisher)
    assert (put.headers, put.priority, put.expiration, put.content_type) == ({"k": 1}, 3, "1500", "a/b")
    assert (put.correlation_id, put.reply_to, put.type) == ("c", "r", "t")


@pytest.mark.parametrize(("durable", "mode"), [(True, 2), (False, 1)])
def test_a_job_lasts_as_its_topic_does(publisher: FakePublisher, owner: FakeOwner, durable: bool, mode: int) -> None:
    make_topic(publisher, owner, durable=durable).put(b"x")

    assert put_properties(publisher).delivery_mode == mode


@pytest.mark.parametrize(("expires", "milliseconds"), [(0, "0"), (-1, "0"), (0.0004, "0"), (49 * 86400, "4233600000")])
def test_expiry_is_in_seconds(topic: Topic, publisher: FakePublisher, expires: float, milliseconds: str) -> None:
    topic.put(b"x", expires=expires)

    assert put_properties(publisher).expiration == milliseconds


@pytest.mark.parametrize("expires", [50 * 86400, float("inf"), float("nan")])
def test_an_expiry_that_the_broker_would_not_take_is_refused_here(topic: Topic, publisher: FakePublisher, expires: float) -> None:
    # The broker would close the channel, and with it everybody's puts.
    with pytest.raises(PropertiesError, match="expires"):
        topic.put(b"x", expires=expires)
    assert publisher.messages == []


def test_full_control_is_full(topic: Topic, publisher: FakePublisher) -> None:
    topic.put_publishing(b"x", Properties(app_id="a"), exchange="", routing_key="elsewhere")

    message = publisher.messages[0]
    assert (message.exchange, message.routing_key, decode(message.properties)) == ("", "elsewhere", Properties(app_id="a"))


def test_full_control_puts_to_the_topic_unless_told_otherwise(topic: Topic, publisher: FakePublisher) -> None:
    topic.put_publishing(b"x", Properties())

    assert (publisher.messages[0].exchange, publisher.messages[0].routing_key) == ("hop.exchange", "emails")


def test_many_are_bodies_or_messages(topic: Topic, publisher: FakePublisher) -> None:
    assert topic.put_many([b"one", {"two": 2}, Message("three", message_id="3")]) == 3

    assert [message.body for message in publisher.messages] == [b"one", json.dumps({"two": 2}, separators=(",", ":")).encode(), b"three"]


def test_of_many_those_that_failed_are_named(topic: Topic, publisher: FakePublisher) -> None:
    publisher.errors = [None, Unroutable("gone"), None]

    with pytest.raises(PutManyFailed, match="1 jobs were not put, 2 were; the first that was not is number 1: gone") as caught:
        topic.put_many([b"one", b"two", b"three"])
    assert (caught.value.confirmed, list(caught.value.failures)) == (2, [1])


# --- what is uncertain --------------------------------------------------------------------------


def test_an_uncertain_put_is_the_callers_to_judge(topic: Topic, publisher: FakePublisher) -> None:
    publisher.errors = [PutUncertain("lost")]

    with pytest.raises(PutUncertain):
        topic.put(b"x")
    assert len(publisher.messages) == 1


def test_an_uncertain_put_is_tried_again_if_asked(topic: Topic, publisher: FakePublisher) -> None:
    publisher.errors = [PutUncertain("lost"), PutUncertain("lost"), None]

    assert topic.put(b"x", retry_uncertain=True) == "id-1"
    assert [decode(message.properties).message_id for message in publisher.messages] == ["id-1"] * 3


def test_an_uncertain_put_stays_uncertain_when_it_cannot_be_tried_again(topic: Topic, publisher: FakePublisher) -> None:
    # Given a put that may have been put, and a broker that stays away
    publisher.errors = [PutUncertain("the connection was lost"), PutTimeout("the job was not sent")]

    # When it is tried again in vain, then it may still have been put
    with pytest.raises(PutUncertain, match="the connection was lost") as caught:
        topic.put(b"x", retry_uncertain=True)
    assert isinstance(caught.value.__cause__, PutTimeout)


# --- asking the broker --------------------------------------------------------------------------


def test_a_question_is_asked_again_when_the_connection_is_lost_over_it(
    topic: Topic, owner: FakeOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a connection that goes while it is asked
    asked: list[object] = []

    def ready(connection: Connection, _queue: str, _deadline: float) -> int:
        asked.append(connection)
        if len(asked) == 1:
            raise ConnectionLost("reset")
        return 7

    monkeypatch.setattr(topology, "ready", ready)

    # When the topic asks, then it gets its answer from the next one
    assert topic.ready() == 7
    assert asked == ["connection 1", "connection 2"]


def test_a_question_that_is_never_answered_ends_at_the_deadline(topic: Topic, owner: FakeOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(_connection: Connection, _queue: str, _deadline: float) -> int:
        raise ConnectionLost("reset")

    monkeypatch.setattr(topology, "ready", ready)
    owner.call_timeout = 0.01

    with pytest.raises(ConnectionLost):
        topic.ready()
