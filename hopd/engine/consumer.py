"""One topic, being consumed: what the operator wants of it, and doing that over every loss, until it leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub

from hopd.amqp.channel import Channel
from hopd.amqp.connection import Connection
from hopd.amqp.recovery import Backoff, Link
from hopd.config.model import TopicSettings
from hopd.config.retry import FailurePolicy
from hopd.engine.executor import Executor
from hopd.engine.intake import Intake
from hopd.engine.rest import Rest
from hopd.engine.runner import Runner
from hopd.engine.suspects import Suspects
from hopd.engine.workers import Workers
from hopd.errors import BrokerError, BrokerRefused
from hopd.job import Job
from hopd.lifecycle import CONSUMER, LifeCycle
from hopd.topic import Topic

LOGGER = logging.getLogger(__name__)

#: The broker refuses a topic for a reason that a person has to mend, so it is asked seldom; a lost channel comes back at once. Seconds.
PAUSES = Backoff(first=0.2, cap=30.0)

#: The status page's counters, and the outcome each one counts.
COUNTERS = {
    "done": "done",
    "failed": "failed",
    "retried": "delayed",
    "requeued": "requeued",
    "buried": "buried",
    "dropped": "dropped",
    "lost": "lost",
    "redelivered": "redelivered",
}


class _Interrupted(BrokerError):
    """The topic leaves and waits for no answer any more."""


class Consumer:
    """Consumes one topic. Its duties:

    1. whenever there is a connection: declare the topic, open a channel, set its prefetch, consume;
    2. hand what arrives to the workers, and take it back unharmed when the topic is paused;
    3. when the channel or the connection is lost, begin again, for ever, and as the operator last wanted it;
    4. at the end: stop taking, give waiting jobs back, let running ones finish until the deadline, close the channel.

    What is said on the channel is its `Intake`'s business; when, and what to do when that fails, is decided here. One greenlet
    does all of it, so that pause, recovery and the end cannot meet halfway; the others only set what is wanted and wake it.
    """

    def __init__(
        self,
        settings: TopicSettings,
        topic: Topic,
        handler: Callable[[Job], object],
        policy: FailurePolicy,
        link: Link,
        suspects: Suspects | None = None,
    ) -> None:
        self.settings = settings
        self._topic = topic
        self._link = link
        self._life = LifeCycle(f"the topic {settings.name}", CONSUMER, "idle")
        self._runner = Runner(settings, handler)
        self._executor = Executor(self._runner.handler, policy, topic.aside, self._runner.job_type, settings.max_body)
        self._workers = Workers(settings.concurrency, self._executor.run)
        self._rest = Rest(settings, self._executor, self._on_rest)
        self._suspects = suspects
        self._intake = Intake(settings, topic, self._workers, self._question)
        self._reason: str | None = None
        self._wake = Event()
        self._leave_by: float | None = None
        self._paused = False
        self._failures = 0
        self._asking = False
        self._greenlet: gevent.Greenlet[..., Any] | None = None
        if settings.paused:
            self.pause()

    def start(self) -> None:
        """Begin to consume."""
        if self._suspects is not None:
            self._begin_hunt(self._suspects)
        self._runner.start()
        self._greenlet = gevent.spawn(self._run)

    # --- what the operator wants --------------------------------------------------------------

    def pause(self) -> None:
        """Take no more jobs; running ones finish, waiting ones go back. Lasts until `resume`, whatever the connection does."""
        self._paused = True
        self._hold()

    def resume(self) -> None:
        """Take jobs again; also when the topic rests because of its breaker."""
        self._paused = False
        self._rest.cancel()
        self._go_on()

    def _hold(self) -> None:
        if self._life.can("pause"):
            self._life.move("pause")
            self._workers.hold()
            self._reason = None
        self._wake.set()

    def _go_on(self) -> None:
        if self._life.can("resume"):
            self._life.move("resume")
            self._workers.go_on()
        self._wake.set()

    def _on_rest(self) -> None:
        """The breaker has opened, or closed by itself. What the operator wants is not touched by that."""
        if self._rest.resting:
            self._hold()
        self._wake.set()

    def stop(self, deadline: float) -> None:
        """Begin to leave; running jobs have until `deadline` (monotonic seconds). Calling it again can only bring the end closer."""
        self._leave_by = deadline if self._leave_by is None else min(self._leave_by, deadline)
        if self._life.can("drain"):
            self._life.move("drain")
        self._workers.hold()
        self._wake.set()
        get_hub().loop.run_callback(self._interrupt)

    def _interrupt(self) -> None:
        """In the hub, where it is certain that its greenlet waits for the broker if it says so."""
        if self._asking and self._greenlet is not None:
            self._asking = False
            self._greenlet.throw(_Interrupted())

    def join(self) -> None:
        """Wait until it has left. It does so soon after its deadline."""
        if self._greenlet is not None:
            self._greenlet.join()

    def leave_room(self, others: int) -> None:
        """Let no more jobs run than `concurrency` allows when so many run for the consumer that was here before."""
        self._workers.limit(max(0, self.settings.concurrency - others))

    @property
    def paused(self) -> bool:
        """Whether the operator, or the config, wants it to be."""
        return self._paused

    @property
    def stopped(self) -> bool:
        """Whether it has left."""
        return self._life.state == "stopped"

    @property
    def under_way(self) -> bool:
        """Whether it consumes, or would if it were not paused."""
        return self._life.state in ("consuming", "paused")

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return self._workers.running

    @property
    def busy_threads(self) -> int:
        """How many of its threads run a handler, also when nobody waits for it any more."""
        return self._runner.busy_threads

    @property
    def settled(self) -> bool:
        """Whether a pause has taken effect: nothing is consumed and nothing waits, or there is no channel to ask."""
        return self._intake.stopped

    def status(self) -> dict[str, Any]:
        """The topic's part of the status contract."""
        counts, hunt = self._topic.aside.counts, self._intake.hunt
        return {
            "state": self._life.state,
            "reason": self._reason or (None if self._paused else self._rest.reason()),
            "handler": self.settings.handler,
            "concurrency": self.settings.concurrency,
            "prefetch": self.settings.prefetch,
            "running": self._workers.running,
            "waiting": self._intake.waiting,
            "suspects": hunt.waiting if hunt else 0,
            **{name: counts[outcome] for name, outcome in COUNTERS.items()},
            **self._runner.status(),
            **self._rest.status(),
        }

    # --- its greenlet -------------------------------------------------------------------------

    def _run(self) -> None:
        while self._leave_by is None:
            try:
                self._attend(self._open(self._connection()))
            except BrokerError as error:
                self._begin_again(error)
            except Exception as error:
                # Whatever is wrong with us, a topic that nobody consumes and nobody says so is the worst that could come of it.
                LOGGER.exception("Consuming %s failed", self._topic.name, extra={"event": "consumer_failed", "topic": self._topic.name})
                self._begin_again(BrokerRefused(f"consuming failed: {error!r}"))
        self._leave()

    def _begin_again(self, error: BrokerError) -> None:
        if self._leave_by is None:
            self._failures += 1
            self._lost(error)
            self._wait(monotonic() + PAUSES.pause(self._failures))

    @contextmanager
    def _question(self) -> Iterator[None]:
        """Where this greenlet waits for the broker, until it answers or the topic leaves."""
        if self._leave_by is not None:
            raise _Interrupted
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    def _connection(self) -> Connection:
        """The link's connection, however long it takes; looks up now and then to tell why there is none."""
        while True:
            try:
                with self._question():
                    return self._link.connection(monotonic() + 1.0)
            except _Interrupted:
                raise
            except BrokerError as error:
                self._reason = str(error)

    def _open(self, connection: Connection) -> Channel:
        channel = self._intake.open(connection)
        channel.on_lost(lambda _error: self._wake.set())
        return channel

    def _attend(self, channel: Channel) -> None:
        """Make the channel do what is wanted, until it is lost (raises why) or the topic leaves."""
        while self._leave_by is None:
            self._wake.clear()
            if channel.lost is not None:
                raise channel.lost
            if self._rest.resting and not self._paused and self._rest.probe():
                self._go_on()
            if self._life.state == "paused":
                self._intake.stop(channel)
            else:
                self._take(channel)
            # Only now: a topic that is refused at the last step must be asked for as seldom as one refused at the first.
            self._failures = 0
            self._reason = None
            self._wake.wait(None if self._paused else self._rest.left())

    def _take(self, channel: Channel) -> None:
        self._intake.take(channel, 1 if self._rest.probing else self.settings.prefetch)
        if self._life.can("consume"):
            self._life.move("consume")
            LOGGER.info("Consuming %s", self._topic.name, extra={"event": "topic_consuming", "topic": self._topic.name})

    def _lost(self, error: BrokerError) -> None:
        self._intake.lose()
        event = "refused" if isinstance(error, BrokerRefused) else "lost"
        self._reason = str(error)
        if self._life.can(event):
            self._life.move(event)
            extra = {"event": f"topic_{event}", "topic": self._topic.name, "reason": str(error)}
            LOGGER.warning("The topic %s is not consumed for now: %s", self._topic.name, error, extra=extra)

    def _wait(self, deadline: float) -> None:
        """Pause between two tries; leaving ends it."""
        while self._leave_by is None and monotonic() < deadline:
            self._wake.clear()
            self._wake.wait(max(0.0, deadline - monotonic()))

    # --- jobs that may have killed the process before this one ----------------------------------

    def _begin_hunt(self, suspects: Suspects) -> None:
        hunt = suspects.hunt(self._topic.name, self._workers, self._executor, self.settings.max_crashes, self._end_hunt)
        if hunt is not None:
            self._intake.hunt, self._workers.run = hunt, hunt.run

    def _end_hunt(self) -> None:
        self._intake.hunt, self._workers.run = None, self._executor.run

    # --- leaving ------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Stop taking first, so that what goes back is not delivered here again; settle last, so that no finished job is repeated."""
        answers = self._intake.end()
        self._wait_for_running()
        returned = self._workers.abandon()
        self._runner.stop()
        self._intake.close(answers)
        self._life.move("stopped")
        extra = {"event": "topic_stopped", "topic": self._topic.name, "returned": returned}
        which = " as it was before the reload" if self._leave_by == inf else ""
        LOGGER.info("Stopped %s%s; %d running jobs were returned", self._topic.name, which, returned, extra=extra)

    def _wait_for_running(self) -> None:
        """Polls: counting down to zero would cost every job a look at who is waiting, and this happens once."""
        while self._workers.running and self._leave_by is not None and monotonic() < self._leave_by:
            gevent.sleep(0.01)
