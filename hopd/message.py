"""A job that is to be put: what `Topic.put` takes, and the message it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from time import time
from typing import Any, TypeAlias

from hopd import names
from hopd.amqp.properties import PERSISTENT, TRANSIENT, Properties, PropertiesError, Shape
from hopd.delay import Wait, first_wait

#: What may be put: bytes as they are, text as UTF-8, anything else as JSON.
Body: TypeAlias = "bytes | bytearray | memoryview | str | Mapping[str, Any] | list[Any] | int | float | bool | None"

#: RabbitMQ closes the channel for a message whose expiry, in milliseconds, has more than 32 bits. Seconds.
MAX_EXPIRES = (2**32 - 1) // 1000

#: How many shapes of messages are kept encoded: more than a producer has kinds of jobs. A kilobyte each.
SHAPES = 256


@dataclass(slots=True)  # not frozen: that would make it six times as dear, and each put makes one
class Message:
    """A job to put, for `put_many`: the arguments of `Topic.put`. Not to be changed once it is given away."""

    body: Body
    headers: Mapping[str, Any] | None = None
    message_id: str | None = None
    priority: int | None = None
    expires: float | None = None
    content_type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    type: str | None = None
    delay: float | str | None = None
    at: datetime | None = None

    def first_wait(self) -> Wait | None:
        """Where a delayed job waits first; None for one that is due at once. ValueError for a delay that makes no sense."""
        wait = first_wait(self.delay, self.at, time())
        if wait is not None and self.expires is not None:
            raise ValueError("a job cannot have both a delay and expires: in the queue where it waits, expiring would end the delay")
        return wait

    def encoded(self, message_id: str, durable: bool, wait: Wait | None) -> tuple[bytes, bytes]:
        """The message's encoded properties and its body; `PropertiesError` for what cannot be put."""
        body, content_type = _encode_body(self.body)
        shape = self._shape(self.content_type or content_type, PERSISTENT if durable else TRANSIENT, wait)
        return shape.encode(message_id, int(time())), body

    def _shape(self, content_type: str | None, delivery_mode: int, wait: Wait | None) -> Shape:
        """The properties but for id and time: encoded once for all jobs that are alike, and anew for one with headers or ids of its own."""
        expiration = _expiration(self.expires)
        if wait is None and not self.headers and self.correlation_id is None and self.reply_to is None:
            try:
                return _plain_shape(content_type, delivery_mode, self.priority, expiration, self.type)
            except TypeError as error:  # it cannot be hashed, and so is neither text nor a number
                raise PropertiesError(f"a job's content type, priority or type cannot be put: {error}") from error
        properties = Properties(
            content_type=content_type,
            headers=self._headers(wait),
            delivery_mode=delivery_mode,
            priority=self.priority,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            expiration=expiration,
            type=self.type,
        )
        return Shape(properties)

    def _headers(self, wait: Wait | None) -> Mapping[str, Any]:
        given = self.headers or {}
        if wait is None:
            return given
        # Headers copied from another job may hold the record of its way; the broker would act on it when the delay is over.
        return {**{key: value for key, value in given.items() if key not in names.DEAD_LETTERED}, **wait.headers}


@lru_cache(maxsize=SHAPES)
def _plain_shape(content_type: str | None, delivery_mode: int, priority: int | None, expiration: str | None, kind: str | None) -> Shape:
    properties = Properties(content_type=content_type, delivery_mode=delivery_mode, priority=priority, expiration=expiration, type=kind)
    return Shape(properties)


def _expiration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if not seconds <= MAX_EXPIRES:  # also refuses nan
        raise PropertiesError(f"expires is at most {MAX_EXPIRES:.0f} s, got {seconds}")
    return str(max(0, round(seconds * 1000)))


def _encode_body(body: Body) -> tuple[bytes, str | None]:
    if isinstance(body, bytes):
        return body, None
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body), None
    try:
        if isinstance(body, str):
            return body.encode("utf-8"), "text/plain; charset=utf-8"
        return json.dumps(body, separators=(",", ":")).encode("utf-8"), "application/json"
    except (TypeError, ValueError) as error:
        raise PropertiesError(f"a body is bytes, text or JSON, not {type(body).__name__}: {error}") from error
