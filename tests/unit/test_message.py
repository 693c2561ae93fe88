"""A job that is to be put, as the message it becomes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from time import time
from typing import Any

import pytest

from hopd import names
from hopd.amqp.properties import PERSISTENT, TRANSIENT, Properties, PropertiesError, decode
from hopd.delay import Wait
from hopd.message import MAX_EXPIRES, Message


def properties_of(message: Message, *, durable: bool = True, wait: Wait | None = None) -> Properties:
    return decode(message.encoded("7", durable, wait)[0])


def test_a_message_keeps_what_it_was_given() -> None:
    message = Message(b"x", {"k": 1}, "7", 3, 1.5, "image/png", "c", "r", "t")

    raw, body = message.encoded("7", True, None)

    properties = decode(raw)
    assert body == b"x"
    assert (properties.headers, properties.message_id, properties.priority, properties.expiration) == ({"k": 1}, "7", 3, "1500")
    assert (properties.content_type, properties.correlation_id, properties.reply_to, properties.type) == ("image/png", "c", "r", "t")


@pytest.mark.parametrize(("durable", "mode"), [(True, PERSISTENT), (False, TRANSIENT)])
def test_jobs_of_a_durable_topic_survive_the_broker(durable: bool, mode: int) -> None:
    assert properties_of(Message(b""), durable=durable).delivery_mode == mode


@pytest.mark.parametrize(("expires", "milliseconds"), [(None, None), (0, "0"), (-1, "0"), (0.25, "250"), (MAX_EXPIRES, "4294967000")])
def test_an_expiry_is_told_in_milliseconds(expires: float | None, milliseconds: str | None) -> None:
    assert properties_of(Message(b"", expires=expires)).expiration == milliseconds


@pytest.mark.parametrize("expires", [MAX_EXPIRES + 1, float("inf"), float("nan")])
def test_an_expiry_that_the_broker_would_refuse_is_refused_here(expires: float) -> None:
    with pytest.raises(PropertiesError, match="expires"):
        Message(b"", expires=expires).encoded("7", True, None)


def test_messages_that_are_alike_share_nothing_but_their_shape() -> None:
    first, second = (decode(Message(b"", priority=3).encoded(message_id, True, None)[0]) for message_id in ("1", "2"))

    assert (first.message_id, first.priority, second.message_id, second.priority) == ("1", 3, "2", 3)


@pytest.mark.parametrize("wrong", [{"priority": []}, {"priority": 256}, {"content_type": 5}, {"type": b"t"}, {"message_id": 7}], ids=repr)
def test_a_message_of_the_wrong_kind_is_refused(wrong: dict[str, Any]) -> None:
    message = Message(b"", **wrong)

    with pytest.raises(PropertiesError, match="cannot be put"):
        message.encoded(message.message_id or "7", True, None)


# --- delays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [Message(b""), Message(b"", delay=0), Message(b"", expires=5.0, delay="0s")], ids=["none", "0", "0s"])
def test_a_job_without_a_delay_waits_nowhere(message: Message) -> None:
    assert message.first_wait() is None


@pytest.mark.parametrize(
    "told",
    [lambda: {"delay": "10m"}, lambda: {"delay": 600.0}, lambda: {"at": datetime.now(timezone.utc) + timedelta(minutes=10)}],
    ids=["text", "seconds", "moment"],
)
def test_a_delay_is_told_in_three_ways(told: Callable[[], dict[str, Any]]) -> None:
    wait = Message(b"", **told()).first_wait()

    assert wait is not None
    assert abs(wait.due_at / 1000 - time() - 600) < 60  # however slow the machine


def test_a_delayed_jobs_headers_tell_when_it_is_due() -> None:
    message = Message(b"", {"k": 1}, delay=90)
    wait = message.first_wait()
    assert wait is not None

    headers = properties_of(message, wait=wait).headers

    assert headers == {"k": 1, names.DUE_AT: wait.due_at, names.DELAY: 90_000, names.DELAY_LEFT: 30_000}


@pytest.mark.parametrize("copied", [{names.DELAY_LEFT: 0}, {"x-death": [{"queue": "emails"}]}, {"x-first-death-reason": "expired"}])
def test_the_headers_of_another_job_do_not_disturb_a_delay(copied: dict[str, Any]) -> None:
    message = Message(b"", copied, delay=90)
    wait = message.first_wait()
    assert wait is not None

    assert properties_of(message, wait=wait).headers == wait.headers


def test_a_delayed_job_cannot_expire() -> None:
    with pytest.raises(ValueError, match="expires"):
        Message(b"", delay=5, expires=60).first_wait()
