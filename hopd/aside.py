"""Where a topic's jobs are besides the topic: waiting in a retry queue, or buried.

A job moves by being published, confirmed, and only then acked where it was. A crash in between leaves two of it, never none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from hopd import names
from hopd.amqp import topology
from hopd.amqp.connection import Connection
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import PERSISTENT, Properties, PropertiesError, decode, encode
from hopd.amqp.publisher import Publisher, Source
from hopd.amqp.turn import turn
from hopd.amqp.wire import Delivery
from hopd.config import ladder
from hopd.delay import Wait
from hopd.errors import BrokerError, BrokerRefused, PutRefused, PutTimeout, PutTooLarge, Unroutable
from hopd.failure import now, printable

#: How long an unused retry queue outlives its last job. Seconds.
RETRY_QUEUE_IDLE = 3600.0

#: How long a declared retry queue is taken to be there. Its expiry deletes it with all that waits in it, and only declaring it
#: again restarts that clock, so this must be well under RETRY_QUEUE_IDLE. Seconds.
DECLARED_FOR = 300.0

#: The first RabbitMQ whose quorum queues expire messages, and keep each until it is confirmed where it goes.
DEAD_LETTERS_CONFIRMED = (3, 10)

#: A delivery limit that nobody reaches: the largest that any version takes.
ENDLESS = 2**31 - 1

#: Headers that must not travel. RabbitMQ counts deliveries anew in the next queue, would route copies by CC and BCC once more, and
#: throws a message away that it would dead-letter to a queue in which, by its own record, it has died before. A delay is over.
_NOT_TRAVELLING = (
    frozenset({names.DELIVERY_COUNT, names.ACQUIRED_COUNT, "CC", "BCC", names.DUE_AT, names.DELAY, names.DELAY_LEFT}) | names.DEAD_LETTERED
)

#: What hopd says about a failure, but for how many there were.
_WORDS = names.FAILURE - {names.ATTEMPTS}

#: AMQP frames limit what headers may hold; an error's text is cut here. Characters.
MAX_REASON = 2000


#: RabbitMQ dead-letters at least once only where a full queue refuses new messages.
_REJECT = "reject-publish"

#: The outcomes a job can have, and what is counted of them besides.
COUNTED = ("done", "failed", "delayed", "requeued", "buried", "dropped", "lost", "redelivered")


class Aside:
    """Moves a topic's jobs aside, and keeps count of what became of them all: `counts` has an int for each of `COUNTED`."""

    def __init__(self, queue: topology.QueueSpec, publisher: Publisher, source: Source) -> None:
        self.topic = queue.name
        #: The name of this process among several, which its jobs tell.
        self.instance: str | None = None
        #: How long buried jobs are kept, in seconds; None: until somebody takes them.
        self.keep_buried: float | None = None
        self.counts: dict[str, int] = dict.fromkeys(COUNTED, 0)
        self._queue = queue
        self._publisher = publisher
        self._source = source
        self._declared: dict[int | None, float] = {}
        self._lock = threading.Lock()

    def bury(self, delivery: Delivery, headers: Mapping[str, Any], deadline: float) -> None:
        """Publish the delivery to the topic's buried queue, with `headers` added. A `PutError` when that is not confirmed."""
        about = {names.TOPIC: self.topic, names.BURIED_AT: now(), **headers}
        properties = travelling(delivery.raw_properties, about)
        if self.keep_buried is not None:
            properties = replace(properties, expiration=str(round(self.keep_buried * 1000)))
        self._publish(None, properties, delivery.body, deadline)

    def retry(self, delivery: Delivery, after: float, headers: Mapping[str, Any], deadline: float) -> None:
        """Publish the delivery to the retry queue whose step is not shorter than `after` seconds; from there it returns by itself."""
        properties = travelling(delivery.raw_properties, {names.TOPIC: self.topic, **headers})
        self._publish(ladder.step(after), properties, delivery.body, deadline)

    def wait_on(self, delivery: Delivery, wait: Wait, deadline: float) -> bool:
        """Let a delivery that came before its time wait on; False when its channel is gone and the broker delivers it again.

        A `PutError` when that is not confirmed; then it is unsettled still.
        """
        properties = travelling(delivery.raw_properties, wait.headers)
        moved = move(delivery, lambda: self._publish(wait.step, properties, delivery.body, deadline))
        self.counts["lost"] += not moved
        return moved

    def _publish(self, step: int | None, properties: Properties, body: bytes, deadline: float) -> None:
        """As `publish`. Where our own words do not fit in beside the job's headers, the count of attempts is all that is kept of them."""
        queue, message_id = self.queue(step), properties.message_id
        try:
            self.publish(step, Outgoing(names.DEFAULT_EXCHANGE, queue, encode(properties), body, message_id), deadline)
        except PutTooLarge:
            headers = {key: value for key, value in properties.headers.items() if key not in _WORDS}
            shorter = encode(replace(properties, headers=headers))
            self.publish(step, Outgoing(names.DEFAULT_EXCHANGE, queue, shorter, body, message_id), deadline)

    def queue(self, step: int | None) -> str:
        """The name of the queue where jobs wait for `step` milliseconds, or None: where they are buried."""
        return names.buried(self.topic) if step is None else names.retry(self.topic, step)

    def publish(self, step: int | None, message: Outgoing, deadline: float) -> None:
        """Publish a message to that queue, which is declared when needed. A `PutError` when it is not confirmed."""
        self.declare(step, deadline)
        try:
            self._publisher.publish(message, deadline)
        except Unroutable:
            # Somebody deleted the queue since it was declared.
            self.forget()
            self.declare(step, deadline)
            self._publisher.publish(message, deadline)

    def declare(self, step: int | None, deadline: float) -> None:
        """Have that queue in the broker. A `PutError` when it cannot be had."""
        try:
            with turn(self._lock, deadline):
                if self._declared.get(step, 0.0) > monotonic():
                    return
                connection = self._source.connection(deadline)
                topology.ensure_queue(connection, self._spec(step, connection), deadline)
                self._declared[step] = monotonic() + DECLARED_FOR
        except BrokerRefused as error:
            raise PutRefused(f"the queue {self.queue(step)!r} cannot be used: {error}") from error
        except BrokerError as error:
            raise PutTimeout(f"the queue {self.queue(step)!r} cannot be declared: {error}") from error

    def forget(self) -> None:
        """Declare the queues again before they are used next: one of them is gone."""
        self._declared.clear()

    def _spec(self, step: int | None, connection: Connection) -> topology.QueueSpec:
        return buried_queue(self._queue) if step is None else retry_queue(self._queue, step, connection.server_version)


