"""The store against a plain model of it: whatever is handed over, committed and opened again in whatever order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

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
    Stored,
    Unbound,
)
from hopd.broker.store import Store
from tests.support.stored import content, message

QUEUES, EXCHANGES = ("a", "b", "c"), ("x", "y")


class Model:
    """What a store should hold: its ops applied one by one to dicts. It also makes ops that fit what it holds."""

    def __init__(self) -> None:
        self.queues: dict[str, dict[int, Stored]] = {}
        self.arguments: dict[str, object] = {}
        self.delivered: dict[str, int] = {}
        self.exchanges: dict[str, ExchangeDeclared] = {}
        self.bindings: list[Bound] = []
        self.next_id = 1

    def make(self, kind: str, which: int) -> Iterator[Op]:
        """Ops of a kind, as the broker's state would hand them over; none when there is nothing to do them with."""
        queue, exchange = QUEUES[which % 3], EXCHANGES[which % 2]
        held = list(self.queues.get(queue, ()))
        if kind == "declare" and queue not in self.queues:
            yield QueueDeclared(queue, {"x-expires": which}, which % 2 == 0)
        elif kind == "exchange" and exchange not in self.exchanges:
            yield ExchangeDeclared(exchange, "topic", False, which % 3 == 0, {"n": which})
        elif kind == "delete exchange" and exchange in self.exchanges:
            yield ExchangeDeleted(exchange)
        elif kind == "unbind" and self.bindings:
            it = self.bindings[which % len(self.bindings)]
            yield Unbound(it.source, it.destination, it.to_exchange, it.key, it.arguments)
        elif kind == "bind" and queue in self.queues:
            bound = Bound("amq.topic" if which % 2 else exchange, queue, False, str(which % 4), {})
            if bound not in self.bindings and (which % 2 or exchange in self.exchanges):
                yield bound
        elif queue in self.queues:
            yield from self._make_messages(kind, which, queue, held)

    def _make_messages(self, kind: str, which: int, queue: str, held: list[int]) -> Iterator[Op]:
        if kind == "put":
            for _ in range(which % 7):
                body = b"%d" % self.next_id * (which % 40)
                yield PutMessage(queue, self.next_id, message(body, expiration=which / 8), which / 2 or None, which % 3)
        elif kind == "delete":
            yield QueueDeleted(queue)
        elif kind == "purge":
            yield QueuePurged(queue, held[which % 5 :: 2])
        elif kind == "gone":
            yield from (Gone(queue, id_) for id_ in held[which % 3 :: 2])
        elif kind == "count" and held:
            yield Counted(queue, held[which % len(held)], which)
        elif kind == "deliver" and held:
            yield DeliveredUpTo(queue, held[which % len(held)])

    def apply(self, op: Op) -> None:
        """Do what an op says."""
        if isinstance(op, PutMessage):
            self.queues[op.queue][op.id] = Stored(op.message, op.expires_at, op.delivery_count)
            self.next_id = op.id + 1
        elif isinstance(op, Gone):
            del self.queues[op.queue][op.id]
        elif isinstance(op, Counted):
            self.queues[op.queue][op.id].delivery_count = op.delivery_count
        elif isinstance(op, DeliveredUpTo):
            self.delivered[op.queue] = op.id
        elif isinstance(op, QueuePurged):
            self.queues[op.name] = {id_: stored for id_, stored in self.queues[op.name].items() if id_ in op.kept}
        elif isinstance(op, QueueDeclared):
            self.queues[op.name], self.arguments[op.name], self.delivered[op.name] = {}, op, 0
        elif isinstance(op, ExchangeDeclared):
            self.exchanges[op.name] = op
        else:
            self._apply_end(op)

    def _apply_end(self, op: QueueDeleted | ExchangeDeleted | Bound | Unbound) -> None:
        if isinstance(op, Bound):
            self.bindings.append(op)
        elif isinstance(op, Unbound):
            self.bindings.remove(Bound(op.source, op.destination, op.to_exchange, op.key, op.arguments))
        elif isinstance(op, QueueDeleted):
            del self.queues[op.name]
            self.bindings = [each for each in self.bindings if each.destination != op.name]
        else:
            del self.exchanges[op.name]
            self.bindings = [each for each in self.bindings if each.source != op.name]

    def all(self) -> dict[tuple[str, int], tuple[object, ...]]:
        """Every message with all that belongs to it."""
        return {(queue, id_): content(stored) for queue, held in self.queues.items() for id_, stored in held.items()}


def read(store: Store, model: Model) -> dict[tuple[str, int], tuple[object, ...]]:
    """What the store has of the messages that there should be."""
    return {
        (queue, id_): content(stored) for queue, held in model.queues.items() for id_, stored in store.read(queue, list(held)) if stored
    }


def check(found: Restored, model: Model) -> None:
    """What the store loads is what the model has."""
    assert {queue.name: queue.ids for queue in found.queues} == {queue: list(held) for queue, held in model.queues.items()}
    declared = {queue.name: QueueDeclared(queue.name, queue.arguments, queue.auto_delete) for queue in found.queues}
    assert declared == {queue: model.arguments[queue] for queue in model.queues}
    assert {queue.name: queue.delivered_up_to for queue in found.queues} == {queue: model.delivered[queue] for queue in model.queues}
    assert {exchange.name: exchange for exchange in found.exchanges} == model.exchanges
    highest = max((id_ for queue in found.queues for id_ in [*queue.ids, queue.delivered_up_to]), default=0)
    assert highest < found.next_id <= model.next_id
    assert sorted(map(repr, found.bindings)) == sorted(map(repr, model.bindings))


KINDS = (
    *("put", "put", "put", "gone", "gone", "count", "deliver", "purge", "declare", "declare", "delete"),
    *("exchange", "delete exchange", "bind", "unbind", "submit", "commit", "commit", "open again"),
)


@settings(max_examples=120)
@given(steps=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 200)), max_size=60))
def test_what_is_found_is_always_what_was_handed_over_and_after_a_start_what_was_committed(steps: list[tuple[str, int]]) -> None:
    model = Model()
    batch: list[Op] = []
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory, "hopd.store"))
        store = Store(path)
        try:
            for kind, which in [*steps, ("open again", 0)]:
                if kind in ("submit", "commit", "open again"):
                    store.submit(batch)
                    batch = []
                if kind in ("commit", "open again"):
                    store.commit()
                    check(store.load(), model)
                if kind == "open again":
                    store.close()
                    store = Store(path)
                    check(store.load(), model)
                for op in model.make(kind, which):
                    model.apply(op)
                    batch.append(op)
                if not batch:
                    assert read(store, model) == model.all()
        finally:
            store.close()
