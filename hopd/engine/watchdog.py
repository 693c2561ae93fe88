"""The watchdog: a thread of the operating system that notices when the event loop does not run.

All greenlets, and the heartbeats, run in one thread. A handler that computes, or waits in C, stops them all; no timeout of the
loop's own can fire then. This thread says which topic, job and line it is, and ends the process when there is no hope.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic, process_time
from types import FrameType

from gevent import monkey
from gevent.hub import get_hub

from hopd.config.model import WatchdogSettings
from hopd.engine.absence import Absence, Back, Hopeless, Missing
from hopd.engine.lockhog import LockHog
from hopd.engine.stacks import job_of, traceback_of
from hopd.errors import HopError
from hopd.job import Job

LOGGER = logging.getLogger(__name__)

# Those of the operating system, whatever is patched.
_start_thread = monkey.get_original("_thread", "start_new_thread")
_sleep = monkey.get_original("time", "sleep")
_current_frames: Callable[[], dict[int, FrameType]] = monkey.get_original("sys", "_current_frames")

#: How often the loop says that it runs, and how often the thread looks: parts of `report_after`, and at most so many seconds.
TICK, LONGEST_TICK = 0.25, 1.0
LOOK, LONGEST_LOOK = 0.125, 0.25


class EventLoopBlocked(HopError):
    """The event loop does not run."""


class Watchdog:
    """Its duties, in a thread of its own:

    1. look whether the loop renewed its mark;
    2. when it has not for `report_after`, log once what it is at, and count it for the topic;
    3. log when that is over, and how long it took;
    4. when it has not for `exit_after`, log, and call `leave`, which ends the process.

    `blocked` counts the occasions by topic; those of no topic have the key None.
    """

    def __init__(self, settings: WatchdogSettings, leave: Callable[[], object], hog: LockHog | None = None) -> None:
        self.blocked: dict[str | None, int] = {}
        self._leave = leave
        self._tick = min(LONGEST_TICK, TICK * settings.report_after)
        self._pause = min(LONGEST_LOOK, LOOK * settings.report_after)
        self._seen = monotonic()
        self._absence = Absence(settings.report_after, settings.exit_after, self._seen)
        self._hog = hog or LockHog(settings.report_after, settings.exit_after)
        self._job: Job | None = None
        self._running = False

    def start(self) -> None:
        """Watch over the loop of this thread."""
        hub = get_hub()
        self._running = True
        self._renew()
        self._loop_thread = hub.thread_ident
        self._timer = hub.loop.timer(0.0, self._tick, ref=False)
        self._timer.start(self._renew)
        self._hog.start()
        _start_thread(self._watch, ())

    def stop(self) -> None:
        """Watch no more."""
        self._running = False
        self._hog.stop()
        self._timer.stop()
        self._timer.close()

    def _renew(self) -> None:
        self._seen = monotonic()

    # --- its thread ---------------------------------------------------------------------------

    def _watch(self) -> None:
        computed = process_time()
        while self._running:
            self._hog.renew()
            due = monotonic() + self._pause
            _sleep(self._pause)
            now, before, computed = monotonic(), computed, process_time()
            try:
                self._look(now, now - due, computed - before)
            except Exception as error:  # whatever it is, a watchdog that is gone helps nobody
                LOGGER.error("The watchdog stumbled: %r", error, extra={"event": "watchdog_failed"}, exc_info=error)

    def _look(self, now: float, late: float, computed: float) -> None:
        change = self._absence.look(now, self._seen, late, computed)
        if isinstance(change, Missing):
            self._report(change.seconds)
        elif isinstance(change, Back):
            text = "The event loop runs again; it did not for %.1f s"
            LOGGER.warning(text, change.seconds, extra={"event": "event_loop_back", **self._about(), "seconds": round(change.seconds, 3)})
        elif isinstance(change, Hopeless):
            text = "The event loop has not run for %.0f s: hopd leaves, to be started again"
            LOGGER.critical(text, change.seconds, extra={"event": "event_loop_hopeless", **self._about()})
            self._running = False
            self._leave()

    def _report(self, seconds: float) -> None:
        frame = _current_frames().get(self._loop_thread)
        self._job = job_of(frame)
        topic = None if self._job is None else self._job.topic
        who = "Something that is not a job keeps" if topic is None else f"A job of {topic} keeps"
        error = EventLoopBlocked(f"{who} everything else from running, for {seconds:.1f} s so far")
        extra = {"event": "event_loop_blocked", **self._about(), "seconds": round(seconds, 3)}
        LOGGER.error("%s", error, extra=extra, exc_info=(EventLoopBlocked, error, traceback_of(frame)))
        self.blocked[topic] = self.blocked.get(topic, 0) + 1

    def _about(self) -> dict[str, str]:
        return {} if self._job is None else {"topic": self._job.topic, "job": self._job.log_id}
