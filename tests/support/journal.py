"""A broker's store as plain dictionaries: the journal played into it, and what a restart finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hopd.broker.model import (
    Bound,
    Counted,
    DeliveredUpTo,
    ExchangeDeclared,
    ExchangeDeleted,
    Gone,
    Op,
    PutMessage,
    QueueDeclared,
    QueueDeleted,
    QueuePurged,
    Restored,
    RestoredQueue,
    Stored,
    Unbound,
)


@dataclass
class Shelved:
    """One queue as the store has it."""

    declared: QueueDeclared
    messages: dict[int, Stored] = field(default_factory=dict)
    delivered_up_to: int = 0


class Shelf:
    """What the journal of a broker amounts to."""

    def __init__(self) -> None:
        self.queues: dict[str, Shelved] = {}
        self.exchanges: dict[str, ExchangeDeclared] = {}
        self.bindings: list[Bound] = []
        self.next_id = 1

    def play(self, ops: Iterable[Op]) -> None:
        """Do what a journal says, in its order."""
        for op in ops:
            _DO[type(op)](self, op)

    def read(self, queue: str, ids: Sequence[int]) -> list[tuple[int, Stored | None]]:
        """As `Store.read`."""
        messages = self.queues[queue].messages if queue in self.queues else {}
        return [(number, messages.get(number)) for number in ids]

    def restored(self) -> Restored:
        """As `Store.load`."""
        return Restored(
            list(self.exchanges.values()),
            [_restored(name, queue) for name, queue in self.queues.items()],
            list(self.bindings),
            self.next_id,
        )

    def put(self, op: PutMessage) -> None:
        self.queues[op.queue].messages[op.id] = Stored(op.message, op.expires_at, op.delivery_count)
        self.next_id = max(self.next_id, op.id + 1)

    def gone(self, op: Gone) -> None:
        del self.queues[op.queue].messages[op.id]

    def delivered(self, op: DeliveredUpTo) -> None:
        self.queues[op.queue].delivered_up_to = op.id

    def counted(self, op: Counted) -> None:
        stored = self.queues[op.queue].messages[op.id]
        self.queues[op.queue].messages[op.id] = replace(stored, delivery_count=op.delivery_count)

    def declared(self, op: QueueDeclared) -> None:
        assert op.name not in self.queues
        self.queues[op.name] = Shelved(op)

    def deleted(self, op: QueueDeleted) -> None:
        del self.queues[op.name]
        self.bindings = [bound for bound in self.bindings if bound.to_exchange or bound.destination != op.name]

    def purged(self, op: QueuePurged) -> None:
        messages = self.queues[op.name].messages
        self.queues[op.name].messages = {number: stored for number, stored in messages.items() if number in op.kept}

    def exchange_declared(self, op: ExchangeDeclared) -> None:
        assert op.name not in self.exchanges
        self.exchanges[op.name] = op

    def exchange_deleted(self, op: ExchangeDeleted) -> None:
        del self.exchanges[op.name]
        self.bindings = [
            bound for bound in self.bindings if op.name != bound.source and not (bound.to_exchange and bound.destination == op.name)
        ]

    def bound(self, op: Bound) -> None:
        assert op not in self.bindings
        self.bindings.append(op)

    def unbound(self, op: Unbound) -> None:
        self.bindings.remove(Bound(op.source, op.destination, op.to_exchange, op.key, op.arguments))


_DO: dict[type, Callable[[Shelf, Any], None]] = {
    PutMessage: Shelf.put,
    Gone: Shelf.gone,
    DeliveredUpTo: Shelf.delivered,
    Counted: Shelf.counted,
    QueueDeclared: Shelf.declared,
    QueueDeleted: Shelf.deleted,
    QueuePurged: Shelf.purged,
    ExchangeDeclared: Shelf.exchange_declared,
    ExchangeDeleted: Shelf.exchange_deleted,
    Bound: Shelf.bound,
    Unbound: Shelf.unbound,
}


def _restored(name: str, queue: Shelved) -> RestoredQueue:
    arguments = queue.declared.arguments
    ids = sorted(queue.messages)
    priorities = [queue.messages[number].message.priority for number in ids] if "x-max-priority" in arguments else None
    body_bytes = sum(len(stored.message.body) for stored in queue.messages.values()) if "x-max-length-bytes" in arguments else 0
    return RestoredQueue(name, arguments, queue.declared.auto_delete, ids, priorities, queue.delivered_up_to, body_bytes)
