"""Moves what is in a store to another broker: exchanges, queues, bindings, and every message, confirmed there before it is gone here.

It may be ended at any moment and run again. A message that the other broker has confirmed and that was not yet struck off here
is then there twice, as after any fault.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar

from hopd.amqp import properties
from hopd.amqp.channel import Channel
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.publisher import Publisher
from hopd.amqp.recovery import Link
from hopd.amqp.topology import NOT_FOUND
from hopd.broker.clock import Clock
from hopd.broker.model import Bound, ExchangeDeclared, Gone, Op, Restored, RestoredQueue, Stored
from hopd.errors import BrokerRefused, StoreError

LOGGER = logging.getLogger(__name__)

#: For each question to the other broker, and for each message to be confirmed. Seconds.
TIMEOUT = 30.0

#: What is published before it is struck off here: so much that the disk is seldom waited for, so little that little comes twice.
BATCH_MESSAGES = 500
BATCH_BYTES = 4 << 20

_T = TypeVar("_T")


class Source(Protocol):
    """The store, as far as it is used here."""

    def load(self) -> Restored:
        """What is in it."""

    def read(self, queue: str, ids: Sequence[int]) -> list[tuple[int, Stored | None]]:
        """Content."""

    def submit(self, ops: Sequence[Op]) -> int:
        """What becomes of it."""

    def commit(self) -> int:
        """Make that durable."""


@dataclass(slots=True)
class Drained:
    """How many messages were moved, and why others were not: a sentence each."""

    moved: int = 0
    problems: list[str] = field(default_factory=list)


class Drain:
    """Moves a store's content over a link. `on_moved(queue, count)` is called for each batch that is safe there and gone here."""

    def __init__(self, source: Source, link: Link, clock: Clock, on_moved: Callable[[str, int], None]) -> None:
        self._source = source
        self._link = link
        self._clock = clock
        self._on_moved = on_moved
        self._publisher = Publisher(link)
        self._drained = Drained()

    def run(self, restored: Restored) -> Drained:
        """Move everything. A `BrokerError` when there is no connection; what one queue is refused for stops no other."""
        with closing(self._publisher):
            for exchange in restored.exchanges:
                self._attempt(f"the exchange {exchange.name!r}", partial(self._declare_exchange, exchange))
            queues = [queue for queue in restored.queues if self._attempt(f"the queue {queue.name!r}", partial(self._declare_queue, queue))]
            for bound in restored.bindings:
                self._attempt(f"the binding of {bound.destination!r} to {bound.source!r}", partial(self._bind, bound))
            for queue in queues:
                self._move(queue)
            return self._drained

    # --- what must be there -------------------------------------------------------------------

    def _attempt(self, what: str, declare: Callable[[], None]) -> bool:
        try:
            declare()
        except BrokerRefused as error:
            self._drained.problems.append(f"{what} is refused: {error}")
            return False
        return True

    def _declare_exchange(self, it: ExchangeDeclared) -> None:
        deadline = monotonic() + TIMEOUT
        more: dict[str, Any] = {"auto_delete": it.auto_delete, "internal": it.internal, "arguments": dict(it.arguments) or None}
        self._ensure(
            lambda channel: channel.declare_exchange(it.name, deadline, passive=True),
            lambda channel: channel.declare_exchange(it.name, deadline, passive=False, kind=it.kind, **more),
        )

    def _declare_queue(self, it: RestoredQueue) -> None:
        deadline = monotonic() + TIMEOUT
        self._ensure(
            lambda channel: channel.declare_queue(it.name, deadline, passive=True),
            lambda channel: channel.declare_queue(it.name, deadline, passive=False, arguments=it.arguments, auto_delete=it.auto_delete),
        )

    def _ensure(self, look: Callable[[Channel], object], declare: Callable[[Channel], object]) -> None:
        """What exists there is used as it is."""
        try:
            self._ask(look)
        except BrokerRefused as error:
            if error.code != NOT_FOUND:
                raise
            self._ask(declare)

    def _bind(self, it: Bound) -> None:
        deadline = monotonic() + TIMEOUT
        if it.to_exchange:
            self._ask(lambda channel: channel.bind_exchange(it.destination, it.source, it.key, deadline, it.arguments))
        else:
            self._ask(lambda channel: channel.bind_queue(it.destination, it.source, it.key, deadline, it.arguments))

    def _ask(self, question: Callable[[Channel], _T]) -> _T:
        """Each on a channel of its own, which is closed when it is refused."""
        deadline = monotonic() + TIMEOUT
        channel = self._link.connection(deadline).channel(deadline, ack_window=0.0)
        try:
            return question(channel)
        finally:
            channel.close(deadline)

    # --- messages -----------------------------------------------------------------------------

    def _move(self, queue: RestoredQueue) -> None:
        for batch in self._batches(queue):
            messages = [Outgoing("", queue.name, self._properties(stored), stored.message.body) for _, stored in batch]
            _, failures = self._publisher.publish_many(messages, TIMEOUT)
            gone = [Gone(queue.name, number) for index, (number, _) in enumerate(batch) if index not in failures]
            if gone:
                self._source.submit(gone)
                self._source.commit()
                self._drained.moved += len(gone)
                self._on_moved(queue.name, len(gone))
            if failures:
                # The first of them says it all, and what is behind it would fare no better.
                self._drained.problems.append(f"the queue {queue.name!r} is not empty: {failures[min(failures)]}")
                return

    def _batches(self, queue: RestoredQueue) -> Iterator[list[tuple[int, Stored]]]:
        batch: list[tuple[int, Stored]] = []
        size = 0
        for number in queue.ids:
            stored = self._read(queue.name, number)
            if stored is None:
                continue
            batch.append((number, stored))
            size += stored.message.size
            if len(batch) >= BATCH_MESSAGES or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _read(self, queue: str, number: int) -> Stored | None:
        try:
            ((_, stored),) = self._source.read(queue, [number])
        except StoreError as error:
            self._drained.problems.append(f"a message in the queue {queue!r} cannot be read: {error}")
            return None
        return stored

    def _properties(self, stored: Stored) -> bytes:
        """As they came, but what was to expire still does when it was to: what is a delay in a retry queue must not begin anew."""
        raw = stored.message.properties
        if stored.expires_at is None:
            return raw
        left = max(0, round((stored.expires_at - self._clock.now()) * 1000))
        try:
            return properties.encode(replace(properties.decode(raw), expiration=str(left)))
        except properties.PropertiesError as error:
            LOGGER.warning("A message's time begins anew: %s", error, extra={"event": "expiry_unknown"})
            return raw
