"""One channel as the state sees it: its consumers, and what it was given and has not settled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from hopd.broker.model import Message
from hopd.broker.refusal import Code, Refused

#: A prefetch that never holds anything up.
UNLIMITED = sys.maxsize


class Origin(Protocol):
    """The queue a message came from, as much of it as a channel needs."""

    name: str
    deleted: bool

    def settled(self, copy: Copy) -> None:
        """It was acked."""

    def rejected(self, copy: Copy) -> None:
        """It was refused, not to come again."""

    def returned(self, copies: list[Copy], lost: bool) -> None:
        """They go back to their places, because their client gave them back or (`lost`) went away; `dispatch` has to follow."""

    def resume(self, consumer: Consumer, now: float) -> None:
        """A consumer that had no room has some."""

    def dispatch(self, now: float) -> None:
        """Hand out what is ready to whoever has room."""

    def leave(self, consumer: Consumer, now: float) -> None:
        """A consumer ends; `dispatch` has to follow, when what it had is back in its place."""


class Copy:
    """One message in one queue, from its arrival until it is settled."""

    __slots__ = ("consumer", "delivered_at", "delivery_count", "expires_at", "id", "message", "queue", "redelivered", "stored")

    def __init__(self, number: int, message: Message, queue: Origin, expires_at: float | None, stored: bool) -> None:
        self.id = number
        self.message = message
        self.queue = queue
        self.expires_at = expires_at
        #: It is in the journal or the store.
        self.stored = stored
        #: How often it came back, in a quorum queue.
        self.delivery_count = 0
        self.redelivered = False
        #: Whom it was delivered to; None when it is ready, or was asked for by basic.get.
        self.consumer: Consumer | None = None
        self.delivered_at = 0.0


class Client:
    """One connection. `watch` is called with a channel that has something unsettled and is not watched yet."""

    __slots__ = ("channels", "max_unwritten", "owner", "starved", "unwritten", "watch")

    def __init__(self, owner: object, max_unwritten: int, watch: Callable[[Channel, float], None]) -> None:
        self.owner = owner
        self.max_unwritten = max_unwritten
        self.watch = watch
        #: In the order in which they were opened.
        self.channels: dict[Channel, None] = {}
        #: Bytes of deliveries that are not written yet.
        self.unwritten = 0
        #: Some consumer got nothing because of that.
        self.starved = False

    def close(self, now: float) -> None:
        """End it, and all its channels."""
        self.max_unwritten = 0  # what one channel gives back must not go to the next one
        for channel in list(self.channels):
            channel.close(now)

    def wrote(self, now: float) -> None:
        """Its deliveries are written."""
        self.unwritten = 0
        if self.starved:
            self.starved = False
            for channel in list(self.channels):
                channel.resume(now)


class Consumer:
    """Takes messages from one queue for one channel."""

    __slots__ = ("channel", "exclusive", "no_ack", "parked", "prefetch", "priority", "queue", "tag", "unsettled")

    def __init__(self, channel: Channel, queue: Origin, tag: str, *, no_ack: bool, exclusive: bool, priority: int, prefetch: int) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.priority = priority
        self.prefetch = UNLIMITED if no_ack else prefetch
        self.unsettled = 0
        #: It had no room when its turn came, and is passed over until it is resumed.
        self.parked = False

    def has_room(self) -> bool:
        """It may be given one more."""
        channel = self.channel
        if self.unsettled >= self.prefetch or channel.outstanding >= channel.prefetch:
            return False
        client = channel.client
        if client.unwritten >= client.max_unwritten:
            client.starved = True
            return False
        return True


class Channel:
    """One open channel. `owner` is the session it belongs to, as given to `State.open_channel`; `number` its number there."""

    __slots__ = (
        "client",
        "consumer_prefetch",
        "consumers",
        "next_tag",
        "number",
        "outstanding",
        "owner",
        "prefetch",
        "unsettled",
        "watched",
    )

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.owner = client.owner
        self.number = number
        self.consumers: dict[str, Consumer] = {}
        #: By delivery tag, in their order. To be settled in any order at the same cost.
        self.unsettled: dict[int, Copy] = {}
        self.next_tag = 1
        #: Of the channel as a whole, and of the consumers that start from now on.
        self.prefetch = UNLIMITED
        self.consumer_prefetch = UNLIMITED
        #: What counts towards `prefetch`: unsettled, but not what basic.get asked for.
        self.outstanding = 0
        self.watched = False
        client.channels[self] = None

    def deliver(self, copy: Copy, consumer: Consumer | None, no_ack: bool, now: float) -> int:
        """Note a delivery, of which nothing more is to be known when it is `no_ack`. Its tag."""
        tag = self.next_tag
        self.next_tag = tag + 1
        if no_ack:
            return tag
        self.unsettled[tag] = copy
        copy.delivered_at = now
        copy.consumer = consumer
        if consumer is not None:
            consumer.unsettled += 1
            self.outstanding += 1
        if not self.watched:
            self.watched = True
            self.client.watch(self, now)
        return tag

    def ack(self, tag: int, multiple: bool, now: float) -> None:
        """A delivery is done, or all up to it."""
        for copy in self._collect(tag, multiple):
            copy.queue.settled(copy)
            if copy.consumer is not None:
                self._free(copy.consumer, now)

    def reject(self, tag: int, multiple: bool, now: float) -> None:
        """A delivery is refused, or all up to it, not to come again."""
        for copy in self._collect(tag, multiple):
            copy.queue.rejected(copy)
            if copy.consumer is not None:
                self._free(copy.consumer, now)

    def requeue(self, tag: int, multiple: bool, now: float) -> None:
        """A delivery goes back, or all up to it."""
        self._return(self._collect(tag, multiple), False, now)

    def close(self, now: float) -> None:
        """End it: no more consumers, and everything unsettled goes back."""
        self.client.channels.pop(self, None)
        queues: dict[Origin, None] = {}
        for consumer in self.consumers.values():
            consumer.queue.leave(consumer, now)
            queues[consumer.queue] = None
        self.consumers.clear()
        self._return(self._take_all(), True, now)
        for queue in queues:
            queue.dispatch(now)

    def resume(self, now: float) -> None:
        """Give consumers that had no room another chance."""
        for consumer in list(self.consumers.values()):
            if consumer.parked:
                consumer.queue.resume(consumer, now)

    def _collect(self, tag: int, multiple: bool) -> Iterable[Copy]:
        if multiple:
            return self._take_up_to(tag) if tag else self._take_all()
        copy = self.unsettled.pop(tag, None)
        if copy is None:
            raise _unknown(tag)
        return (copy,)

    def _take_up_to(self, tag: int) -> list[Copy]:
        if tag not in self.unsettled:
            raise _unknown(tag)
        tags = []
        for other in self.unsettled:
            if other > tag:
                break
            tags.append(other)
        return [self.unsettled.pop(other) for other in tags]

    def _take_all(self) -> list[Copy]:
        taken = list(self.unsettled.values())
        self.unsettled.clear()
        return taken

    def _return(self, copies: Iterable[Copy], lost: bool, now: float) -> None:
        """All of them are back in their places before anybody is given one again."""
        by_queue: dict[Origin, list[Copy]] = {}
        consumers = []
        for copy in copies:
            by_queue.setdefault(copy.queue, []).append(copy)
            if copy.consumer is not None:
                consumers.append(copy.consumer)
        for queue, group in by_queue.items():
            queue.returned(group, lost)
        for consumer in consumers:
            self._free(consumer, now)
        for queue in by_queue:
            queue.dispatch(now)

    def _free(self, consumer: Consumer, now: float) -> None:
        """One of the consumer's deliveries takes no more room."""
        consumer.unsettled -= 1
        self.outstanding -= 1
        if self.prefetch != UNLIMITED:
            self.resume(now)
        elif consumer.parked:
            consumer.queue.resume(consumer, now)


def _unknown(tag: int) -> Refused:
    return Refused(Code.PRECONDITION_FAILED, f"unknown delivery tag {tag}")
