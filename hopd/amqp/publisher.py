"""Publishing with confirms: every message mandatory, every caller waiting for its own confirm until its own deadline.

RabbitMQ returns an unroutable message before it confirms it, on the same channel. A confirm may speak for many at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Protocol

from hopd.amqp import frames
from hopd.amqp.channel import Channel
from hopd.amqp.connection import Connection
from hopd.amqp.properties import PropertiesError, decode
from hopd.amqp.topology import NOT_FOUND
from hopd.amqp.turn import turn
from hopd.amqp.wire import Confirm, Returned
from hopd.errors import (
    BrokerBlocked,
    BrokerError,
    BrokerRefused,
    BrokerTimeout,
    BrokerUnreachable,
    ChannelLost,
    PutError,
    PutRefused,
    PutTimeout,
    PutTooLarge,
    PutUncertain,
    Unroutable,
)

#: How many messages publish_many keeps unconfirmed: enough that the broker never waits for us, few enough to bound memory.
WINDOW = 1000

#: How many of them are waited for before more are sent: so few that the broker has the others to go on with meanwhile.
PORTION = WINDOW // 10

#: For how many exchanges and routing keys the method frame is kept encoded: more than a producer has topics. Half a kilobyte each.
PLACES = 1024

#: How old a channel is at least when it is replaced because of a refusal: a full queue refuses everything, on any channel. Seconds.
RENEW_AFTER = 0.5


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish; `properties` are encoded already, `message_id` is the one in them."""

    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    message_id: str | None = None


class Source(Protocol):
    """Where a publisher gets its connection: a link."""

    def connection(self, deadline: float) -> Connection:
        """An open connection before the deadline."""


class _Pending:
    """A message on its way, until the broker, or the end of the channel, has decided about it. Who waits for that brings a gate."""

    __slots__ = ("_gate", "_settled", "error", "message")

    def __init__(self, message: Outgoing) -> None:
        self.message = message
        self.error: PutError | None = None
        self._settled = False
        self._gate: threading.Lock | None = None

    def settle(self, error: PutError | None) -> None:
        """Once. What a return said before stands."""
        self.error = error or self.error
        self._settled = True
        gate = self._gate
        if gate is not None:
            gate.release()

    def wait(self, deadline: float) -> bool:
        if self._settled:
            return True
        self._gate = gate = threading.Lock()
        gate.acquire()
        # Only now it is certain that `settle` sees the gate; it may have come before.
        return self._settled or gate.acquire(timeout=max(0.0, deadline - monotonic()))


class _ConfirmChannel:
    """One channel with confirms, and what is unconfirmed on it. Sequence numbers start at 1 with each channel."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self.connection = connection
        self._opened_at = monotonic()
        self._refused = False
        self._retired = False
        self._channel: Channel = connection.channel(deadline, ack_window=0.0)
        self._frame_max = connection.frame_max
        self._pending: dict[int, _Pending] = {}  # by sequence number
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

    def send(self, message: Outgoing) -> _Pending:
        """Hand the message to the writer; `ChannelLost` when the channel is gone, `PutRefused` when no frame can hold it. Then nothing
        was sent."""
        pending = _Pending(message)
        data = _frames(message, self._channel.number, self._frame_max)
        with self.connection.lock:
            if self._channel.lost is not None or self._retired:
                # Whatever it was lost for, this message has no part in it.
                raise ChannelLost(f"the channel was closed: {self._channel.lost or 'a new one has taken its place'}")
            self._sequence += 1
            self._pending[self._sequence] = pending
            self.connection.send(data)
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
                pending.error = Unroutable(f"{_target(message)} was returned: {event.text}. Was the topic's queue deleted?")

    def _on_lost(self, reason: BrokerError) -> None:
        for pending in self._pending.values():
            pending.settle(_lost_on_the_way(pending.message, reason))
        self._pending.clear()


def _frames(message: Outgoing, channel: int, frame_max: int) -> bytes:
    """The message as frames. What does not fit is refused here: the broker would close the connection, and with it everybody's."""
    room = frame_max - frames.FRAME_OVERHEAD - frames.HEADER_FIXED
    if len(message.properties) > room:
        raise PutTooLarge(f"{_target(message)} has {len(message.properties)} bytes of headers and other properties, {room} is the most")
    return frames.publish(_method(channel, message.exchange, message.routing_key), channel, message.properties, message.body, frame_max)


@lru_cache(maxsize=PLACES)
def _method(channel: int, exchange: str, routing_key: str) -> bytes:
    return frames.publish_method(channel, _name(exchange), _name(routing_key))


def _name(text: str) -> bytes:
    try:
        name = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PutRefused(f"an exchange's or queue's name is at most 255 bytes of UTF-8: {error}") from error
    if len(name) > 255:
        raise PutRefused(f"an exchange's or queue's name is at most 255 bytes of UTF-8, not {len(name)}")
    return name


