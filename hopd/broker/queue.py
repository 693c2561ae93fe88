"""One queue: what is ready in it, who takes from it, and the rules its arguments ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hopd.broker.arguments import DROP_HEAD, QUORUM, QueueOptions
from hopd.broker.channel import Channel, Consumer, Copy
from hopd.broker.consumers import Consumers
from hopd.broker.deaths import DELIVERY_LIMIT, EXPIRED, MAX_LENGTH, REJECTED, counted
from hopd.broker.ledger import DeadLetter, Ledger
from hopd.broker.model import Arguments, Deliver, Limits, Load, Message, RestoredQueue, Stored
from hopd.broker.ready import Ready
from hopd.broker.refusal import Code, Refused
from hopd.broker.timers import Timers


class Queue:
    """Its messages leave in order: the highest priority first, then as they came; what comes back goes to its old place.
    (A quorum queue is different: see `_return_to_quorum`.)

    Whenever something changes, whatever is ready is handed to consumers with room, at once. So either nothing is ready, or
    nobody has room, or the next message is still in the store.
    """

    def __init__(
        self,
        name: str,
        options: QueueOptions,
        arguments: Arguments,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        ledger: Ledger,
        timers: Timers,
        paging: Limits | None,
        abandoned: Callable[[Queue], None],
    ) -> None:
        self.name = name
        self.options = options
        self.arguments = arguments
        self.durable = durable
        self.auto_delete = auto_delete
        #: The client it belongs to, when it is exclusive.
        self.owner = owner
        self.consumers = Consumers(options.single_active)
        self.deleted = False
        self.unsettled = 0
        #: When somebody last declared it, asked it for a message or left it: `x-expires` counts from there.
        self.used_at = 0.0
        #: It is going to be looked at when that is over.
        self.expiry_armed = False
        self.bounded = options.max_length is not None or options.max_bytes is not None
        #: What nobody has been given, or has given back.
        self.ready = Ready(options.max_priority, paging if durable else None)
        self._paged = paging is not None and durable
        #: A quorum queue keeps on disk what its publisher called transient as well.
        self._keeps_all = durable and options.kind == QUORUM
        self._returns = 0
        #: The highest id that a client was given to keep, in all its life and up to the last restart.
        self._delivered_up_to = 0
        self._delivered_before = 0
        self._expiring = False
        self._wakes_at: float | None = None
        self._abandoned = abandoned
        self._ledger = ledger
        self._timers = timers

    # --- in -----------------------------------------------------------------------------------------------------------

    def overflows(self, message: Message) -> bool:
        """It is full, and refuses what does not fit."""
        if not self.bounded or self.options.overflow == DROP_HEAD:
            return False
        return self._over(self.ready.count + 1, self.ready.body_bytes + len(message.body))

    def put(self, message: Message, now: float) -> bool:
        """A message arrives. True when it went into the journal."""
        ttl = self.options.message_ttl
        if message.expiration is not None:
            ttl = message.expiration if ttl is None else min(ttl, message.expiration)
        stored = self._keeps_all or (self.durable and message.persistent)
        copy = Copy(self._new_id(), message, self, None if ttl is None else now + ttl, stored)
        self._ledger.came(copy)
        consumer = None if self.ready.count else self.consumers.next()
        if consumer is not None:
            self._deliver(copy, consumer, now)
        else:
            self._append(copy, now)
        return copy.stored

    def _append(self, copy: Copy, now: float) -> None:
        if not self.ready.append(copy):
            self._ledger.memory -= copy.message.size
        if self.bounded:
            self._drop_excess()
        if copy.expires_at is not None:
            self._expiring = True
        if self._expiring:
            self._head(now)
            self._watch()

    # --- out ----------------------------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> None:
        """Hand out what is ready to whoever has room."""
        while self.ready.count:
            copy = self._head(now)
            consumer = None if copy is None else self.consumers.next()
            if copy is None or consumer is None:
                break
            self._take()
            self._deliver(copy, consumer, now)
        if self._expiring:
            self._watch()

    def get(self, channel: Channel, no_ack: bool, now: float) -> Deliver | None:
        """The next message for somebody who asks for one."""
        if self.options.single_active and self.options.kind == QUORUM:
            raise Refused(
                Code.RESOURCE_LOCKED,
                f"cannot obtain access to locked queue '{self.name}' in vhost '/'. "
                "basic.get operations are not supported by quorum queues with single active consumer",
            )
        copy = self._head(now)
        if copy is None:
            return None
        self._take()
        effect = self._delivery(copy, channel, None, no_ack, now)
        if self._expiring:
            self._head(now)
            self._watch()
        return effect

    @property
    def awaits_content(self) -> bool:
        """The next message is in the store, and has been asked for."""
        return self.ready.count > 0 and self.ready.head() is None

    def _head(self, now: float) -> Copy | None:
        """The next message to hand out, if it is here; what is overdue in front of it is dropped. Only the head expires."""
        while True:
            copy = self.ready.head()
            if copy is None or copy.expires_at is None or copy.expires_at > now:
                return copy
            self._take()
            self._drop(copy, EXPIRED)

    def _take(self) -> None:
        self.ready.take()
        if self._paged:
            self.load()

    def _deliver(self, copy: Copy, consumer: Consumer, now: float) -> None:
        self._ledger.effects.append(self._delivery(copy, consumer.channel, consumer, consumer.no_ack, now))

    def _delivery(self, copy: Copy, channel: Channel, consumer: Consumer | None, no_ack: bool, now: float) -> Deliver:
        message = copy.message
        # A quorum queue tells how often it came back; to a consumer only if it did, to one who asks always (RabbitMQ 3.10).
        if copy.delivery_count or (consumer is None and self.options.kind == QUORUM):
            message = counted(message, copy.delivery_count)
        tag = channel.deliver(copy, consumer, no_ack, now)
        channel.client.unwritten += message.size
        if no_ack:
            self._ledger.went(copy)
        else:
            self.unsettled += 1
            if copy.stored and copy.id > self._delivered_up_to:
                self._delivered_up_to = copy.id
                self._ledger.delivered(self.name, copy.id)
        return Deliver(channel, "" if consumer is None else consumer.tag, tag, copy.redelivered, message)

    # --- settled ----------------------------------------------------------------------------------------------------

    def settled(self, copy: Copy) -> None:
        """It was acked."""
        self.unsettled -= 1
        self._gone(copy)

    def rejected(self, copy: Copy) -> None:
        """It was refused, not to come again."""
        self.unsettled -= 1
        self._drop(copy, REJECTED)

    def returned(self, copies: list[Copy], lost: bool) -> None:
        """They go back to their places, because their client gave them back or (`lost`) went away; `dispatch` has to follow."""
        self.unsettled -= len(copies)
        for copy in copies:
            copy.redelivered = True
            copy.consumer = None
            if self.deleted:
                self._gone(copy)
            elif self.options.kind == QUORUM:
                self._count(copy, lost)
            else:
                self.ready.put_back(copy.id, copy)
        if self.bounded:
            self._drop_excess()

    def _count(self, copy: Copy, lost: bool) -> None:
        """A quorum queue gets a message back: it goes to the front, behind those that came back before, but to the end when its
        client gave it back and there is no delivery limit (RabbitMQ from 3.10 on, to be able to shorten its log)."""
        copy.delivery_count += 1
        limit = self.options.delivery_limit
        if limit is not None and copy.delivery_count > limit:
            self._drop(copy, DELIVERY_LIMIT)
        elif limit is None and not lost:
            self._come_again(copy)
        else:
            if copy.stored:
                self._ledger.counted(copy)
            self._returns += 1
            self.ready.put_back(self._returns, copy)

    def _come_again(self, copy: Copy) -> None:
        """At the end of the queue, as if it had been published now."""
        self._ledger.went(copy)
        copy.id = self._new_id()
        self._ledger.came(copy)
        if not self.ready.append(copy):
            self._ledger.memory -= copy.message.size

    def _new_id(self) -> int:
        number = self._ledger.next_id
        self._ledger.next_id = number + 1
        return number

    def _drop(self, copy: Copy, reason: str) -> None:
        """It leaves, for the dead-letter exchange if there is one."""
        self._gone(copy)
        if not self.deleted:
            self.bury(copy.message, reason)

    def bury(self, message: Message, reason: str) -> None:
        """Leave a message to the dead-letter exchange, if there is one."""
        options = self.options
        if options.dead_letter_exchange is not None:
            letter = DeadLetter(message, self.name, reason, options.dead_letter_exchange, options.dead_letter_key)
            self._ledger.dead.append(letter)

    def _gone(self, copy: Copy) -> None:
        if self.deleted:
            copy.stored = False  # the store has deleted it with the queue
        self._ledger.went(copy)

    # --- limits -----------------------------------------------------------------------------------------------------

    def _over(self, ready: int, body_bytes: int) -> bool:
        options = self.options
        if options.max_length is not None and ready > options.max_length:
            return True
        return options.max_bytes is not None and body_bytes > options.max_bytes

    def _drop_excess(self) -> None:
        """Make room at the head, overdue or not. When that is not here yet, `loaded` calls again."""
        if self.options.overflow != DROP_HEAD:
            return
        while self._over(self.ready.count, self.ready.body_bytes):
            copy = self.ready.head()
            if copy is None:
                return
            self._take()
            self._drop(copy, MAX_LENGTH)

    def _watch(self) -> None:
        """See to it that the head expires in time."""
        head = self.ready.head()
        if head is None or head.expires_at is None:
            return
        if self._wakes_at is None or head.expires_at < self._wakes_at:
            self._wakes_at = head.expires_at
            self._timers.add(head.expires_at, self._wake)

    def _wake(self, now: float) -> None:
        self._wakes_at = None
        self._head(now)
        self.dispatch(now)

    # --- consumers --------------------------------------------------------------------------------------------------

    def join(self, consumer: Consumer, now: float) -> None:
        """A consumer starts."""
        self.consumers.add(consumer)
        self.dispatch(now)

    def leave(self, consumer: Consumer, now: float) -> None:
        """A consumer ends; `dispatch` has to follow, for with a single active consumer the next one takes over."""
        self.consumers.remove(consumer)
        if not self.consumers:
            self.used_at = now
            self._abandoned(self)

    def resume(self, consumer: Consumer, now: float) -> None:
        """A consumer that had no room may have some."""
        if consumer.has_room():
            self.consumers.resume(consumer)
            if self.ready.count:
                self.dispatch(now)

    # --- the store ----------------------------------------------------------------------------------------------------

    def restore(self, found: RestoredQueue) -> None:
        """Its messages, as the store found them."""
        self._delivered_up_to = self._delivered_before = found.delivered_up_to
        self.ready.restore(found.ids, found.priorities, found.body_bytes)
        self._ledger.messages += len(found.ids)
        self.load()

    def load(self) -> None:
        """Ask for the content that comes next."""
        while ids := self.ready.wanted():
            self._ledger.effects.append(Load(self.name, ids))

    def loaded(self, rows: Iterable[tuple[int, Stored | None]], now: float) -> None:
        """Content that was asked for; None for what the store has lost."""
        copies = {number: None if stored is None else self._copy(number, stored) for number, stored in rows}
        before = self.ready.count
        for copy in self.ready.loaded(copies):
            self._ledger.memory += copy.message.size
            self._expiring = self._expiring or copy.expires_at is not None
        self._ledger.messages -= before - self.ready.count
        self.load()
        if self.bounded:
            self._drop_excess()
        self.dispatch(now)

    def _copy(self, number: int, stored: Stored) -> Copy:
        copy = Copy(number, stored.message, self, stored.expires_at, True)
        copy.delivery_count = stored.delivery_count
        copy.redelivered = number <= self._delivered_before or stored.delivery_count > 0
        return copy

    def clear(self) -> int:
        """Forget what is ready, without a word to the store; how much it was."""
        count = self.ready.count
        self._ledger.messages -= count
        self._ledger.memory -= sum(copy.message.size for copy in self.ready.clear())
        return count
