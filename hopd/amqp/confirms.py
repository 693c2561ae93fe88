"""One channel with confirms, and what is on its way on it.

RabbitMQ returns an unroutable message before it confirms it, on the same channel. A confirm may speak for many at once.
"""

from __future__ import annotations

from time import monotonic

from hopd.amqp.channel import Channel
from hopd.amqp.connection import Connection
from hopd.amqp.gates import Gates
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import PropertiesError, decode
from hopd.amqp.topology import NOT_FOUND
from hopd.amqp.wire import Confirm, Returned
from hopd.errors import BrokerError, BrokerRefused, ChannelLost, PutError, PutRefused, PutUncertain, Unroutable

#: How old a channel is at least when it is replaced because of a refusal: a full queue refuses everything, on any channel. Seconds.
RENEW_AFTER = 0.5


class Pending:
    """A message on its way, until the broker, or the end of the channel, has decided about it."""

    __slots__ = ("_gates", "error", "message", "settled")

    def __init__(self, message: Outgoing, gates: Gates) -> None:
        self.message = message
        self.error: PutError | None = None
        self.settled = False
        self._gates = gates

    def settle(self, error: PutError | None) -> None:
        """Once. What a return said before stands."""
        self.error = error or self.error
        self.settled = True
        self._gates.open(self)

    def wait(self, deadline: float) -> bool:
        """Wait until it is settled; False at the deadline. Once."""
        return self.settled or self._gates.wait(self, deadline)


class ConfirmChannel:
    """One channel with confirms, and what is unconfirmed on it. Sequence numbers start at 1 with each channel."""

    def __init__(self, connection: Connection, gates: Gates, deadline: float) -> None:
        self.connection = connection
        self._gates = gates
        self._opened_at = monotonic()
        self._refused = False
        self._retired = False
        self._channel: Channel = connection.channel(deadline, ack_window=0.0)
        self._frame_max = connection.frame_max
        self._pending: dict[int, Pending] = {}  # by sequence number
        self._sequence = 0  # of the last one that was sent
        # None that is pending has a lower one. So a confirm of many begins here, and looks at each number once, however they came.
        self._lowest = 1
        try:
            self._channel.select_confirms(self._on_event, deadline)
        except BaseException:  # also what ends a greenlet
            self._channel.abandon()
            raise
        self._channel.on_lost(self._on_lost)

    @property
    def usable(self) -> bool:
        """Whether messages may be sent on it now."""
        return self._channel.lost is None and self.connection.is_open and not self._worn

    @property
    def _worn(self) -> bool:
        """Whether a refusal may be the channel's own fault: RabbitMQ 3.10 refuses for ever on a channel that first met a quorum queue
        in the moment in which the queue's leader died, and takes the same message on the next channel."""
        return self._refused and monotonic() - self._opened_at > RENEW_AFTER

    def retire(self) -> None:
        """Take no more messages; leave when those under way are confirmed."""
        with self.connection.lock:
            self._retired = True
            self._leave_when_done()

    def _leave_when_done(self) -> None:
        if self._retired and not self._pending:
            self._channel.abandon()

    def send(self, message: Outgoing, share: int) -> Pending:
        """Have the message sent, at once when so many share its write (1: it waits for no others).

        `ChannelLost` when the channel is gone, `PutRefused` when no frame can hold it. Then nothing was sent.
        """
        pending = Pending(message, self._gates)
        data = message.frames(self._channel.number, self._frame_max)
        with self.connection.lock:
            if self._channel.lost is not None or self._retired:
                # Whatever it was lost for, this message has no part in it.
                raise ChannelLost(f"the channel was closed: {self._channel.lost or 'a new one has taken its place'}")
            self._sequence += 1
            self._pending[self._sequence] = pending
            self.connection.writer.queue(data)
        self.connection.writer.hurry(share)
        return pending

    def _on_event(self, event: Confirm | Returned) -> None:
        if isinstance(event, Returned):
            self._on_returned(event)
            return
        error = None if event.accepted else PutRefused()
        self._refused |= not event.accepted
        for tag in range(self._lowest, min(event.tag, self._sequence) + 1) if event.multiple else (event.tag,):
            pending = self._pending.pop(tag, None)
            if pending is not None:
                pending.settle(error)
        while self._lowest <= self._sequence and self._lowest not in self._pending:
            self._lowest += 1
        self._leave_when_done()

    def _on_returned(self, event: Returned) -> None:
        """Mark what the broker sent back. Messages alike in exchange, key and id are routed alike, so marking each of them is right."""
        try:
            message_id = decode(event.raw_properties).message_id
        except PropertiesError:
            message_id = None
        for pending in self._pending.values():
            message = pending.message
            if (message.exchange, message.routing_key, message.message_id) == (event.exchange, event.routing_key, message_id):
                pending.error = Unroutable(f"{message} was returned: {event.text}. Was the topic's queue deleted?")

    def _on_lost(self, reason: BrokerError) -> None:
        for pending in self._pending.values():
            pending.settle(_lost_on_the_way(pending.message, reason))
        self._pending.clear()


def _lost_on_the_way(message: Outgoing, reason: BrokerError) -> PutError:
    if isinstance(reason, BrokerRefused):
        if reason.code == NOT_FOUND and f"'{message.exchange}'" in str(reason):
            return Unroutable(f"{message} was not put: {reason}")
        return PutUncertain(f"{message} may not have been put, the broker closed the channel: {reason}")
    return PutUncertain(f"{message} may or may not have been put: {reason}")