def _target(message: Outgoing) -> str:
    name = f"the job {message.message_id}" if message.message_id else "a job"
    return f"{name} for {message.routing_key!r} on exchange {message.exchange!r}"


def _lost_on_the_way(message: Outgoing, reason: BrokerError) -> PutError:
    if isinstance(reason, BrokerRefused):
        if reason.code == NOT_FOUND and f"'{message.exchange}'" in str(reason):
            return Unroutable(f"{_target(message)} was not put: {reason}")
        return PutUncertain(f"{_target(message)} may not have been put, the broker closed the channel: {reason}")
    return PutUncertain(f"{_target(message)} may or may not have been put: {reason}")


class Publisher:
    """Publishes over a link's connection, from any number of threads or greenlets."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._channel: _ConfirmChannel | None = None
        self._opening = threading.Lock()
        self._under_way: set[object] = set()  # one thing for each call
        self._idle = threading.Event()

    def publish(self, message: Outgoing, deadline: float) -> None:
        """Return when the broker has confirmed the message. A `PutError` says what is known otherwise; see the errors."""
        self._under_way.add(call := object())
        try:
            self._await(self._send(message, deadline), deadline)
        finally:
            self._ended(call)

    def publish_many(self, messages: Iterable[Outgoing], timeout: float) -> tuple[int, dict[int, PutError]]:
        """Publish with up to `WINDOW` unconfirmed, `timeout` seconds for each.

        Returns how many were confirmed, and for each of the others its index and error. Once one could not be sent in its time the
        broker is away or takes nothing: those behind it are not waited for as well, one after the other.
        """
        confirmed = 0
        failures: dict[int, PutError] = {}
        window: deque[tuple[int, _Pending, float]] = deque()
        away: PutError | None = None

        def settle(count: int) -> int:
            good = 0
            for _ in range(count):
                index, pending, deadline = window.popleft()
                try:
                    self._await(pending, deadline)
                    good += 1
                except PutError as error:
                    failures[index] = error
            return good

        self._under_way.add(call := object())
        try:
            for index, message in enumerate(messages):
                if away is not None:
                    failures[index] = type(away)(f"{_target(message)} was not sent, like the one before it: {away}")
                    continue
                deadline = monotonic() + timeout
                try:
                    window.append((index, self._send(message, deadline), deadline))
                except (PutTimeout, BrokerBlocked) as error:
                    failures[index] = away = error
                except PutError as error:
                    failures[index] = error
                if len(window) >= WINDOW:
                    confirmed += settle(PORTION)
            confirmed += settle(len(window))
        finally:
            self._ended(call)
        return confirmed, failures

    def wait_idle(self, deadline: float) -> bool:
        """Wait until nothing is being published any more; False at the deadline."""
        while self._under_way:
            self._idle.clear()
            if self._under_way and not self._idle.wait(max(0.0, deadline - monotonic())):
                return False
        return True

    def _ended(self, call: object) -> None:
        self._under_way.discard(call)
        if not self._under_way:
            self._idle.set()

    def _send(self, message: Outgoing, deadline: float) -> _Pending:
        while True:
            try:
                channel = self._channel
                if channel is None or not channel.usable:
                    channel = self._usable_channel(deadline)
                unblocked = channel.connection.unblocked
                if not unblocked.is_set() and not unblocked.wait(max(0.0, deadline - monotonic())):
                    raise BrokerBlocked(f"{_target(message)} was not sent, the broker takes no jobs: {channel.connection.blocked}")
                return channel.send(message)
            except BrokerRefused as error:
                raise PutRefused(f"{_target(message)} was not sent: {error}") from error
            except BrokerError as error:
                # Nothing was sent; the next round has a new channel, until the deadline ends it.
                if monotonic() >= deadline or isinstance(error, (BrokerUnreachable, BrokerTimeout)):
                    raise PutTimeout(f"{_target(message)} was not sent: {error}") from error

    def _usable_channel(self, deadline: float) -> _ConfirmChannel:
        with turn(self._opening, deadline):
            channel = self._channel
            if channel is None or not channel.usable:
                before = channel
                channel = self._channel = _ConfirmChannel(self._source.connection(deadline), deadline)
                if before is not None:
                    before.retire()
        return channel

    def _await(self, pending: _Pending, deadline: float) -> None:
        if not pending.wait(deadline):
            channel = self._channel
            if channel is not None and channel.connection.blocked is not None:
                raise BrokerBlocked(f"{_target(pending.message)} is not confirmed, the broker takes no jobs: {channel.connection.blocked}")
            raise PutTimeout(f"{_target(pending.message)} was sent but not confirmed in time; it may have been put", sent=True)
        if pending.error is not None:
            raise pending.error