def buried_queue(topic: topology.QueueSpec) -> topology.QueueSpec:
    """Where a topic's buried jobs lie: a queue of the topic's own kind, which may be looked through as often as anybody likes.

    A quorum queue counts each look at a job as a delivery, and from 4.0 on throws it away after 20 unless told otherwise. A limit that
    nobody reaches is understood by every version; -1, for none, means that not even one is allowed before 4.0.
    """
    endless = {names.DELIVERY_LIMIT: ENDLESS} if topic.queue_type == "quorum" else {}
    return topology.QueueSpec(names.buried(topic.name), topic.durable, topic.queue_type, endless)


def topic_queues(topic: topology.QueueSpec, server_version: tuple[int, ...]) -> tuple[topology.QueueSpec, ...]:
    """What a topic needs in the broker, in the order in which it is declared: its own queue is the last.

    A quorum queue may have a delivery limit, from 4.0 on it always has one, and a job beyond it would be gone: it is buried instead,
    unless the topic's own arguments say where it goes. From 3.10 on it stays in the topic until the buried queue has confirmed it.
    """
    if topic.queue_type != "quorum" or names.DEAD_LETTER_EXCHANGE in topic.arguments:
        return (topic,)
    arguments = {names.DEAD_LETTER_EXCHANGE: names.DEFAULT_EXCHANGE, names.DEAD_LETTER_ROUTING_KEY: names.buried(topic.name)}
    if server_version >= DEAD_LETTERS_CONFIRMED and topic.arguments.get(names.OVERFLOW, _REJECT) == _REJECT:
        arguments |= {names.DEAD_LETTER_STRATEGY: "at-least-once", names.OVERFLOW: _REJECT}
    return buried_queue(topic), replace(topic, arguments={**arguments, **topic.arguments})


def retry_queue(topic: topology.QueueSpec, delay: int, server_version: tuple[int, ...]) -> topology.QueueSpec:
    """Where a topic's jobs wait for `delay` milliseconds. It outlives its last job by `RETRY_QUEUE_IDLE`.

    A quorum queue, whatever the topic's own is: since 3.10 it keeps each job until the topic has confirmed it, on disk. A classic one
    sends its jobs back without asking whether they arrived: those that came back within the last seconds before a broker is killed
    are then nowhere. Measured under load: nine of ten. It is used for transient topics, and where the broker has nothing better.
    """
    arguments: dict[str, Any] = {
        names.MESSAGE_TTL: delay,
        names.QUEUE_EXPIRES: delay + round(RETRY_QUEUE_IDLE * 1000),
        names.DEAD_LETTER_EXCHANGE: names.DEFAULT_EXCHANGE,
        names.DEAD_LETTER_ROUTING_KEY: topic.name,
    }
    kind = "classic"
    if topic.durable and server_version >= DEAD_LETTERS_CONFIRMED:
        kind = "quorum"
        # RabbitMQ wants the overflow said with the strategy.
        arguments |= {names.DEAD_LETTER_STRATEGY: "at-least-once", names.OVERFLOW: _REJECT}
    return topology.QueueSpec(names.retry(topic.name, delay), topic.durable, kind, arguments)


def move(delivery: Delivery, publish: Callable[[], None]) -> bool:
    """Publish a delivery elsewhere and settle it here, in this order. False when its channel is gone and the broker delivers it again.

    What `publish` raises is raised, and the delivery is as unsettled as before. `AlreadySettled` when it was settled.
    """
    settlement, tag = delivery.settlement, delivery.tag
    if not settlement.claim(tag):
        return False
    try:
        publish()
    except BaseException:
        settlement.unclaim(tag)
        raise
    return settlement.ack_claimed(tag)


def travelling(raw: bytes, headers: Mapping[str, Any]) -> Properties:
    """The properties a delivery goes on with. Properties that cannot be decoded and encoded travel as they came, in a header of ours."""
    try:
        properties = decode(raw)
        encode(properties)  # text that was no UTF-8 is longer by now, and may not fit its field any more
    except PropertiesError:
        return Properties(delivery_mode=PERSISTENT, headers={**headers, names.RAW_PROPERTIES: raw})
    kept = {key: value for key, value in properties.headers.items() if key not in _NOT_TRAVELLING}
    # A user id must be that of the connection that publishes; an expiration would let a job set aside vanish.
    return replace(properties, headers={**kept, **headers}, user_id=None, expiration=None)


def trimmed(text: str) -> str:
    """`text` as a header can hold it."""
    text = printable(text)
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
