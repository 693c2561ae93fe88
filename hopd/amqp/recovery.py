"""A link: one connection, kept open. When it is lost it is made again, after growing and random pauses.

A link makes connections and hands them out; whoever uses one restores its own channels, topology and consumers on it
when it sees a connection it does not know yet. So a broken topic cannot keep the others from recovering.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from hopd.amqp.connection import Connection
from hopd.amqp.endpoint import Endpoint, Options
from hopd.errors import BrokerError, BrokerRefused, BrokerUnreachable, ForkedProcess, WorkQueueClosed
from hopd.lifecycle import CONNECTION, LifeCycle

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses with full jitter (a random part of an exponential bound), so that a fleet does not come back as one. Seconds."""

    first: float = 0.25
    cap: float = 30.0

    def bound(self, attempt: int) -> float:
        """The longest pause before try number `attempt` + 1; attempts count from 1."""
        return float(min(self.cap, self.first * 2.0 ** min(attempt - 1, 30)))

    def pause(self, attempt: int) -> float:
        """A pause between a tenth of the bound (so that nothing ever spins) and the bound."""
        bound = self.bound(attempt)
        return random.uniform(bound / 10, bound)


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How a link stands. `attempt` counts failed tries since it was last open, `next_try` is in seconds, `url` shows no password."""

    state: str
    url: str
    attempt: int
    next_try: float | None
    reason: str | None


class Link:
    """Keeps one connection open. Its duties:

    1. when first asked for, connect to the endpoints in turn until one opens;
    2. hand the open connection to whoever waits;
    3. when it is lost, try again; with `give_up_after` seconds of failing give up, and start anew when asked again;
    4. once closed, stay closed.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        options: Options,
        *,
        backoff: Backoff,
        give_up_after: float | None = None,
        on_change: Callable[[LinkStatus], None] | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._options = options
        self._backoff = backoff
        self._give_up_after = give_up_after
        self._on_change = on_change
        self._life = LifeCycle("the connection", CONNECTION, "closed")
        self._condition = threading.Condition()
        self._current: Connection | None = None
        self._latest: Connection | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._ever_open = False
        self._attempt = 0
        self._refusals = 0
        self._tries = 0
        self._next_try: float | None = None
        self._reason: BrokerError | None = None
        self._pid = os.getpid()

    def connection(self, deadline: float) -> Connection:
        """An open connection, waiting for it until `deadline` (monotonic seconds).

        `BrokerUnreachable` or `BrokerRefused` with the last reason when there is none, `WorkQueueClosed` after `close`.
        """
        current = self._current
        if current is not None and current.is_open:
            return current
        self._refuse_fork()
        with self._condition:
            self._start()
            while True:
                if self._closed:
                    raise WorkQueueClosed
                if self._current is not None and self._current.is_open:
                    return self._current
                left = deadline - monotonic()
                if self._thread is None or left <= 0:
                    raise self._no_connection()
                self._condition.wait(left)

    def open_connection(self) -> Connection | None:
        """The connection if it is open now, without waiting or connecting."""
        current = self._current
        return current if current is not None and current.is_open else None

    def start(self) -> None:
        """Begin to connect, without waiting."""
        self._refuse_fork()
        with self._condition:
            self._start()

    def status(self) -> LinkStatus:
        """How the link stands now."""
        with self._condition:
            next_try = None if self._next_try is None else max(0.0, self._next_try - monotonic())
            endpoint = self._latest.endpoint if self._latest is not None else self._endpoints[0]
            reason = None if self._reason is None else str(self._reason)
            current = self._current
            if current is not None and current.blocked is not None:
                reason = current.blocked
            return LinkStatus(self._life.state, str(endpoint), self._attempt, next_try, reason)

    def close(self, deadline: float) -> None:
        """Close the connection in order and stay closed; returns soon after `deadline` at the latest."""
        with self._condition:
            if self._closed:
                return
            self._closed = True
            self._life.move("close")
            latest = self._latest
            self._condition.notify_all()
        if latest is not None:
            latest.close(deadline)
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - monotonic()))
        self._changed()

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedProcess

    def _start(self) -> None:
        """Under the condition."""
        if self._closed:
            raise WorkQueueClosed
        if self._thread is None:
            self._reason = None
            self._attempt = self._refusals = 0
            self._life.move("connect")
            self._thread = threading.Thread(target=self._keep_open, name=f"{self._options.name}-link", daemon=True)
            self._thread.start()

    def _no_connection(self) -> BrokerError:
        if isinstance(self._reason, BrokerRefused):
            return BrokerRefused(str(self._reason), code=self._reason.code)
        endpoints = ", ".join(str(endpoint) for endpoint in self._endpoints)
        return BrokerUnreachable(f"no connection to {endpoints}: {self._reason or 'it takes longer than the deadline allows'}")

    # --- the link's own thread ----------------------------------------------------------------

    def _keep_open(self) -> None:
        failing_since = monotonic()
        while not self._closed and os.getpid() == self._pid:  # under gevent a forked child has this greenlet too
            connection = self._next_connection()
            reason = connection.run(self._opened)
            if self._current is connection:
                failing_since = monotonic()
            if self._lost(reason) or self._gives_up(failing_since) or self._pause():
                break
        with self._condition:
            self._thread = None
            if self._life.can("closed"):
                self._life.move("closed")
            self._condition.notify_all()

    def _next_connection(self) -> Connection:
        endpoint = self._endpoints[self._tries % len(self._endpoints)]
        self._tries += 1
        connection = Connection(endpoint, self._options)
        connection.on_blocked = self._blocked
        with self._condition:
            self._latest = connection
            if self._closed:
                connection.abort()
        return connection

    def _opened(self, connection: Connection) -> None:
        LOGGER.info("Connected to %s", connection.endpoint, extra={"event": "broker_connected"})
        with self._condition:
            if self._closed:
                return
            self._life.move("opened")
            self._current = connection
            self._ever_open = True
            self._attempt = 0
            # The next connection, should there be one, starts with the endpoint that works.
            self._tries -= 1
            self._reason = None
            self._condition.notify_all()
        self._changed()

    def _blocked(self, reason: str | None) -> None:
        with self._condition:
            event = "unblocked" if reason is None else "blocked"
            if self._life.can(event):
                self._life.move(event)
        if reason is not None:
            LOGGER.warning("The broker takes no jobs: %s", reason, extra={"event": "broker_blocked"})
        self._changed()

    def _lost(self, reason: BrokerError) -> bool:
        """Note the loss; True when the link is closed, or its connection was left to the parent, and that was the end."""
        with self._condition:
            if self._closed or os.getpid() != self._pid:
                return True
            self._current = None
            self._life.move("lost")
            self._attempt += 1
            self._refusals = self._refusals + 1 if isinstance(reason, BrokerRefused) else 0
            self._reason = reason
        LOGGER.warning("No connection to the broker (try %d): %s", self._attempt, reason, extra={"event": "broker_lost"})
        return False

    def _gives_up(self, failing_since: float) -> bool:
        if self._give_up_after is None:
            return False
        # A password that never worked will not work by itself, when no broker takes it; one that did may be rotated back.
        hopeless = self._refusals >= len(self._endpoints) and not self._ever_open
        if not hopeless and monotonic() - failing_since < self._give_up_after:
            return False
        with self._condition:
            if self._closed:
                return True
            self._life.move("gave_up")
        self._changed()
        return True

    def _pause(self) -> bool:
        """Wait before the next try; True when closed meanwhile."""
        # With several endpoints the others are tried at once; only a whole round of failures is waited for.
        rounds, rest = divmod(self._attempt, len(self._endpoints))
        pause = self._backoff.pause(rounds) if rest == 0 else 0.0
        with self._condition:
            self._next_try = monotonic() + pause
        self._changed()
        with self._condition:
            self._condition.wait_for(lambda: self._closed, pause)
            self._next_try = None
            return self._closed

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.status())
