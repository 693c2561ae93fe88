"""Where a topic's jobs are besides the topic: waiting in a retry queue, or buried.

A job moves by being published, confirmed, and only then acked where it was. A crash in between leaves two of it, never none.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from time import monotonic
from typing import Any

from hopd import names
from hopd.amqp import topology
from hopd.amqp.properties import PERSISTENT, Properties, PropertiesError, decode, encode
from hopd.amqp.publisher import Outgoing, Publisher, Source
from hopd.amqp.wire import Delivery
from hopd.config import ladder
from hopd.errors import Unroutable

#: How long an unused retry queue outlives its last job. Seconds.
RETRY_QUEUE_IDLE = 3600.0

#: How long a declared retry queue is taken to be there. Its expiry deletes it with all that waits in it, and only declaring it
#: again restarts that clock, so this must be well under RETRY_QUEUE_IDLE. Seconds.
DECLARED_FOR = 300.0

#: Headers that must not travel: RabbitMQ counts anew in the next queue, and would route copies by CC and BCC once more.
_NOT_TRAVELLING = frozenset({names.DELIVERY_COUNT, "CC", "BCC"})

#: AMQP frames limit what headers may hold; an error's text is cut here. Characters.
MAX_REASON = 2000


#: The outcomes a job can have, and what is counted of them besides.
COUNTED = ("done", "failed", "delayed", "requeued", "buried", "dropped", "lost", "redelivered")


class Aside:
    """Moves a topic's jobs aside, and keeps count of what became of them all: `counts` has an int for each of `COUNTED`."""

    def __init__(self, queue: topology.QueueSpec, publisher: Publisher, source: Source) -> None:
        self.topic = queue.name
        self.counts: dict[str, int] = dict.fromkeys(COUNTED, 0)
        self._queue = queue
        self._publisher = publisher
        self._source = source
        self._declared: dict[str, float] = {}
        self._lock = threading.Lock()

    def bury(self, delivery: Delivery, headers: Mapping[str, Any], deadline: float) -> None:
        """Publish the delivery to the topic's buried queue, with `headers` added. A `PutError` when that is not confirmed."""
        queue = topology.QueueSpec(names.buried(self.topic), self._queue.durable, self._queue.queue_type)
        self._move(delivery, queue, {names.BURIED_AT: _now(), names.HOST: socket.gethostname(), **headers}, deadline)

    def retry(self, delivery: Delivery, after: float, headers: Mapping[str, Any], deadline: float) -> None:
        """Publish the delivery to the retry queue whose step is not shorter than `after` seconds; from there it returns by itself."""
        delay = ladder.step(after)
        arguments = {
            names.MESSAGE_TTL: delay,
            names.QUEUE_EXPIRES: delay + round(RETRY_QUEUE_IDLE * 1000),
            names.DEAD_LETTER_EXCHANGE: names.DEFAULT_EXCHANGE,
            names.DEAD_LETTER_ROUTING_KEY: self.topic,
        }
        queue = topology.QueueSpec(names.retry(self.topic, delay), self._queue.durable, self._queue.queue_type, arguments)
        self._move(delivery, queue, headers, deadline)

    def _move(self, delivery: Delivery, queue: topology.QueueSpec, headers: Mapping[str, Any], deadline: float) -> None:
        properties = travelling(delivery.raw_properties, {names.TOPIC: self.topic, **headers})
        message = Outgoing(names.DEFAULT_EXCHANGE, queue.name, encode(properties), delivery.body, properties.message_id)
        self._declare(queue, deadline)
        try:
            self._publisher.publish(message, deadline)
        except Unroutable:
            # Somebody deleted the queue since it was declared.
            self._declared.pop(queue.name, None)
            self._declare(queue, deadline)
            self._publisher.publish(message, deadline)

    def _declare(self, queue: topology.QueueSpec, deadline: float) -> None:
        with self._lock:
            if self._declared.get(queue.name, 0.0) > monotonic():
                return
            topology.ensure_queue(self._source.connection(deadline), queue, deadline)
            self._declared[queue.name] = monotonic() + DECLARED_FOR


def travelling(raw: bytes, headers: Mapping[str, Any]) -> Properties:
    """The properties a delivery goes on with. Properties that cannot be decoded travel as they came, in a header of ours."""
    try:
        properties = decode(raw)
    except PropertiesError:
        return Properties(delivery_mode=PERSISTENT, headers={**headers, names.RAW_PROPERTIES: raw})
    kept = {key: value for key, value in properties.headers.items() if key not in _NOT_TRAVELLING}
    # A user id must be that of the connection that publishes; an expiration would let a job set aside vanish.
    return replace(properties, headers={**kept, **headers}, user_id=None, expiration=None)


def trimmed(text: str) -> str:
    """`text` as a header can hold it."""
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
