"""What comes in for one topic: its channel, whether the broker delivers there, and the jobs that wait to be run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic

from hopd.amqp.channel import Channel
from hopd.amqp.connection import Connection
from hopd.amqp.wire import Delivery
from hopd.config.model import TopicSettings
from hopd.engine.suspects import Hunt
from hopd.engine.workers import Workers
from hopd.errors import BrokerError, BrokerTimeout
from hopd.topic import Topic

LOGGER = logging.getLogger(__name__)

#: For each question to an open broker: declaring, opening a channel, consuming, cancelling. Seconds.
STEP_TIMEOUT = 30.0

#: For the last words on a channel once the time for jobs is up. Seconds.
CLOSE_TIMEOUT = 2.0

CONSUMER_TAG = "hopd"


class Intake:
    """Takes a topic's jobs, and gives back what nobody has worked on. Its consumer's greenlet calls it; each wait for an answer of
    the broker happens within `question`, but for the last words."""

    def __init__(
        self, settings: TopicSettings, topic: Topic, workers: Workers, question: Callable[[], AbstractContextManager[None]]
    ) -> None:
        #: Whether the broker delivers, or is being asked to.
        self.consuming = False
        #: While there may be jobs that have killed the process before this one.
        self.hunt: Hunt | None = None
        self._settings = settings
        self._topic = topic
        self._workers = workers
        self._question = question
        self._channel: Channel | None = None
        self._limit = settings.prefetch

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._workers.inbox) + (self.hunt.waiting if self.hunt else 0)

    @property
    def stopped(self) -> bool:
        """Whether nothing is consumed and nothing waits, or there is no channel to ask."""
        return self._channel is None or not (self.consuming or self.waiting)

    def open(self, connection: Connection) -> Channel:
        """Have the topic declared, and a channel for it."""
        with self._question():
            self._topic.declare_on(connection, _soon())
            self.consuming = False
            self._channel = channel = connection.channel(_soon(), ack_window=self._settings.ack_window)
        return channel

    def take(self, channel: Channel, limit: int) -> None:
        """Consume, with so many unsettled at once. It may do so already: when it was paused and resumed before it was cancelled."""
        if self.consuming and limit != self._limit:
            # A consumer keeps the limit that its channel had when it began.
            with self._question():
                channel.cancel(CONSUMER_TAG, _soon())
            self.consuming = False
        if not self.consuming:
            with self._question():
                channel.qos(limit, _soon())
                self.consuming, self._limit = True, limit
                channel.consume(self._topic.name, CONSUMER_TAG, self._on_delivery, _soon())
            self._tell_hunt()

    def stop(self, channel: Channel) -> None:
        """Cancel the consumer and give back what waits. Jobs may wait also when it was resumed and paused before it was cancelled."""
        if self.consuming:
            with self._question():
                channel.cancel(CONSUMER_TAG, _soon())
            self.consuming = False
            self._tell_hunt()
            LOGGER.info("Paused %s", self._topic.name, extra={"event": "topic_paused", "topic": self._topic.name})
        self._give_back()

    def lose(self) -> None:
        """The channel is lost. What waited on it is the broker's again; jobs that run learn it when they settle."""
        self._take_out()
        if self._channel is not None:
            self._channel.abandon()  # it may be open still, with a broker that does not answer
        self._channel = None
        self.consuming = False
        self._tell_hunt()

    # --- leaving ------------------------------------------------------------------------------

    def end(self) -> bool:
        """Stop for good and give back what waits. False when the broker does not answer: then it need not be waited for once more."""
        answers = self._channel is not None
        try:
            if self.consuming and self._channel is not None:
                self._channel.cancel(CONSUMER_TAG, monotonic() + CLOSE_TIMEOUT)
        except BrokerError as error:
            answers = not isinstance(error, BrokerTimeout)
            LOGGER.info("Leaving %s without a cancel: %s", self._topic.name, error, extra={"event": "cancel_failed"})
        self._give_back()
        return answers

    def close(self, answers: bool) -> None:
        """Close the channel, which sends every settlement; wait for the broker's word if it `answers`."""
        if self._channel is None:
            return
        try:
            self._channel.close(monotonic() + (CLOSE_TIMEOUT if answers else 0.0))
        except BrokerError as error:
            # The broker takes back what was unsettled when the connection ends.
            LOGGER.warning("The channel of %s was not closed in order: %s", self._topic.name, error, extra={"event": "close_failed"})

    # --- what waits ---------------------------------------------------------------------------

    def _give_back(self) -> None:
        """Counted nowhere: nobody has worked on these jobs, and where their channel is gone the broker has them already."""
        for delivery in self._take_out():
            delivery.settlement.nack(delivery.tag)

    def _take_out(self) -> list[Delivery]:
        """What waits, and is to wait here no more."""
        suspects = self.hunt.empty() if self.hunt else []
        return suspects + self._workers.empty()

    def _tell_hunt(self) -> None:
        if self.hunt is not None:
            self.hunt.consuming(self.consuming)

    # --- on the reader ------------------------------------------------------------------------

    def _on_delivery(self, delivery: Delivery) -> None:
        if delivery.redelivered:
            self._on_redelivery(delivery)
        else:
            self._workers.add(delivery)

    def _on_redelivery(self, delivery: Delivery) -> None:
        self._topic.aside.counts["redelivered"] += 1
        if self.hunt is None:
            self._workers.add(delivery)
        else:
            self.hunt.add(delivery)


def _soon() -> float:
    return monotonic() + STEP_TIMEOUT
