"""Publishing with confirms: every message mandatory, every caller waiting for its own confirm until its own deadline."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

from hopd.amqp.confirms import ConfirmChannel, Pending
from hopd.amqp.connection import Connection
from hopd.amqp.gates import Gates
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.turn import turn
from hopd.errors import (
    BrokerBlocked,
    BrokerError,
    BrokerRefused,
    BrokerTimeout,
    BrokerUnreachable,
    PutError,
    PutRefused,
    PutTimeout,
)

#: How many messages publish_many keeps unconfirmed: enough that the broker never waits for us, few enough to bound memory.
WINDOW = 1000

#: How many of them are waited for before more are sent: so few that the broker has the others to go on with meanwhile.
PORTION = WINDOW // 10

#: How many messages share a write, unless nobody else publishes: the broker has work while we make more, and a system call costs each of
#: them little. Those who wait for a confirm cannot send the next one meanwhile, so they had better wait for few.
SHARE, SHARE_OF_MANY = 16, 64


class Source(Protocol):
    """Where a publisher gets its connection: a link."""

    def connection(self, deadline: float) -> Connection:
        """An open connection before the deadline."""


class Publisher:
    """Publishes over a link's connection, from any number of threads or greenlets."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._channel: ConfirmChannel | None = None
        self._opening = threading.Lock()
        self._under_way: set[object] = set()  # one thing for each call
        self._idle = threading.Event()
        self._gates = Gates()

    def publish(self, message: Outgoing, deadline: float) -> None:
        """Return when the broker has confirmed the message. A `PutError` says what is known otherwise; see the errors."""
        self._under_way.add(call := object())
        try:
            self._await(self._send(message, deadline, 1 if len(self._under_way) == 1 else SHARE), deadline)
        finally:
            self._ended(call)

    def publish_many(self, messages: Iterable[Outgoing], timeout: float) -> tuple[int, dict[int, PutError]]:
        """Publish with up to `WINDOW` unconfirmed, `timeout` seconds for each.

        Returns how many were confirmed, and for each of the others its index and error. Once one could not be sent in its time the
        broker is away or takes nothing: those behind it are not waited for as well, one after the other.
        """
        confirmed = 0
        failures: dict[int, PutError] = {}
        window: deque[tuple[int, Pending, float]] = deque()
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
                    failures[index] = type(away)(f"{message} was not sent, like the one before it: {away}")
                    continue
                deadline = monotonic() + timeout
                try:
                    window.append((index, self._send(message, deadline, SHARE_OF_MANY), deadline))
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

    def close(self) -> None:
        """Let those go on that still wait. When its connection is closed, or nothing is under way."""
        self._gates.close()

    def _ended(self, call: object) -> None:
        self._under_way.discard(call)
        if not self._under_way:
            self._idle.set()

    def _send(self, message: Outgoing, deadline: float, share: int) -> Pending:
        while True:
            try:
                channel = self._channel
                if channel is None or not channel.usable:
                    channel = self._usable_channel(deadline)
                unblocked = channel.connection.unblocked
                if not unblocked.is_set() and not unblocked.wait(max(0.0, deadline - monotonic())):
                    raise BrokerBlocked(f"{message} was not sent, the broker takes no jobs: {channel.connection.blocked}")
                return channel.send(message, share)
            except BrokerRefused as error:
                raise PutRefused(f"{message} was not sent: {error}") from error
            except BrokerError as error:
                # Nothing was sent; the next round has a new channel, until the deadline ends it.
                if monotonic() >= deadline or isinstance(error, (BrokerUnreachable, BrokerTimeout)):
                    raise PutTimeout(f"{message} was not sent: {error}") from error

    def _usable_channel(self, deadline: float) -> ConfirmChannel:
        with turn(self._opening, deadline):
            channel = self._channel
            if channel is None or not channel.usable:
                before = channel
                channel = self._channel = ConfirmChannel(self._source.connection(deadline), self._gates, deadline)
                if before is not None:
                    before.retire()
        return channel

    def _await(self, pending: Pending, deadline: float) -> None:
        if not pending.wait(deadline):
            channel = self._channel
            if channel is not None and channel.connection.blocked is not None:
                raise BrokerBlocked(f"{pending.message} is not confirmed, the broker takes no jobs: {channel.connection.blocked}")
            raise PutTimeout(f"{pending.message} was sent but not confirmed in time; it may have been put", sent=True)
        if pending.error is not None:
            raise pending.error
