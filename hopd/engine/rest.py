"""A topic's breaker at work: it hears of failures, has the topic rest, and watches the one job that is tried after that.

breaker.py decides; the topic's consumer takes jobs or does not. A topic without a breaker has a `Rest` that never comes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from hopd.config.model import TopicSettings
from hopd.engine.breaker import OPEN, PROBING, Breaker, BreakerPolicy
from hopd.engine.executor import Executor
from hopd.job import Job
from hopd.units import format_duration

LOGGER = logging.getLogger(__name__)


class Rest:
    """When a topic rests. `changed` is called when it begins and when a probe has ended it; the consumer asks for the rest.

    What succeeds is looked at only while it probes: the handler is exchanged for that time, so that it costs nothing otherwise.
    """

    def __init__(self, settings: TopicSettings, executor: Executor, changed: Callable[[], None]) -> None:
        self._topic = settings.name
        self._executor = executor
        self._handler = executor.handler
        self._changed = changed
        self._breaker: Breaker | None = None
        self._probe: Job | None = None
        self._opened = 0
        if settings.breaker is not None:
            given = settings.breaker
            self._breaker = Breaker(BreakerPolicy(given.failures, given.within, given.pause))
            executor.on_failed = self._on_failed

    @property
    def resting(self) -> bool:
        """Whether no job may be started."""
        return self._breaker is not None and self._breaker.state == OPEN

    @property
    def probing(self) -> bool:
        """Whether only one job may be started."""
        return self._breaker is not None and self._breaker.state == PROBING

    def left(self) -> float | None:
        """For how many seconds it still rests; None when it does not."""
        return max(0.0, self._breaker.probes_at - monotonic()) if self._breaker is not None and self.resting else None

    def probe(self) -> bool:
        """Try one job if the rest is over. False when it is not."""
        if self._breaker is None or not self._breaker.probe(monotonic()):
            return False
        self._executor.handler = self._try
        return True

    def cancel(self) -> None:
        """An operator wants the topic to go on."""
        if self._breaker is not None and (self.resting or self.probing):
            self._breaker.close()
            self._executor.handler = self._handler
            LOGGER.info("The breaker of %s is closed by hand", self._topic, extra={"event": "breaker_closed", "topic": self._topic})

    def reason(self) -> str | None:
        """Why it rests; None when it does not."""
        return self._breaker.reason(monotonic()) if self._breaker is not None and (self.resting or self.probing) else None

    def status(self) -> dict[str, Any]:
        """The topic's part of the status: where the breaker stands (None: there is none), and how often it has opened."""
        return {"breaker": None if self._breaker is None else self._breaker.state, "breaker_opened": self._opened}

    # --- in the workers -----------------------------------------------------------------------

    def _on_failed(self, job: Job) -> None:
        # While it probes only the probe counts: jobs that were running when it opened say nothing about now.
        if self._breaker is None or (self.probing and job is not self._probe) or not self._breaker.failed(monotonic()):
            return
        self._probe = None
        self._executor.handler = self._handler
        self._opened += 1
        policy = self._breaker.policy
        text = "Too many jobs of %s fail (%d within %s): it rests for %s, then one is tried"
        within, pause = format_duration(policy.within), format_duration(policy.pause)
        extra = {"event": "breaker_opened", "topic": self._topic, "pause": policy.pause}
        LOGGER.warning(text, self._topic, policy.failures, within, pause, extra=extra)
        self._changed()

    def _try(self, job: Job) -> None:
        """The handler while it probes. What it raises is heard of through `_on_failed`, unless it is a decision about the job."""
        self._probe = job
        self._handler(job)
        if self._breaker is not None and self._probe is job and self._breaker.succeeded():
            self._probe = None
            self._executor.handler = self._handler
            LOGGER.info("A job of %s succeeded again: it goes on", self._topic, extra={"event": "breaker_closed", "topic": self._topic})
            self._changed()
