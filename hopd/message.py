"""A job that is to be put: what `Topic.put` takes, and the message it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from time import time
from typing import Any, TypeAlias

from hopd import names
from hopd.amqp.properties import PERSISTENT, TRANSIENT, Properties, PropertiesError
from hopd.delay import Wait, first_wait

#: What may be put: bytes as they are, text as UTF-8, anything else as JSON.
Body: TypeAlias = "bytes | bytearray | memoryview | str | Mapping[str, Any] | list[Any] | int | float | bool | None"

#: RabbitMQ closes the channel for a message whose expiry, in milliseconds, has more than 32 bits. Seconds.
MAX_EXPIRES = (2**32 - 1) // 1000


@dataclass(frozen=True, slots=True)
class Message:
    """A job to put, for `put_many`: the arguments of `Topic.put`."""

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

    def encoded(self, message_id: str, durable: bool, wait: Wait | None) -> tuple[Properties, bytes]:
        """The message's properties and body; `PropertiesError` for what cannot be put."""
        body, content_type = _encode_body(self.body)
        properties = Properties(
            content_type=self.content_type or content_type,
            headers=self._headers(wait),
            delivery_mode=PERSISTENT if durable else TRANSIENT,
            priority=self.priority,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            expiration=_expiration(self.expires),
            message_id=message_id,
            timestamp=int(time()),
            type=self.type,
        )
        return properties, body

    def _headers(self, wait: Wait | None) -> Mapping[str, Any]:
        given = self.headers or {}
        if wait is None:
            return given
        # Headers copied from another job may hold the record of its way; the broker would act on it when the delay is over.
        return {**{key: value for key, value in given.items() if key not in names.DEAD_LETTERED}, **wait.headers}


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
