"""A topic: where jobs are put and pulled. In the broker it is a queue, bound to the work queue's exchange under its own name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from time import monotonic, sleep, time
from typing import Any, Protocol, TypeVar

from hopd import names
from hopd.amqp import topology
from hopd.amqp.connection import Connection
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, encode
from hopd.amqp.publisher import Publisher
from hopd.amqp.recovery import Link
from hopd.amqp.wire import Delivery
from hopd.aside import Aside, topic_queues
from hopd.buried import Buried, BuriedJob
from hopd.delay import Wait, early
from hopd.errors import ConnectionLost, PullTimeout, PutError, PutManyFailed, PutUncertain, WorkQueueClosed
from hopd.job import Job
from hopd.message import Body, Message
from hopd.pull import A_YEAR, Puller

LOGGER = logging.getLogger(__name__)

#: Between two tries to let a job wait on that came before its time, when the broker does not take it. Seconds.
ASIDE_PAUSE = 1.0

_T = TypeVar("_T")


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
        self._buried = Buried(queue, consuming, publisher)
        # A quorum queue counts what is given back as an attempt.
        self._puller = Puller(queue.name, consuming, self.declare_on, ahead=queue.queue_type != "quorum")

    @property
    def spec(self) -> topology.QueueSpec:
        """What its queue is like, should it have to be declared."""
        return self._queue

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
        delay: float | str | None = None,
        at: datetime | None = None,
        timeout: float | None = None,
        retry_uncertain: bool = False,
    ) -> str:
        """Put a job and return its message id, once the broker has confirmed it.

        `expires` is in seconds: a job nobody took by then is dropped (a quorum topic buries it). `timeout` is in seconds, the work
        queue's `put_timeout` by default; after it `PutTimeout`, or `BrokerBlocked` when the broker takes nothing. `Unroutable`: the
        topic's queue is gone.
        `PutUncertain`: the connection was lost before the confirm; with `retry_uncertain` the job is put once more instead, and may
        then be there twice, under one message id.

        A job with a `delay` (seconds, or ``"10m"``) or with `at` (a datetime with a time zone; one in the past is due at once) waits in
        the broker until then, a year at most: never shorter, and longer by no more than 1 % or 1 s. For a delay that is no step of the
        ladder it passes through the topic a few times, and a daemon or a `pull` lets it wait on; another client would take it early.
        ValueError for a delay that makes no sense, or one together with `expires`.
        """
        message = Message(body, headers, message_id, priority, expires, content_type, correlation_id, reply_to, type, delay, at)
        wait = message.first_wait()
        outgoing = self._outgoing(message, wait)
        deadline = monotonic() + (self._owner.put_timeout if timeout is None else timeout)
        self._owner.check_process()
        uncertain: PutUncertain | None = None
        while True:
            try:
                if wait is None:
                    self._publisher.publish(outgoing, deadline)
                else:
                    self.aside.publish(wait.step, outgoing, deadline)
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
        seconds = self._owner.put_timeout if timeout is None else timeout
        outgoing = (self._prepared(item if isinstance(item, Message) else Message(item), seconds) for item in messages)
        confirmed, failures = self._publisher.publish_many(outgoing, seconds)
        if failures:
            self.aside.forget()  # it may be that a retry queue is gone
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

    def _prepared(self, message: Message, timeout: float) -> Outgoing:
        """A message whose queue is there. One that cannot be had is found again by the put itself, which knows the message's number."""
        wait = message.first_wait()
        outgoing = self._outgoing(message, wait)
        if wait is not None:
            try:
                self.aside.declare(wait.step, monotonic() + timeout)
            except PutError as error:
                extra = {"event": "declare_failed", "topic": self.name}
                LOGGER.warning("Jobs of %s cannot wait for now: %s", self.name, error, extra=extra)
        return outgoing

    def _outgoing(self, message: Message, wait: Wait | None) -> Outgoing:
        message_id = message.message_id or self._owner.new_id()
        properties, body = message.encoded(message_id, self._queue.durable, wait)
        exchange, key = (self._owner.exchange, self.name) if wait is None else (names.DEFAULT_EXCHANGE, self.aside.queue(wait.step))
        return Outgoing(exchange, key, properties, body, message_id)

    # --- pull ---------------------------------------------------------------------------------

    def pull(self, timeout: float | None = None) -> Job:
        """Wait for a job, `timeout` seconds at most (None: as long as it takes), then `PullTimeout`.

        The job is the caller's until it is settled; should the caller die, it returns to the topic.
        """
        self._owner.check_process()
        deadline = monotonic() + (A_YEAR if timeout is None else timeout)
        delivery = self._puller.pull(timeout)
        while self._waits_on(delivery, deadline):
            delivery = self._puller.pull(round(max(0.0, deadline - monotonic()), 3))
        return Job(delivery, self.aside)

    def _waits_on(self, delivery: Delivery, deadline: float) -> bool:
        """Let a delivery wait on that came before its time; False when that has come."""
        wait = early(delivery.raw_properties, time())
        if wait is None:
            return False
        try:
            self._put_aside(delivery, wait, deadline)
        except BaseException:
            delivery.settlement.nack(delivery.tag)  # nobody else knows of it
            raise
        return True

    def _put_aside(self, delivery: Delivery, wait: Wait, deadline: float) -> None:
        """Hold the delivery until the broker takes it: given back, it would come straight again."""
        while True:
            try:
                self.aside.wait_on(delivery, wait, deadline)
                return
            except PutError as error:
                left = deadline - monotonic()
                if left <= 0:
                    raise PullTimeout(f"a job of {self.name!r} came before its time and could not be put aside: {error}") from error
                extra = {"event": "aside_waits", "topic": self.name}
                LOGGER.warning("A job of %s that came before its time cannot be put aside yet: %s", self.name, error, extra=extra)
                sleep(min(ASIDE_PAUSE, left))

    def __iter__(self) -> Iterator[Job]:
        """The topic's jobs, as they come, until the work queue is closed."""
        while True:
            try:
                job = self.pull()
            except WorkQueueClosed:
                return
            yield job

    # --- buried -------------------------------------------------------------------------------

    def buried(self, limit: int = 100, *, timeout: float | None = None) -> list[BuriedJob]:
        """The oldest buried jobs, `limit` of them at most. They stay where they are.

        `timeout` is in seconds, the work queue's `put_timeout` by default, then `BrokerTimeout`. In a quorum topic the broker counts each
        look as a delivery (before 4.3), which has no consequence as their queue has no limit that anybody reaches; and it keeps no order
        of what was looked at, so that each look goes 500 jobs deep to find the oldest ones.
        """
        self._owner.check_process()
        return self._buried.look(limit, self._owner.put_timeout if timeout is None else timeout)

    def kick(self, which: int | str | Iterable[str], *, timeout: float | None = None) -> int:
        """Put buried jobs back into the topic: the oldest ones, as many as `which` says, or those with these ids. Returns how many.

        A kicked job has its id, headers and body, and begins anew: what was known of its failures is gone. It is confirmed in the topic
        before it leaves the buried queue, so that a crash in between leaves two of it. The others stay in their order.

        `NotBuried`, once the others are kicked, when ids are not there, or not to be seen because somebody else looks just then.
        `PutManyFailed` when jobs could not be put; they are buried still. `timeout` is in seconds, for each 500 of them.
        """
        self._owner.check_process()
        seconds = self._owner.put_timeout if timeout is None else timeout
        if isinstance(which, int):
            return self._buried.kick(which, seconds)
        return self._buried.kick_ids([which] if isinstance(which, str) else list(which), seconds)

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
        # A classic queue is the same in all versions, so nobody need ask which one this is.
        version = connection.server_version if self._queue.queue_type == "quorum" else ()
        for queue in topic_queues(self._queue, version):
            topology.ensure_queue(connection, queue, deadline)
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
