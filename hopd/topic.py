"""A topic: where jobs are put and pulled. In the broker it is a queue, bound to the work queue's exchange under its own name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Protocol, TypeAlias, TypeVar

from hopd.amqp import topology
from hopd.amqp.connection import Connection
from hopd.amqp.properties import PERSISTENT, TRANSIENT, Properties, PropertiesError, encode
from hopd.amqp.publisher import Outgoing, Publisher
from hopd.amqp.recovery import Link
from hopd.aside import Aside
from hopd.errors import ConnectionLost, PutError, PutManyFailed, PutUncertain, WorkQueueClosed
from hopd.job import Job
from hopd.pull import Puller

#: What may be put: bytes as they are, text as UTF-8, anything else as JSON.
Body: TypeAlias = "bytes | bytearray | memoryview | str | Mapping[str, Any] | list[Any] | int | float | bool | None"

#: RabbitMQ closes the channel for a message whose expiry, in milliseconds, has more than 32 bits. Seconds.
MAX_EXPIRES = (2**32 - 1) // 1000

_T = TypeVar("_T")


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


class Owner(Protocol):
    """What a topic needs of its work queue."""

    exchange: str
    durable: bool
    put_timeout: float
    call_timeout: float

    def new_id(self) -> str:
        """An id no other job has."""

    def check_process(self) -> None:
        """`ForkedProcess` in a child of the process that made the work queue."""

    def any_connection(self, deadline: float) -> Connection:
        """An open connection, whichever is there."""


class Topic:
    """A topic of a work queue; `WorkQueue.get_topic` makes it. Threads and greenlets may share it."""

    def __init__(self, queue: topology.QueueSpec, owner: Owner, publisher: Publisher, publishing: Link, consuming: Link) -> None:
        self.name = queue.name
        self.aside = Aside(queue, publisher, publishing)
        self._queue = queue
        self._owner = owner
        self._publisher = publisher
        self._puller = Puller(queue.name, consuming, self.declare_on)

    # --- put ----------------------------------------------------------------------------------

    def put(
        self,
        body: Body,
        *,
        headers: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        priority: int | None = None,
        expires: float | None = None,
        content_type: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        type: str | None = None,  # noqa: A002 - AMQP's own name for it
        timeout: float | None = None,
        retry_uncertain: bool = False,
    ) -> str:
        """Put a job and return its message id, once the broker has confirmed it.

        `expires` is in seconds: a job nobody took by then is dropped. `timeout` is in seconds, the work queue's `put_timeout` by
        default; after it `PutTimeout`, or `BrokerBlocked` when the broker takes nothing. `Unroutable`: the topic's queue is gone.
        `PutUncertain`: the connection was lost before the confirm; with `retry_uncertain` the job is put once more instead, and may
        then be there twice, under one message id.
        """
        message = Message(body, headers, message_id, priority, expires, content_type, correlation_id, reply_to, type)
        outgoing = self._outgoing(message)
        deadline = monotonic() + (self._owner.put_timeout if timeout is None else timeout)
        self._owner.check_process()
        uncertain: PutUncertain | None = None
        while True:
            try:
                self._publisher.publish(outgoing, deadline)
            except PutUncertain as error:
                if not retry_uncertain:
                    raise
                uncertain = error
            except PutError as error:
                if uncertain is None:
                    raise
                raise PutUncertain(f"{uncertain}; it could not be put again: {error}") from error
            else:
                return outgoing.message_id or ""

    def put_many(self, messages: Iterable[Body | Message], *, timeout: float | None = None) -> int:
        """Put many jobs, bodies or `Message`s, without waiting for each; returns how many, once all are confirmed.

        `timeout` is for each job. `PutManyFailed` tells which were not confirmed and why; the others were.
        """
        self._owner.check_process()
        outgoing = (self._outgoing(item if isinstance(item, Message) else Message(item)) for item in messages)
        confirmed, failures = self._publisher.publish_many(outgoing, self._owner.put_timeout if timeout is None else timeout)
        if failures:
            raise PutManyFailed(confirmed, failures)
        return confirmed

    def put_publishing(
        self,
        body: bytes,
        properties: Properties,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Publish with full control of the AMQP properties, exchange and routing key; confirmed and mandatory as in `put`."""
        self._owner.check_process()
        target = self._owner.exchange if exchange is None else exchange
        key = self.name if routing_key is None else routing_key
        outgoing = Outgoing(target, key, encode(properties), bytes(body), properties.message_id)
        self._publisher.publish(outgoing, monotonic() + (self._owner.put_timeout if timeout is None else timeout))

    def _outgoing(self, message: Message) -> Outgoing:
        body, content_type = _encode_body(message.body)
        message_id = message.message_id or self._owner.new_id()
        properties = Properties(
            content_type=message.content_type or content_type,
            headers=message.headers or {},
            delivery_mode=PERSISTENT if self._queue.durable else TRANSIENT,
            priority=message.priority,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            expiration=_expiration(message.expires),
            message_id=message_id,
            timestamp=int(time()),
            type=message.type,
        )
        return Outgoing(self._owner.exchange, self.name, encode(properties), body, message_id)

    # --- pull ---------------------------------------------------------------------------------

    def pull(self, timeout: float | None = None) -> Job:
        """Wait for a job, `timeout` seconds at most (None: as long as it takes), then `PullTimeout`.

        The job is the caller's until it is settled; should the caller die, it returns to the topic.
        """
        self._owner.check_process()
        return Job(self._puller.pull(timeout), self.aside)

    def __iter__(self) -> Iterator[Job]:
        """The topic's jobs, as they come, until the work queue is closed."""
        while True:
            try:
                job = self.pull()
            except WorkQueueClosed:
                return
            yield job

    # --- declare ------------------------------------------------------------------------------

    def ready(self) -> int:
        """How many jobs are ready in the topic."""
        return self._ask(lambda connection, deadline: topology.ready(connection, self.name, deadline))

    def delete(self) -> int:
        """Delete the topic from the broker with every job in it; returns how many were ready. Nothing to do when it is not there."""
        return self._ask(lambda connection, deadline: topology.delete_queue(connection, self.name, deadline))

    def declare(self) -> None:
        """Have the topic's exchange and queue in the broker; what is there already is left as it is."""
        self._ask(self.declare_on)

    def declare_on(self, connection: Connection, deadline: float) -> None:
        """The same over a certain connection, before `deadline` (monotonic seconds)."""
        owner = self._owner
        topology.ensure_exchange(connection, owner.exchange, owner.durable, deadline)
        topology.ensure_queue(connection, self._queue, deadline)
        topology.ensure_bound(connection, self.name, owner.exchange, deadline)

    def _ask(self, question: Callable[[Connection, float], _T]) -> _T:
        """Ask an open broker, and the next one when the connection is lost over it."""
        deadline = monotonic() + self._owner.call_timeout
        while True:
            try:
                return question(self._owner.any_connection(deadline), deadline)
            except ConnectionLost:
                if monotonic() >= deadline:
                    raise

    def close(self) -> None:
        """End whoever waits in `pull`; the work queue's close does the rest."""
        self._puller.close()

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"


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
