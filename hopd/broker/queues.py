"""All queues of a broker: how they come to be and how they end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from hopd.broker.arguments import QUORUM, QueueOptions, check_same, check_same_arguments, compared_arguments, queue_options
from hopd.broker.ledger import Ledger
from hopd.broker.model import Arguments, Cancelled, Limits, QueueDeclared, QueueDeleted, QueuePurged, RestoredQueue
from hopd.broker.queue import Queue
from hopd.broker.refusal import Code, Refused
from hopd.broker.timers import Timers
from hopd.broker.topology import RESERVED, Topology, cleaned


class Queues:
    """Queues by name. Those that are exclusive end with their owner, others when they are unused for too long or no more."""

    def __init__(self, topology: Topology, ledger: Ledger, timers: Timers, paging: Limits | None) -> None:
        self._by_name: dict[str, Queue] = {}
        self._exclusive: dict[object, dict[Queue, None]] = {}
        self._topology = topology
        self._ledger = ledger
        self._timers = timers
        self._paging = paging
        self.get = self._by_name.get

    def __iter__(self) -> Iterator[Queue]:
        return iter(self._by_name.values())

    def find(self, owner: object, name: str) -> Queue:
        """The queue of that name, which is not another client's: 404, 405."""
        queue = self._by_name.get(name)
        if queue is None:
            raise Refused(Code.NOT_FOUND, f"no queue '{name}' in vhost '/'")
        _check_access(queue, owner)
        return queue

    def declare(
        self, owner: object, name: str, *, durable: bool, exclusive: bool, auto_delete: bool, arguments: Arguments, now: float
    ) -> Queue:
        """The queue, new or as it is: then all has to be the same (406)."""
        name = cleaned(name)
        if name.startswith(RESERVED):  # also one that the broker made up: it is found passively only
            raise Refused(Code.ACCESS_REFUSED, f"queue name '{name}' contains reserved prefix 'amq.*'")
        durable = durable and not exclusive
        queue = self._by_name.get(name) if name else None
        if queue is None:
            queue = self._create(name, owner if exclusive else None, durable, auto_delete, arguments)
        else:
            _check_same(queue, owner if exclusive else None, durable, auto_delete, arguments)
        self.used(queue, now)
        return queue

    def used(self, queue: Queue, now: float) -> None:
        """Somebody declared it or asked it for a message: it will not expire for a while."""
        queue.used_at = now
        self._arm(queue)

    def purge(self, queue: Queue, unsettled: list[int]) -> int:
        """Drop what is ready; how much it was. `unsettled` are its messages that clients have."""
        count = queue.clear()
        if count and queue.durable:
            self._ledger.note(QueuePurged(queue.name, unsettled))
        return count

    def delete(self, queue: Queue) -> int:
        """End a queue; how many messages were ready in it. Its consumers are told."""
        queue.deleted = True
        del self._by_name[queue.name]
        if queue.owner is not None:
            self._exclusive[queue.owner].pop(queue)
        self._topology.forget(queue)
        for consumer in queue.consumers:
            queue.consumers.remove(consumer)
            del consumer.channel.consumers[consumer.tag]
            self._ledger.effects.append(Cancelled(consumer.channel, consumer.tag))
        if queue.durable:
            self._ledger.note(QueueDeleted(queue.name))
            self._ledger.forget(queue.name)
        return queue.clear()

    def release(self, owner: object) -> None:
        """A client is gone, and with it the queues that were its own."""
        for queue in list(self._exclusive.get(owner, ())):
            self.delete(queue)
        self._exclusive.pop(owner, None)

    def restore(self, found: RestoredQueue, now: float) -> None:
        """A queue from the store."""
        options = queue_options(found.name, found.arguments)
        queue = self._add(found.name, options, None, True, found.auto_delete, found.arguments)
        queue.restore(found)
        self.used(queue, now)

    def _create(self, name: str, owner: object | None, durable: bool, auto_delete: bool, arguments: Arguments) -> Queue:
        shown = name or f"amq.gen-{secrets.token_urlsafe(16)}"
        options = queue_options(shown, arguments)
        if options.kind == QUORUM:
            _check_quorum(name, owner, durable, auto_delete)
        queue = self._add(shown, options, owner, durable, auto_delete, arguments)
        if durable:
            self._ledger.note(QueueDeclared(shown, arguments, auto_delete))
        return queue

    def _add(self, name: str, options: QueueOptions, owner: object | None, durable: bool, auto_delete: bool, arguments: Arguments) -> Queue:
        queue = Queue(
            name,
            options,
            arguments,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner,
            ledger=self._ledger,
            timers=self._timers,
            paging=self._paging,
            abandoned=self._abandoned,
        )
        self._by_name[name] = queue
        if owner is not None:
            self._exclusive.setdefault(owner, {})[queue] = None
        return queue

    def _abandoned(self, queue: Queue) -> None:
        """Its last consumer left."""
        if queue.auto_delete:
            self.delete(queue)
        else:
            self._arm(queue)

    def _arm(self, queue: Queue) -> None:
        expires = queue.options.expires
        if expires is not None and not queue.expiry_armed:
            queue.expiry_armed = True
            self._timers.add(queue.used_at + expires, lambda now: self._expire(queue, now))

    def _expire(self, queue: Queue, now: float) -> None:
        queue.expiry_armed = False
        if queue.deleted or len(queue.consumers):
            return
        if queue.options.expires is not None and queue.used_at + queue.options.expires <= now:
            self.delete(queue)
        else:
            self._arm(queue)


def _check_access(queue: Queue, owner: object | None, exactly: bool = False) -> None:
    if queue.owner is not owner and (exactly or queue.owner is not None):
        raise Refused(
            Code.RESOURCE_LOCKED,
            f"cannot obtain exclusive access to locked queue '{queue.name}' in vhost '/'. It could be originally declared on another "
            "connection or the exclusive property value does not match that of the original declaration.",
        )


def _check_same(queue: Queue, owner: object | None, durable: bool, auto_delete: bool, arguments: Arguments) -> None:
    what = f"queue '{queue.name}'"
    _check_access(queue, owner, exactly=True)
    check_same(what, "durable", durable, queue.durable)
    check_same(what, "auto_delete", auto_delete, queue.auto_delete)
    check_same_arguments(what, arguments, queue.arguments, compared_arguments(queue.options.kind))


def _check_quorum(name: str, owner: object | None, durable: bool, auto_delete: bool) -> None:
    if not name:
        raise Refused(Code.PRECONDITION_FAILED, "Cannot declare a server-named queue for type rabbit_quorum_queue")
    for wrong, what in ((auto_delete, "auto-delete"), (owner is not None, "exclusive-owner"), (not durable, "non-durable")):
        if wrong:
            raise Refused(Code.PRECONDITION_FAILED, f"invalid property '{what}' for queue '{name}' in vhost '/'")
