"""A job: one delivery of a message, as its handler sees it. It is settled exactly once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from hopd import names
from hopd.amqp.properties import Properties, PropertiesError, decode
from hopd.amqp.wire import Delivery
from hopd.aside import Aside, move, trimmed
from hopd.delay import Wait
from hopd.errors import UndecodableJob
from hopd.failure import failure_headers
from hopd.units import parse_retry_delay

#: How long retry and bury wait for the broker's confirm. Seconds.
ASIDE_TIMEOUT = 30.0


class Job:
    """A job. `outcome` is None until it is settled, then done, requeued, delayed, buried, dropped or lost.

    The ways to settle return True, or False when the job was lost meanwhile: its connection is gone and the broker
    delivers it again. Settling a second time raises `AlreadySettled`.
    """

    __slots__ = ("_aside", "_properties", "delivery", "outcome")

    def __init__(self, delivery: Delivery, aside: Aside) -> None:
        self.delivery = delivery
        self.outcome: str | None = None
        self._aside = aside
        self._properties: Properties | None = None

    @property
    def body(self) -> bytes:
        """What was put."""
        return self.delivery.body

    def json(self) -> Any:
        """The body as JSON; ValueError when it is none."""
        return json.loads(self.delivery.body)

    @property
    def topic(self) -> str:
        """The name of the job's topic."""
        return self._aside.topic

    @property
    def properties(self) -> Properties:
        """The message's AMQP properties; `UndecodableJob` when they are broken."""
        if self._properties is None:
            try:
                self._properties = decode(self.delivery.raw_properties)
            except PropertiesError as error:
                raise UndecodableJob(str(error)) from error
        return self._properties

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers it was put with, and those that hopd and the broker added."""
        return self.properties.headers

    @property
    def message_id(self) -> str | None:
        """The id it was put with."""
        return self.properties.message_id

    @property
    def log_id(self) -> str:
        """What finds the job in a log: its message id, or its place on the channel when it has none that can be read."""
        try:
            return self.message_id or f"delivery-{self.delivery.tag}"
        except UndecodableJob:
            return f"delivery-{self.delivery.tag}"

    @property
    def attempt(self) -> int:
        """1 the first time the job is handled, and one more for each retry; a quorum topic counts redeliveries too."""
        headers = self.headers
        return 1 + _count(headers.get(names.ATTEMPTS)) + _count(headers.get(names.DELIVERY_COUNT))

    @property
    def redelivered(self) -> bool:
        """Whether the broker has delivered it before, to anybody."""
        return self.delivery.redelivered

    def done(self) -> bool:
        """The job succeeded and is over."""
        delivery = self.delivery
        return self._settled(delivery.settlement.ack(delivery.tag), "done")

    def fail(self, requeue: bool = False) -> bool:
        """The job failed: back to its topic at once, or out of it for good, to its queue's dead-letter exchange if it has one: that of
        a quorum topic is where its buried jobs are.

        To try again later use `retry`, to keep it for a person use `bury`.
        """
        delivery = self.delivery
        return self._settled(delivery.settlement.reject(delivery.tag, requeue=requeue), "requeued" if requeue else "dropped")

    def drop(self) -> bool:
        """Nobody wants the job any more: it is over, without having been done."""
        delivery = self.delivery
        return self._settled(delivery.settlement.ack(delivery.tag), "dropped")

    def retry(self, after: float | str, *, error: BaseException | None = None) -> bool:
        """Try again in `after` seconds, or ``"10m"``, up to 30 days; the job waits in the broker. `PutError` when it cannot.

        The time is rounded up to a step of hopd's ladder. What is known of `error` travels with the job.
        """
        seconds = parse_retry_delay(after)
        headers = self._failure(error)
        return self._move("delayed", lambda deadline: self._aside.retry(self.delivery, seconds, headers, deadline))

    def bury(self, reason: str, headers: Mapping[str, Any] | None = None, *, error: BaseException | None = None) -> bool:
        """Set the job aside for a person, with the reason, in `<topic>.buried`. `PutError` when it cannot; then it is unsettled still."""
        added = {**self._failure(error), names.REASON: trimmed(reason), **(headers or {})}
        return self._move("buried", lambda deadline: self._aside.bury(self.delivery, added, deadline))

    def give_back(self) -> bool:
        """Return the job unharmed: nobody has worked on it, and it does not count as failed."""
        delivery = self.delivery
        return self._settled(delivery.settlement.nack(delivery.tag), "requeued")

    def wait_on(self, wait: Wait) -> bool:
        """Let a job that came before its time wait on. Nobody has worked on it, and it does not count as retried."""
        moved = self._aside.wait_on(self.delivery, wait, monotonic() + ASIDE_TIMEOUT)
        self.outcome = "delayed" if moved else "lost"
        return moved

    def _move(self, outcome: str, publish: Callable[[float], None]) -> bool:
        deadline = monotonic() + ASIDE_TIMEOUT
        return self._settled(move(self.delivery, lambda: publish(deadline)), outcome)

    def _settled(self, sent: bool, outcome: str) -> bool:
        self.outcome = outcome = outcome if sent else "lost"
        self._aside.counts[outcome] += 1
        return sent

    def _failure(self, error: BaseException | None) -> dict[str, Any]:
        try:
            before, attempt = self.headers, self.attempt
        except UndecodableJob:
            before, attempt = {}, 1
        return failure_headers(before, attempt, error, self._aside.instance)

    def __repr__(self) -> str:
        return f"<Job {self.delivery.tag} of {self.topic}, {len(self.body)} bytes, {self.outcome or 'unsettled'}>"


def _count(value: Any) -> int:
    """A header that should hold a count, written by anybody."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
