"""What must be there in the broker before a topic can be used, declared so that nothing of the operator's is changed.

Passively first: what exists is used as it is, with a warning where it differs from what was asked for; only what is
missing is declared. A broker closes the channel at every refusal, so each question gets a channel of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hopd import names
from hopd.amqp.channel import Channel
from hopd.amqp.connection import Connection
from hopd.errors import BrokerRefused

LOGGER = logging.getLogger(__name__)

NOT_FOUND, ACCESS_REFUSED, PRECONDITION_FAILED = 404, 403, 406

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue as it should be. `arguments` are RabbitMQ's `x-…` arguments, `queue_type` is classic or quorum."""

    name: str
    durable: bool = True
    queue_type: str = "classic"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def declared_arguments(self) -> dict[str, Any]:
        """The arguments to declare it with. A classic queue names no type: so it equals what any other client declares."""
        kind = {} if self.queue_type == "classic" else {names.QUEUE_TYPE: self.queue_type}
        return {**kind, **self.arguments}


def ensure_exchange(connection: Connection, exchange: str, durable: bool, deadline: float) -> None:
    """Have a direct exchange of that name, of whatever durability."""
    if exchange == names.DEFAULT_EXCHANGE:
        return
    try:
        _ask(connection, deadline, lambda channel: channel.declare_exchange(exchange, deadline, passive=True))
    except BrokerRefused as error:
        if error.code != NOT_FOUND:
            raise
        _ask(connection, deadline, lambda channel: channel.declare_exchange(exchange, deadline, passive=False, durable=durable))


def ensure_queue(connection: Connection, spec: QueueSpec, deadline: float) -> None:
    """Have the queue; warn when one is there that differs. `BrokerRefused` when the broker will not have it."""
    try:
        _ask(connection, deadline, lambda channel: channel.declare_queue(spec.name, deadline, passive=True))
    except BrokerRefused as error:
        if error.code != NOT_FOUND:
            raise
        _ask(connection, deadline, lambda channel: _declare(channel, spec, deadline))
        return
    _warn_of_differences(connection, spec, deadline)


def ensure_bound(connection: Connection, queue: str, exchange: str, deadline: float) -> None:
    """Bind the queue to the exchange under its own name. Without the permission to, it is used as it is bound."""
    if exchange == names.DEFAULT_EXCHANGE:
        return
    try:
        _ask(connection, deadline, lambda channel: channel.bind_queue(queue, exchange, queue, deadline))
    except BrokerRefused as error:
        if error.code != ACCESS_REFUSED:
            raise
        LOGGER.warning("The queue %r cannot be bound to %r: %s", queue, exchange, error, extra={"event": "bind_refused", "queue": queue})


def declare_queue(connection: Connection, spec: QueueSpec, deadline: float) -> None:
    """Declare a queue of our own naming outright, which also restarts the clock of its expiry."""
    _ask(connection, deadline, lambda channel: _declare(channel, spec, deadline))


def ready(connection: Connection, queue: str, deadline: float) -> int:
    """How many messages are ready in a queue."""
    return _ask(connection, deadline, lambda channel: channel.declare_queue(queue, deadline, passive=True))


def delete_queue(connection: Connection, queue: str, deadline: float) -> int:
    """Delete a queue with all that is in it, if it is there; returns how many messages that were."""
    return _ask(connection, deadline, lambda channel: channel.delete_queue(queue, deadline))


def _declare(channel: Channel, spec: QueueSpec, deadline: float) -> int:
    return channel.declare_queue(spec.name, deadline, passive=False, durable=spec.durable, arguments=spec.declared_arguments())


def _warn_of_differences(connection: Connection, spec: QueueSpec, deadline: float) -> None:
    """Declaring what exists changes nothing; where it differs the broker says in what, and only this channel pays for it."""
    try:
        _ask(connection, deadline, lambda channel: _declare(channel, spec, deadline))
    except BrokerRefused as error:
        if error.code not in (PRECONDITION_FAILED, ACCESS_REFUSED):
            raise
        if error.code == PRECONDITION_FAILED:
            extra = {"event": "queue_differs", "queue": spec.name}
            LOGGER.warning("The queue %r is used as it is, though it differs from the config: %s", spec.name, error, extra=extra)


def _ask(connection: Connection, deadline: float, question: Callable[[Channel], _T]) -> _T:
    channel = connection.channel(deadline, ack_window=0.0)
    try:
        return question(channel)
    finally:
        channel.close(deadline)
