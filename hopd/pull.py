"""Pulling jobs one at a time, from any number of threads, over consumers with a prefetch of 1.

Each consumer may hold one unsettled job, so there is one on the topic's channel for each job that is out, and some for those
who wait. Who pulls job after job would spend most of the time waiting for the broker's answer to the last one, so there are some
more for him: as many as he pulled within the last moment. When jobs arrive that nobody is likely to want, or have been there for
longer than that moment, all but one go back and their consumers are stopped, so that a caller that has gone quiet hides at most
one job from the others.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from hopd.amqp.channel import Channel
from hopd.amqp.connection import Connection
from hopd.amqp.recovery import Link
from hopd.amqp.settlement import ACK_WINDOW
from hopd.amqp.topology import NOT_FOUND
from hopd.amqp.turn import turn
from hopd.amqp.wire import Delivery
from hopd.errors import BrokerError, BrokerRefused, BrokerUnreachable, PullTimeout, WorkQueueClosed

#: For a pull without a timeout; threads cannot wait for ever in one go. Seconds.
A_YEAR = 365 * 86400.0

#: How many consumers wait for jobs at once, at most. RabbitMQ looks through all of a queue's consumers for each job it delivers: one
#: for each of thousands of pulls makes it slower by orders of magnitude.
AHEAD = 16

#: How long jobs may have arrived for somebody who pulled job after job, and does not any more. Seconds.
MOMENT = 0.05

#: What declaring and consuming may take at least, with a broker that is there. Seconds.
SETUP_TIMEOUT = 5.0


class Puller:
    """The pulling side of one topic. With `ahead` jobs may be fetched before they are asked for, and be given back unharmed."""

    def __init__(self, topic: str, link: Link, declare: Callable[[Connection, float], None], *, ahead: bool) -> None:
        self._topic = topic
        self._link = link
        self._declare = declare
        self._opening = threading.Lock()
        self._condition = threading.Condition()
        self._arrived: deque[Delivery] = deque()
        self._waiting = 0
        self._pulled: deque[float] = deque(maxlen=AHEAD if ahead else 0)  # when the last pulls were served
        #: When the writer is to call `take` again (monotonic seconds); None: not until it is told to.
        self.due: float | None = None
        self._closed = False
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._tags: set[str] = set()
        self._numbers = itertools.count(1)

    def pull(self, timeout: float | None) -> Delivery:
        """The next job's delivery within `timeout` seconds (None: however long it takes); else `PullTimeout`."""
        channel = self._channel
        with self._condition:
            delivery = self._arrival()
            if delivery is None:
                self._waiting += 1
        if delivery is None:
            return self._wait_for_one(timeout)
        if channel is not None:
            self._provide(channel)
        return delivery

    def _wait_for_one(self, timeout: float | None) -> Delivery:
        """As `pull`, for somebody who is counted as waiting."""
        deadline = monotonic() + (A_YEAR if timeout is None else timeout)
        try:
            while True:
                channel = self._ready_channel(deadline)
                delivery = self._next(channel, deadline)
                if delivery is not None:
                    self._provide(channel)  # ours is busy from now on
                    return delivery
                if monotonic() >= deadline:
                    raise PullTimeout(f"no job of {self._topic!r} arrived within {timeout} s")
        except BaseException:
            with self._condition:
                self._waiting -= 1
                if self._arrived:  # the wake-up that was meant for somebody may have been ours
                    self._condition.notify()
            raise

    def close(self) -> None:
        """Wake whoever waits, with `WorkQueueClosed`. The link's close gives the unsettled jobs back."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _next(self, channel: Channel, deadline: float) -> Delivery | None:
        """A delivery; None at the deadline or when the channel is lost."""
        with self._condition:
            while True:
                delivery = self._arrival()
                if delivery is not None:
                    self._waiting -= 1  # here, so that nobody counts us and takes one delivery more
                    return delivery
                left = deadline - monotonic()
                if channel.lost is not None or left <= 0:
                    return None
                self._condition.wait(left)

    def _arrival(self) -> Delivery | None:
        """The oldest delivery that is there. Under the condition."""
        if self._closed:
            raise WorkQueueClosed
        while self._arrived:
            delivery = self._arrived.popleft()
            if not delivery.settlement.closed:
                self._pulled.append(monotonic())
                return delivery
        return None

    def _ready_channel(self, deadline: float) -> Channel:
        """The topic's channel, with a consumer for everybody who waits."""
        while True:
            if self._closed:
                raise WorkQueueClosed
            try:
                channel = self._channel
                if channel is None or channel.lost is not None:
                    channel = self._open(deadline)
                self._provide(channel)
                return channel
            except BrokerRefused as error:
                if error.code != NOT_FOUND:
                    raise
                reason: BrokerError = error  # the queue was deleted since it was declared
            except BrokerUnreachable as error:
                if monotonic() < deadline:
                    raise  # the link has given up
                reason = error
            except BrokerError as error:
                reason = error
            if monotonic() >= deadline:
                raise PullTimeout(f"no job of {self._topic!r} could be pulled in time: {reason}") from reason

    def _open(self, deadline: float) -> Channel:
        with turn(self._opening, deadline):
            channel = self._channel
            if channel is not None and channel.lost is None:
                return channel
            connection = self._link.connection(deadline)
            # The broker is there: a pull that cannot wait must not leave each of those behind it to begin again.
            deadline = max(deadline, monotonic() + SETUP_TIMEOUT)
            self._declare(connection, deadline)
            channel = connection.channel(deadline, ack_window=ACK_WINDOW)
            try:
                self._consume(channel, deadline)
            except BaseException:  # also what ends a greenlet: a consumer nobody knows would keep its job for ever
                channel.abandon()
                raise
            # Last, so that nobody adds a consumer before there is somebody to take its deliveries.
            self._connection, self._channel = connection, channel
            return channel

    def _consume(self, channel: Channel, deadline: float) -> None:
        channel.qos(1, deadline)
        channel.on_lost(self._on_lost)
        tag = self._new_tag()
        with self._condition:
            self._arrived.clear()  # it came on a channel that is lost
            self._tags = {tag}
        channel.consume(self._topic, tag, self._on_delivery, deadline)

    def _provide(self, channel: Channel) -> None:
        """One consumer for each job that is out, and some for the pulls that wait, or are likely to come."""
        out = channel.settlement.unsettled - len(self._arrived)
        wanted = out + min(AHEAD, self._waiting + self._likely(monotonic()))
        connection = self._connection
        if len(self._tags) >= wanted or connection is None:
            return
        with connection.lock:
            while len(self._tags) < wanted and channel.lost is None:
                tag = self._new_tag()
                self._tags.add(tag)
                channel.consume_soon(self._topic, tag)

    def _likely(self, now: float) -> int:
        """How many more jobs are likely to be pulled within the next moment: as many as within the last one, after the first."""
        pulled = self._pulled
        if not pulled or pulled[-1] <= now - MOMENT:
            return 0
        return sum(at > now - MOMENT for at in pulled) - 1

    def _new_tag(self) -> str:
        return f"pull-{next(self._numbers)}"

    # --- on the reader, under the connection's lock --------------------------------------------

    def _on_delivery(self, delivery: Delivery) -> None:
        now = monotonic()
        with self._condition:
            surplus = len(self._arrived) >= max(1, self._waiting + self._likely(now))
            if not surplus:
                self._arrived.append(delivery)
                self._condition.notify()
            ahead = len(self._arrived) > max(1, self._waiting)
        if surplus:
            self._send_back(delivery)
        elif ahead and self.due is None and self._connection is not None:
            self.due = now + MOMENT
            self._connection.wake(self)

    def take(self, now: float) -> bytes:
        """Called by the connection's writer: give back what was fetched for somebody who has gone quiet."""
        with self._condition:
            keep = max(1, self._waiting + self._likely(now))
            surplus = [self._arrived.pop() for _ in range(len(self._arrived) - keep)]
            self.due = now + MOMENT if len(self._arrived) > 1 else None
        for delivery in surplus:
            self._send_back(delivery)
        return b""

    def _send_back(self, delivery: Delivery) -> None:
        tag = delivery.consumer_tag
        delivery.settlement.nack(delivery.tag)
        if tag in self._tags and self._channel is not None:
            self._tags.discard(tag)
            self._channel.cancel_soon(tag)

    def _on_lost(self, _reason: BrokerError) -> None:
        with self._condition:
            self._condition.notify_all()
