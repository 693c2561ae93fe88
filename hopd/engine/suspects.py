"""Finding the job that kills the process: after an unclean exit, the jobs that come back run one at a time.

poison.py knows who is charged with what, lane.py who may start; here they meet the topics. A process that was not killed, and
a job that was not delivered before, never come here. For another instance what comes back is nothing special.

**When a topic has no suspects left.** The broker puts what a dead process had back to where it was, before all that was never
delivered (classic queues by position, quorum queues by a list of their own that is served first), and does so when the kernel
closes the dead process's connection. So a topic that consumes and has no suspect to wait for gets the next one at once; when
for `QUIET` seconds none came, waited or ran, there is none. It can be wrong: priorities and other consumers change the order,
and after the death of a whole machine the broker takes two heartbeats to notice. Then a killer comes later, as an ordinary
job, and kills once more; this time the connection is closed at once, and it is a suspect the next time. So ending too early
costs a crash, never a job; never ending would cost a topic its speed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.event import Event

from hopd import names
from hopd.amqp.wire import Delivery
from hopd.engine.executor import Executor
from hopd.engine.lane import Lane, Suspect
from hopd.engine.poison import InUse, JobKey, Journal, Record, describe, key_of
from hopd.engine.workers import Workers

LOGGER = logging.getLogger(__name__)

#: See above. Seconds.
QUIET = 5.0

#: How often a suspect that may start is offered to its topic while all the workers there are busy. Seconds.
LOOK_AGAIN = 0.05


class Suspects:
    """The suspects of all topics. Its duties:

    1. at the start, find out whether the process before this one died, and who is charged with that; then be there for the topics;
    2. have suspects run, one at a time, and note each before it starts and after it ended;
    3. at a clean end, say so.

    Where the journal cannot be written there is a warning and no protection; hopd runs all the same.
    """

    def __init__(self, prefix: str | None) -> None:
        self.lane = Lane()
        self._prefix = prefix
        self._journal: Journal | None = None
        self._hunts: dict[str, Hunt] = {}
        self._cleared: set[str] = set()  # topics that have no suspects left
        self._keeper: gevent.Greenlet[..., None] | None = None
        self._arrived: deque[tuple[Hunt, Delivery]] = deque()
        self._wake = Event()
        self._complained = False

    def begin(self) -> None:
        """Look at what the process before this one has left."""
        if self._prefix is None:
            return
        try:
            self._journal = journal = Journal(self._prefix, time.time())
        except (OSError, InUse) as error:
            self._complain(error)
            return
        if journal.died:
            text = "The hopd before this one did not leave in order; what was under way runs one at a time. Charged with it: %s"
            LOGGER.warning(text, describe(journal.named), extra={"event": "unclean_exit", "named": len(journal.named)})

    def hunt(self, topic: str, workers: Workers, executor: Executor, max_crashes: int, finish: Callable[[], None]) -> Hunt | None:
        """A hunt for the suspects of a topic, which ends with a call of `finish`; None when there is no reason for one."""
        if self._journal is None or not self._journal.died or topic in self._cleared:
            return None
        hunt = self._hunts[topic] = Hunt(self, topic, workers, executor, max_crashes, finish)
        if self._keeper is None or self._keeper.dead:
            self._keeper = gevent.spawn(self._look_after_hunts)
        return hunt

    def end(self) -> None:
        """The process leaves in order."""
        self._hunts.clear()
        self._wake.set()
        if self._journal is not None:
            try:
                self._journal.close()
            except OSError as error:
                LOGGER.warning("The next hopd will think that this one died: %s", error, extra={"event": "poison_unprotected"})

    # --- for the hunts ------------------------------------------------------------------------

    def arrived(self, hunt: Hunt, delivery: Delivery) -> None:
        """Never waits: the connection's reader calls it."""
        self._arrived.append((hunt, delivery))
        self._wake.set()

    def sort_in(self) -> None:
        """Find out who those are that arrived."""
        while self._arrived:
            hunt, delivery = self._arrived.popleft()
            hunt.sort_in(delivery)

    def record(self, key: JobKey) -> Record:
        """What is known about a job."""
        named = {} if self._journal is None else self._journal.named
        return named.get(key, Record(0, 0, 0.0))

    def begun(self, suspect: Suspect) -> None:
        """It is about to run."""
        alone = self.lane.begun(suspect, monotonic())
        self._note(lambda journal: journal.started(suspect.key, alone=alone))

    def ended(self, suspect: Suspect) -> None:
        """It ran, or was buried."""
        self.lane.ended(suspect)
        self._note(lambda journal: journal.ended(suspect.key))
        self._wake.set()

    def look(self) -> None:
        """Something has changed."""
        self._wake.set()

    # --- its greenlet -------------------------------------------------------------------------

    def _look_after_hunts(self) -> None:
        while self._hunts:
            self._wake.clear()
            self.sort_in()
            self._hand_over()
            self._end_quiet_hunts()
            self._wake.wait(self._pause())

    def _hand_over(self) -> None:
        suspect = self.lane.next(monotonic(), lambda topic: topic in self._hunts and self._hunts[topic].has_room)
        if suspect is not None:
            self._hunts[suspect.key.topic].hand_over(suspect)

    def _end_quiet_hunts(self) -> None:
        for hunt in list(self._hunts.values()):
            if hunt.is_over(monotonic()):
                del self._hunts[hunt.topic]
                self._cleared.add(hunt.topic)

    def _pause(self) -> float | None:
        if not self.lane.idle:
            return LOOK_AGAIN
        ends = [hunt.quiet_since + QUIET for hunt in self._hunts.values() if hunt.quiet_since is not None]
        return max(0.0, min(ends) - monotonic()) if ends else None

    def _note(self, write: Callable[[Journal], None]) -> None:
        if self._journal is not None:
            try:
                write(self._journal)
            except OSError as error:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            text = "Jobs that kill the process will not be found: %s"
            LOGGER.warning(text, error, extra={"event": "poison_unprotected", "reason": str(error)})
        self._complained = True


