"""What was handed to the store and is not on the disk yet: only its sum has to be written, and it can be read meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

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
    Stored,
    Unbound,
)

Topology: TypeAlias = QueueDeclared | QueueDeleted | QueuePurged | ExchangeDeclared | ExchangeDeleted | Bound | Unbound


class Pending:
    """The sum of some batches, to be written in the order of its fields.

    A message that came and went in between leaves no trace, and what a purge or a deletion takes away is taken away here as
    well. So whatever `puts` holds belongs to its queue as it is after all of `topology`.
    """

    __slots__ = ("counted", "delivered", "gone", "puts", "topology", "up_to")

    def __init__(self) -> None:
        #: The number of the last batch in it; 0 when there is none.
        self.up_to = 0
        self.topology: list[Topology] = []
        self.puts: dict[int, PutMessage] = {}
        self.gone: set[int] = set()
        #: Delivery counts by message id, also of messages that are gone meanwhile.
        self.counted: dict[int, int] = {}
        #: By queue: the highest id that may have been delivered.
        self.delivered: dict[str, int] = {}

    def add(self, number: int, ops: Iterable[Op]) -> None:
        """Take up the next batch."""
        puts, gone = self.puts, self.gone
        for op in ops:
            if isinstance(op, PutMessage):
                puts[op.id] = op
            elif isinstance(op, Gone):
                if puts.pop(op.id, None) is None:
                    gone.add(op.id)
            elif isinstance(op, DeliveredUpTo):
                self.delivered[op.queue] = op.id
            elif isinstance(op, Counted):
                self.counted[op.id] = op.delivery_count
            else:
                self._add_topology(op)
        self.up_to = number

    def _add_topology(self, op: Topology) -> None:
        self.topology.append(op)
        if isinstance(op, QueueDeleted):
            self.delivered.pop(op.name, None)
            self._drop(op.name, frozenset())
        elif isinstance(op, QueuePurged):
            self._drop(op.name, frozenset(op.kept))

    def _drop(self, queue: str, kept: frozenset[int]) -> None:
        for put in [put for put in self.puts.values() if put.queue == queue and put.id not in kept]:
            del self.puts[put.id]

    def find(self, ids: Iterable[int]) -> Iterator[tuple[int, Stored | None]]:
        """Those of the messages that it decides about, None for one that is gone."""
        for id_ in ids:
            put = self.puts.get(id_)
            if put is not None:
                yield id_, Stored(put.message, put.expires_at, put.delivery_count)
            elif id_ in self.gone:
                yield id_, None

    def count(self, found: Mapping[int, Stored | None]) -> None:
        """Bring the delivery counts of what was found up to date."""
        for id_, stored in found.items():
            if stored is not None:
                stored.delivery_count = self.counted.get(id_, stored.delivery_count)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.topology or self.puts or self.gone or self.counted or self.delivered)
