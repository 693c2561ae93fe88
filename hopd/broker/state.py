"""The whole broker as pure code: no I/O, no clock. Sessions call it, the store and other sessions hear of it.

A call changes the state at once. What it means for clients gathers in `effects`, what it means for the disk in the journal;
both are taken by whoever owns the state, the journal first when it has a store. Times are seconds since 1970 and never go back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from hopd.broker.arguments import QUORUM, QUORUM_PREFETCH, REJECT_PUBLISH_DLX, consumer_priority
from hopd.broker.carbon import unfolded
from hopd.broker.channel import UNLIMITED, Channel, Client, Consumer
from hopd.broker.deaths import MAX_LENGTH, REJECTED, dead_lettered, returns_by_itself
from hopd.broker.ledger import Ledger
from hopd.broker.model import (
    Arguments,
    CloseChannel,
    DeclareOk,
    Deliver,
    Effect,
    Limits,
    Message,
    Op,
    Published,
    QueueInfo,
    Restored,
    Stored,
)
from hopd.broker.queue import Queue
from hopd.broker.queues import Queues
from hopd.broker.refusal import Code, Refused
from hopd.broker.timers import Timers
from hopd.broker.topology import Topology, check_not_default, cleaned


class State:
    """Exchanges, queues, consumers and what is between them. Its methods raise `Refused` and then have changed nothing.

    Deliveries of earlier calls are in `effects` until they are taken; a session that answers a method itself (cancel-ok, get-ok)
    takes them first, so that nothing overtakes. With `paging` there is a store: only the head of a durable queue stays in memory.
    """

    def __init__(self, *, paging: bool, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._ledger = Ledger()
        self._timers = Timers()
        self._topology = Topology(self._ledger)
        self._queues = Queues(self._topology, self._ledger, self._timers, self._limits if paging else None)
        self._clients: dict[object, Client] = {}

    @property
    def effects(self) -> list[Effect]:
        """What sessions are to be told and was not taken yet."""
        return self._ledger.effects

    @property
    def memory(self) -> int:
        """Bytes of message content held."""
        return self._ledger.memory

    @property
    def messages(self) -> int:
        """Messages in all queues, ready and unsettled, in memory or not."""
        return self._ledger.messages

    def take_effects(self) -> list[Effect]:
        """What sessions are to be told since the last time, in order."""
        return self._ledger.take_effects()

    def take_journal(self) -> list[Op]:
        """What the store has to make durable since the last time, in order. Empty when it all cancelled out: then it is durable."""
        return self._ledger.take_journal()

    def restore(self, restored: Restored, now: float) -> None:
        """Take over what the store found at start. Call once, before anything else, and only with `paging`."""
        self._ledger.next_id = restored.next_id
        for exchange in restored.exchanges:
            self._topology.restore(exchange)
        for queue in restored.queues:
            self._queues.restore(queue, now)
        for bound in restored.bindings:
            destination = self._topology.get(bound.destination) if bound.to_exchange else self._queues.get(bound.destination)
            if destination is not None:
                self._topology.find(bound.source).bind(destination, bound.key, bound.arguments)

    # --- clients ------------------------------------------------------------------------------------------------------

    def connected(self, owner: object) -> None:
        """A client is there. `owner` is whatever stands for it; exclusive queues are its own."""
        self._clients[owner] = Client(owner, self._limits.max_unwritten, self._watch)

    def disconnected(self, owner: object, now: float) -> None:
        """A client is gone: its channels are closed, its exclusive queues deleted."""
        self._clients.pop(owner).close(now)
        self._queues.release(owner)
        self._bury(now)

    def wrote(self, owner: object, now: float) -> None:
        """The client's deliveries so far are written: it may get the next `Limits.max_unwritten` bytes.

        Not to be called for a client that does not read: it gets no more then.
        """
        self._clients[owner].wrote(now)
        self._bury(now)

    def open_channel(self, owner: object, number: int) -> Channel:
        """A channel of a connected client."""
        return Channel(self._clients[owner], number)

    def close_channel(self, channel: Channel, now: float) -> None:
        """End a channel; what is unsettled on it goes back to its places. Again does nothing."""
        channel.close(now)
        self._bury(now)

    # --- topology -----------------------------------------------------------------------------------------------------

    def exchange_declare(
        self, name: str, kind: str, *, passive: bool, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments
    ) -> None:
        """Make an exchange, or see that it is there (`passive`) or that the one that is there is the same."""
        if passive:
            self._topology.check_declared(name)
        else:
            self._topology.declare(name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments)

    def exchange_delete(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange, if there is one, and the bindings from and to it."""
        self._topology.delete(name, if_unused=if_unused)

    def exchange_bind(self, destination: str, source: str, key: str, arguments: Arguments) -> None:
        """What reaches `source` with that key goes on to `destination`."""
        check_not_default(destination)
        exchange = self._topology.source(source)
        exchange.check_binding(arguments)
        self._topology.bind(exchange, self._topology.find(cleaned(destination)), key, arguments)

    def exchange_unbind(self, destination: str, source: str, key: str, arguments: Arguments) -> None:
        """End a binding, if there is one."""
        check_not_default(destination)
        check_not_default(source)
        exchange, bound = self._topology.get(cleaned(source)), self._topology.get(cleaned(destination))
        if exchange is not None and bound is not None:
            self._topology.unbind(exchange, bound, key, arguments)

    def queue_declare(
        self,
        owner: object,
        name: str,
        *,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Arguments,
        now: float,
    ) -> DeclareOk:
        """An empty name asks for one made up by the broker; it is in the answer.

        That an empty name elsewhere means the queue last declared on the channel is for the session to know.
        """
        if passive:
            queue = self._queues.find(owner, cleaned(name))
            self._queues.used(queue, now)
        else:
            queue = self._queues.declare(
                owner, name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments, now=now
            )
        return DeclareOk(queue.name, queue.ready.count, len(queue.consumers))

    def queue_bind(self, owner: object, queue: str, exchange: str, key: str, arguments: Arguments) -> None:
        """What reaches `exchange` with that key goes into `queue`."""
        source = self._topology.source(exchange)
        source.check_binding(arguments)
        self._topology.bind(source, self._queues.find(owner, cleaned(queue)), key, arguments)

    def queue_unbind(self, owner: object, queue: str, exchange: str, key: str, arguments: Arguments) -> None:
        """End a binding, if there is one."""
        check_not_default(exchange)
        source = self._topology.get(cleaned(exchange))
        if source is not None and self._queues.get(cleaned(queue)) is not None:
            self._topology.unbind(source, self._queues.find(owner, cleaned(queue)), key, arguments)

    def queue_purge(self, owner: object, queue: str) -> int:
        """Drop what is ready; how much it was."""
        found = self._queues.find(owner, queue)
        channels = [channel for client in self._clients.values() for channel in client.channels]
        unsettled = [copy.id for channel in channels for copy in channel.unsettled.values() if copy.queue is found]
        return self._queues.purge(found, unsettled)

    def queue_delete(self, owner: object, queue: str, *, if_unused: bool, if_empty: bool) -> int:
        """Delete a queue, if there is one; how many ready messages it held."""
        name = cleaned(queue)
        if self._queues.get(name) is None:
            return 0
        found = self._queues.find(owner, name)
        if found.options.kind == QUORUM and (if_empty or if_unused):
            raise _undeletable(name, "if-unused" if if_unused else "if-empty")
        if if_empty and found.ready.count:
            raise Refused(Code.PRECONDITION_FAILED, f"queue '{name}' in vhost '/' not empty")
        if if_unused and len(found.consumers):
            raise Refused(Code.PRECONDITION_FAILED, f"queue '{name}' in vhost '/' in use")
        return self._queues.delete(found)

    # --- messages -----------------------------------------------------------------------------------------------------

    def publish(self, message: Message, now: float) -> Published:
        """Route a message to its queues."""
        message, keys = _keys(message)
        if message.exchange:
            exchange = self._topology.find(message.exchange)
            if exchange.internal:
                raise Refused(Code.ACCESS_REFUSED, f"cannot publish to internal exchange '{exchange.name}' in vhost '/'")
            queues = self._topology.route(exchange, message, keys)
        else:
            queues = self._named(keys)
        published = self._put(message, queues, now)
        if self._ledger.dead:
            self._bury(now)
        return published

    def _named(self, keys: Sequence[str]) -> list[Queue]:
        """The way through the default exchange."""
        return [queue for queue in map(self._queues.get, dict.fromkeys(keys)) if queue is not None]

    def _put(self, message: Message, queues: list[Queue], now: float) -> Published:
        accepted, durable = True, False
        for queue in queues:
            if queue.bounded and queue.overflows(message):
                accepted = False
                if queue.options.overflow == REJECT_PUBLISH_DLX:
                    queue.bury(message, MAX_LENGTH)
            elif queue.put(message, now):
                durable = True
        return Published(bool(queues), accepted, durable)

    def _bury(self, now: float) -> None:
        """Publish what was dead-lettered, and what is dead-lettered by that."""
        dead = self._ledger.dead
        while dead:
            letter = dead.popleft()
            exchange = self._topology.get(letter.exchange)
            if exchange is None and letter.exchange:
                continue
            dead_as = dead_lettered(letter.message, letter.queue, letter.reason, exchange=letter.exchange, key=letter.key, now=now)
            message, keys = _keys(dead_as.message)
            queues = self._named(keys) if exchange is None else self._topology.route(exchange, message, keys)
            if letter.reason != REJECTED:
                queues = [queue for queue in queues if not returns_by_itself(dead_as.deaths, queue.name)]
            self._put(message, queues, now)

    def qos(self, channel: Channel, prefetch_count: int, global_: bool, now: float) -> None:
        """Bound what is unsettled: for each consumer from now on, or (`global_`) for the channel as a whole. 0: no bound."""
        bound = prefetch_count or UNLIMITED
        if not global_:
            channel.consumer_prefetch = bound
        # Asking for the one ends the other (`rabbit_channel`).
        channel.prefetch = bound if global_ else UNLIMITED
        channel.resume(now)
        self._bury(now)

    def consume(self, channel: Channel, queue: str, tag: str, *, no_ack: bool, exclusive: bool, arguments: Arguments, now: float) -> str:
        """Start a consumer; its tag, made up when it is empty. Its first deliveries are effects: send consume-ok before them."""
        if tag in channel.consumers:
            raise Refused(Code.NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
        found = self._queues.find(channel.owner, queue)
        priority = consumer_priority(queue, arguments)
        _check_may_consume(found, channel, exclusive)
        prefetch = channel.consumer_prefetch
        if found.options.kind == QUORUM and prefetch == UNLIMITED:
            prefetch = QUORUM_PREFETCH
        tag = tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        consumer = Consumer(channel, found, tag, no_ack=no_ack, exclusive=exclusive, priority=priority, prefetch=prefetch)
        channel.consumers[tag] = consumer
        found.join(consumer, now)
        self._bury(now)
        return tag

    def cancel(self, channel: Channel, tag: str, now: float) -> None:
        """End a consumer, if there is one; its deliveries stay the client's to settle."""
        consumer = channel.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.leave(consumer, now)
            consumer.queue.dispatch(now)
            self._bury(now)

    def get(self, channel: Channel, queue: str, *, no_ack: bool, now: float) -> tuple[Deliver, int] | None:
        """The queue's next message and how many are ready behind it, or None.

        None also while the queue `awaits_content`: then answer its `Load` and ask again.
        """
        found = self._queues.find(channel.owner, queue)
        self._queues.used(found, now)
        delivery = found.get(channel, no_ack, now)
        self._bury(now)
        return None if delivery is None else (delivery, found.ready.count)

    def awaits_content(self, queue: str) -> bool:
        """The queue's next message is on disk, and a `Load` for it is or was among the effects."""
        found = self._queues.get(queue)
        return found is not None and found.awaits_content

    def ack(self, channel: Channel, tag: int, multiple: bool, now: float) -> None:
        """A delivery is done, or (`multiple`) all up to it; with tag 0 all there are."""
        channel.ack(tag, multiple, now)
        if self._ledger.dead:
            self._bury(now)

    def nack(self, channel: Channel, tag: int, multiple: bool, requeue: bool, now: float) -> None:
        """As `ack`, but back to its place or (not `requeue`) dead-lettered."""
        if requeue:
            channel.requeue(tag, multiple, now)
        else:
            channel.reject(tag, multiple, now)
        self._bury(now)

    def reject(self, channel: Channel, tag: int, requeue: bool, now: float) -> None:
        """As `nack` for one delivery."""
        self.nack(channel, tag, False, requeue, now)

    def recover(self, channel: Channel, requeue: bool, now: float) -> None:
        """Everything unsettled goes back to its place. Without `requeue`: 540, as RabbitMQ answers."""
        if not requeue:
            raise Refused(Code.NOT_IMPLEMENTED, "requeue=false")
        channel.requeue(0, True, now)
        self._bury(now)

    def loaded(self, queue: str, rows: Iterable[tuple[int, Stored | None]], now: float) -> None:
        """The answer to a `Load`; None for a message that the store does not have any more."""
        found = self._queues.get(queue)
        if found is not None:
            found.loaded(rows, now)
            self._bury(now)

    # --- time and looks -----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due: messages and queues expire, clients that keep a delivery too long lose their channel."""
        self._timers.run(now)
        self._bury(now)

    def due(self) -> float | None:
        """When `tick` has something to do, or None."""
        return self._timers.due()

    def queues(self) -> list[QueueInfo]:
        """All queues, by name."""
        infos = (QueueInfo(queue.name, queue.ready.count, queue.unsettled, len(queue.consumers)) for queue in self._queues)
        return sorted(infos)

    def _watch(self, channel: Channel, now: float) -> None:
        """Something unsettled is on a channel: look at it when its time is up."""
        if self._limits.consumer_timeout is not None:
            self._timers.add(now + self._limits.consumer_timeout, lambda later: self._look_at(channel, later))

    def _look_at(self, channel: Channel, now: float) -> None:
        oldest = next(iter(channel.unsettled.values()), None)
        timeout = self._limits.consumer_timeout
        if oldest is None or timeout is None:
            channel.watched = False
        elif oldest.delivered_at + timeout > now:
            self._watch(channel, oldest.delivered_at)
        else:
            channel.close(now)
            self._ledger.effects.append(CloseChannel(channel, _timed_out(channel, timeout)))


def _keys(message: Message) -> tuple[Message, Sequence[str]]:
    """A message as it is delivered, and the keys it is routed by. Almost none has more than one."""
    if b"CC" not in message.properties:
        return message, (message.routing_key,)
    message, carbon = unfolded(message)
    return message, (message.routing_key, *carbon)


def _check_may_consume(queue: Queue, channel: Channel, exclusive: bool) -> None:
    if queue.options.kind == QUORUM and channel.prefetch != UNLIMITED:
        raise Refused(Code.NOT_IMPLEMENTED, f"queue '{queue.name}' in vhost '/' does not support global qos")
    in_use = queue.consumers.exclusive or (exclusive and (len(queue.consumers) > 0 or queue.options.single_active))
    if in_use:
        raise Refused(Code.ACCESS_REFUSED, f"queue '{queue.name}' in vhost '/' in exclusive use")


def _undeletable(queue: str, flag: str) -> Refused:
    text = f"cannot delete queue '{queue}' in vhost '/'. queue.delete operations with {flag} flag set are not supported by quorum queues"
    return Refused(Code.NOT_IMPLEMENTED, text)


def _timed_out(channel: Channel, timeout: float) -> Refused:
    return Refused(
        Code.PRECONDITION_FAILED,
        f"delivery acknowledgement on channel {channel.number} timed out. Timeout value used: {round(timeout * 1000)} ms. "
        "This timeout value can be configured, see consumers doc guide to learn more",
    )