class Hunt:
    """One topic, as long as it may have suspects."""

    def __init__(
        self, suspects: Suspects, topic: str, workers: Workers, executor: Executor, max_crashes: int, finish: Callable[[], None]
    ) -> None:
        self.topic = topic
        #: Since when no suspect came, waited or ran; None while the topic does not consume. Monotonic seconds.
        self.quiet_since: float | None = None
        self._suspects = suspects
        self._workers = workers
        self._executor = executor
        self._max_crashes = max_crashes
        self._finish = finish
        self._handed: dict[Delivery, Suspect] = {}
        self._cleared: set[JobKey] = set()

    # --- for the topic's consumer and workers -------------------------------------------------

    def add(self, delivery: Delivery) -> None:
        """A job came that was delivered before. Never waits."""
        self._suspects.arrived(self, delivery)

    def consuming(self, yes: bool) -> None:
        """Whether suspects can come."""
        self.quiet_since = monotonic() if yes else None
        self._suspects.look()

    def empty(self) -> list[Delivery]:
        """Take out what waits. Those that the workers have and did not begin are among the workers' own."""
        self._suspects.sort_in()
        self._handed.clear()
        return [suspect.delivery for suspect in self._suspects.lane.clear(self.topic)]

    @property
    def waiting(self) -> int:
        """How many suspects wait."""
        self._suspects.sort_in()
        return self._suspects.lane.waiting(self.topic)

    def run(self, delivery: Delivery) -> None:
        """What the topic's workers do with every job as long as the hunt is on."""
        suspect = self._handed.pop(delivery, None)
        if suspect is None:
            self._executor.run(delivery)
            return
        crashes = suspect.record.crashes
        if crashes >= self._max_crashes:
            reason = f"the process died {crashes} time{'s' * (crashes != 1)} while this job ran"
            self._executor.bury_unrun(delivery, reason, {names.CRASHES: crashes})
        else:
            self._suspects.begun(suspect)
            self._executor.run(delivery)  # raises when hopd leaves, and then the job is not over
        self._cleared.add(suspect.key)
        self._suspects.ended(suspect)
        self._touch()

    # --- for the suspects ---------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether a worker could start a job now."""
        return self._workers.has_room

    def sort_in(self, delivery: Delivery) -> None:
        """A suspect, unless it has shown that it is none."""
        key = key_of(self.topic, delivery)
        if key in self._cleared:
            self._workers.add(delivery)
            return
        self._suspects.lane.add(Suspect(key, delivery, self._suspects.record(key)))
        self._touch()

    def hand_over(self, suspect: Suspect) -> None:
        """Have it run, or buried."""
        self._handed[suspect.delivery] = suspect
        self._workers.add_first(suspect.delivery)

    def is_over(self, now: float) -> bool:
        """Whether the hunt is over; then it has said so."""
        if self.quiet_since is None or now < self.quiet_since + QUIET:
            return False
        if self.waiting or self._suspects.lane.under_way(self.topic):
            self._touch()
            return False
        LOGGER.info("%s has no suspects left", self.topic, extra={"event": "suspects_cleared", "topic": self.topic})
        self._finish()
        return True

    def _touch(self) -> None:
        if self.quiet_since is not None:
            self.quiet_since = monotonic()
