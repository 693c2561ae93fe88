"""Looking through a queue from its head on, without taking anything away.

The broker has no way to peek, so messages are taken without being settled, page by page, and at the end the channel is
closed: then the broker puts all of them back at once (one by one takes it seconds where they are many). A classic queue puts
a message back to its place. A quorum queue puts those that come back in front of all it has not delivered yet, but
among themselves in no order, and counts each look as a delivery.

While somebody looks, others see only what is behind: this is for people, not for consumers.
"""

from __future__ import annotations

import logging
import threading
from time import monotonic, sleep
from types import TracebackType

from hopd.amqp import topology
from hopd.amqp.channel import Channel
from hopd.amqp.connection import Connection
from hopd.amqp.wire import Delivery
from hopd.errors import BrokerError, BrokerTimeout

LOGGER = logging.getLogger(__name__)

#: How long nothing may arrive before the broker is asked whether there is more. Seconds.
LOOK_INTERVAL = 0.1

#: The first pause before the broker is asked whether what was put back is there; each is twice the one before. Seconds.
FIRST_PAUSE = 0.001

#: How often it must say no before it is believed: a quorum queue's answer may be older than what is on its way.
NOES = 2

#: How long is waited for what was put back to show again. Some may not: their time was up, or somebody else was there. Seconds.
RETURN_TIMEOUT = 1.0


class Browser:
    """Goes through a queue on a channel of its own. A context manager: leaving it puts back what was not settled.

    `timeout` is for each page, in seconds; `left` counts what was seen and not settled. `BrokerRefused` (404): there is no such queue.
    """

    def __init__(self, connection: Connection, queue: str, timeout: float) -> None:
        self._connection = connection
        self._queue = queue
        self._timeout = timeout
        self._pages = 0
        self.left = 0
        self._arrived: list[Delivery] = []
        self._condition = threading.Condition()
        self._channel: Channel = connection.channel(self._deadline(), ack_window=0.0)
        self._channel.on_lost(self._on_lost)

    def page(self, count: int) -> list[Delivery]:
        """The next messages, `count` (1 to 65535) of them at most and none when there are no more."""
        deadline = self._deadline()
        ready = self._ready(deadline)
        if not ready:
            return []
        self._pages += 1
        tag = f"browse-{self._pages}"
        self._channel.qos(count, deadline)
        self._channel.consume(self._queue, tag, self._on_delivery, deadline)
        self._wait_for(min(count, ready), deadline)
        self._channel.cancel(tag, deadline)
        with self._condition:
            page, self._arrived = self._arrived, []
        self.left += len(page)
        return page

    def settle(self, delivery: Delivery) -> None:
        """The message is somewhere else now: take it away here. When the channel is lost meanwhile, it is in both places."""
        delivery.settlement.ack(delivery.tag)
        self.left -= 1

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._put_back()
        except BrokerError as trouble:
            if error is None:
                raise
            # What went wrong first says more; what was looked at returns with the end of its channel.
            LOGGER.info("Trouble at the end of a look through %s: %s", self._queue, trouble, extra={"event": "browse_failed"})

    def _put_back(self) -> None:
        if self._channel.lost is not None:
            return
        deadline = self._deadline()
        try:
            ready = self._ready(deadline) if self.left else 0
        finally:
            self._channel.close(deadline)
        if self.left:
            self._wait_for_return(ready + self.left)

    def _wait_for_return(self, expected: int) -> None:
        """Until what was put back is there, so that whoever looks next finds it: a quorum queue only begins when the channel has ended."""
        deadline, pause = monotonic() + RETURN_TIMEOUT, FIRST_PAUSE
        while topology.ready(self._connection, self._queue, self._deadline()) < expected and monotonic() < deadline:
            sleep(pause)
            pause = min(2 * pause, LOOK_INTERVAL)

    def _wait_for(self, expected: int, deadline: float) -> None:
        """Until `expected` messages are here, or the broker has none: somebody else may have been faster."""
        noes = 0
        while len(self._arrived) < expected and noes < NOES:
            if self._channel.lost is not None:
                raise self._channel.lost
            if monotonic() >= deadline:
                raise BrokerTimeout(f"the messages of {self._queue!r} did not come in time")
            before = len(self._arrived)
            with self._condition:
                self._condition.wait_for(lambda: len(self._arrived) >= expected or self._channel.lost is not None, LOOK_INTERVAL)
            quiet = len(self._arrived) == before and self._ready(deadline) == 0
            noes = noes + 1 if quiet else 0

    def _ready(self, deadline: float) -> int:
        return self._channel.declare_queue(self._queue, deadline, passive=True)

    def _deadline(self) -> float:
        return monotonic() + self._timeout

    # --- on the reader, under the connection's lock --------------------------------------------

    def _on_delivery(self, delivery: Delivery) -> None:
        with self._condition:
            self._arrived.append(delivery)
            self._condition.notify_all()

    def _on_lost(self, _reason: BrokerError) -> None:
        with self._condition:
            self._condition.notify_all()
