"""Buried jobs: set aside for a person, who may look at them and kick them back to their topic."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from time import monotonic
from typing import Any

from hopd import names
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import PropertiesError, decode, encode
from hopd.amqp.publisher import Publisher
from hopd.amqp.recovery import Link
from hopd.amqp.topology import NOT_FOUND, QueueSpec
from hopd.amqp.turn import turn
from hopd.amqp.wire import Delivery
from hopd.aside import travelling
from hopd.browse import Browser
from hopd.errors import BrokerRefused, NotBuried, PutManyFailed

#: Jobs that are fetched, and kicked, at a time: what one look costs others, and how many come twice when we die in between.
PAGE = 500


_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)

#: Ids in an error's message.
MAX_SHOWN = 10


@dataclass(frozen=True, slots=True)
class BuriedJob:
    """A job in the buried queue.

    `reason` says why it is there, `error` is the last one of its handler on one line, `attempts` counts how often it was tried, `headers`
    are all there are: those it was put with, and what hopd knows of its failures (`hop-error-traceback`, `hop-host` …).
    """

    id: str | None
    body: bytes
    reason: str
    error: str | None
    attempts: int
    buried_at: datetime | None
    headers: Mapping[str, Any]


class Buried:
    """The buried jobs of one topic. Threads take turns: while one looks, the others would see only what is behind.

    A quorum queue loses the order of what was looked at. So each look at one goes at least as deep as any did before, `PAGE` at least,
    and what it finds is put in order here, by the time at which it was buried.
    """

    def __init__(self, topic: QueueSpec, consuming: Link, publisher: Publisher) -> None:
        self._topic = topic.name
        self._queue = names.buried(topic.name)
        self._loses_order = topic.queue_type == "quorum"
        self._deepest = 0
        self._link = consuming
        self._publisher = publisher
        self._turn = threading.Lock()

    def look(self, limit: int, timeout: float) -> list[BuriedJob]:
        """The oldest buried jobs. They stay where they are."""
        if limit < 1:
            raise ValueError(f"limit is 1 or more, got {limit}")
        jobs: list[BuriedJob] = []
        with self._browse(timeout) as browser:
            for page in self._pages(browser, limit):
                jobs += map(buried_job, page)
        return jobs

    def kick(self, count: int, timeout: float) -> int:
        """Kick the `count` oldest ones; returns how many that were."""
        if count < 1:
            raise ValueError(f"the number of jobs to kick is 1 or more, got {count}")
        kicked = 0
        with self._browse(timeout) as browser:
            for page in self._pages(browser, count):
                kicked += self._publish(browser, page, kicked, timeout)
        return kicked

    def kick_ids(self, ids: Collection[str], timeout: float) -> int:
        """Kick the jobs of these ids; `NotBuried`, once all others are kicked, for those that are not there."""
        wanted = dict.fromkeys(ids)
        kicked = 0
        with self._browse(timeout) as browser:
            while wanted and (page := browser.page(PAGE)):
                chosen = [delivery for delivery in page if _take(wanted, _id_of(delivery))]
                kicked += self._publish(browser, chosen, kicked, timeout)
        if wanted:
            text = f"{len(wanted)} of the jobs are not among the buried ones of {self._topic!r}, {kicked} others were kicked: "
            raise NotBuried(text + _list(wanted), kicked=kicked, missing=tuple(wanted))
        return kicked

    @contextmanager
    def _browse(self, timeout: float) -> Iterator[Browser]:
        """Look through the queue. While there is none, and it comes with the first buried job, what is done inside ends early."""
        deadline = monotonic() + timeout
        with turn(self._turn, deadline):
            browser = Browser(self._link.connection(deadline), self._queue, timeout)
            try:
                with browser:
                    yield browser
                    self._deepest = max(self._deepest, browser.left)
            except BrokerRefused as error:
                if error.code != NOT_FOUND:
                    raise

    def _pages(self, browser: Browser, count: int) -> Iterator[list[Delivery]]:
        """The `count` oldest jobs, page by page."""
        if self._loses_order:
            front = self._front(browser, count)
            yield from (front[start : start + PAGE] for start in range(0, len(front), PAGE))
            count -= len(front)
        while count > 0 and (page := browser.page(min(count, PAGE))):
            yield page
            count -= len(page)

    def _front(self, browser: Browser, count: int) -> list[Delivery]:
        """The oldest jobs of those that may have been looked at before. No more than `count` of them are in memory, and a page."""
        oldest: list[Delivery] = []
        for _ in range(0, max(self._deepest, PAGE), PAGE):
            page = browser.page(PAGE)
            oldest = sorted([*oldest, *page], key=_age)[:count]
            if len(page) < PAGE:
                break
        return oldest

    def _publish(self, browser: Browser, deliveries: list[Delivery], kicked: int, timeout: float) -> int:
        """Publish to the topic, and only what is confirmed is taken away here."""
        messages = [self._kicked(delivery) for delivery in deliveries]
        confirmed, failures = self._publisher.publish_many(messages, timeout)
        for index, delivery in enumerate(deliveries):
            if index not in failures:
                browser.settle(delivery)
        if failures:
            raise PutManyFailed(kicked + confirmed, {kicked + index: error for index, error in failures.items()})
        return confirmed

    def _kicked(self, delivery: Delivery) -> Outgoing:
        properties = travelling(delivery.raw_properties, {})
        fresh = {key: value for key, value in properties.headers.items() if key not in names.FAILURE}
        return Outgoing(
            names.DEFAULT_EXCHANGE, self._topic, encode(replace(properties, headers=fresh)), delivery.body, properties.message_id
        )


def buried_job(delivery: Delivery) -> BuriedJob:
    """What is known of a buried job. It may have been buried by the broker, which says why in headers of its own, or by anybody."""
    try:
        properties = decode(delivery.raw_properties)
    except PropertiesError as error:
        return BuriedJob(None, delivery.body, str(error), None, 0, None, {})
    headers = properties.headers
    death = _last_death(headers)
    return BuriedJob(
        id=properties.message_id,
        body=delivery.body,
        reason=_text(headers.get(names.REASON)) or f"set aside by the broker: {_text(death.get('reason')) or 'it does not say why'}",
        error=_text(headers.get(names.ERROR_MESSAGE)),
        attempts=_count(headers.get(names.ATTEMPTS)),
        buried_at=_moment(headers.get(names.BURIED_AT)) or _moment(death.get("time")),
        headers=headers,
    )


def _age(delivery: Delivery) -> datetime:
    """By which jobs are put in order. Of those that nobody gave a time it is not known; they come first."""
    return buried_job(delivery).buried_at or _LONG_AGO


def _take(wanted: dict[str, None], job_id: str | None) -> bool:
    """Whether the job is wanted; from then on it is no more: of two with one id the older one is taken."""
    if job_id is None or job_id not in wanted:
        return False
    del wanted[job_id]
    return True


def _id_of(delivery: Delivery) -> str | None:
    try:
        return decode(delivery.raw_properties).message_id
    except PropertiesError:
        return None


def _list(ids: Collection[str]) -> str:
    shown = ", ".join(itertools.islice(ids, MAX_SHOWN))
    return shown if len(ids) <= MAX_SHOWN else f"{shown}, …"


def _last_death(headers: Mapping[Any, Any]) -> Mapping[str, Any]:
    deaths = headers.get(names.DEATHS)
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=timezone.utc)
