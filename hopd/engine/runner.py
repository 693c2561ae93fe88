"""Where and for how long a topic's handler runs: in the worker or in a thread, with or without a time limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hopd.config.model import TopicSettings
from hopd.engine.threads import ThreadJob, Threads
from hopd.engine.timeouts import Watch, frame_of
from hopd.job import Job

Handler = Callable[[Job], object]


class Runner:
    """`handler` is the topic's handler as its settings want it run, on jobs of the class `job_type`."""

    def __init__(self, settings: TopicSettings, handler: Handler) -> None:
        self.handler = handler
        self.job_type: type[Job] = Job
        self._threads: Threads | None = None
        self._watch: Watch | None = None
        if settings.executor == "thread":
            self._threads = Threads(settings.name, settings.concurrency, handler)
            self.handler, self.job_type = self._threads, ThreadJob
        if settings.timeout is not None:
            where = frame_of if self._threads is None else self._threads.frame_of
            self._watch = Watch(settings.name, settings.timeout, settings.kill_after, where)
            self.handler = self._watch.guard(self.handler)

    def start(self) -> None:
        """Begin to look after the time."""
        if self._watch is not None:
            self._watch.start()

    def stop(self) -> None:
        """No more jobs come. Threads end with their handlers."""
        if self._watch is not None:
            self._watch.stop()
        if self._threads is not None:
            self._threads.stop()

    @property
    def busy_threads(self) -> int:
        """How many threads run a handler, and keep the process from an orderly end."""
        return 0 if self._threads is None else self._threads.busy

    def status(self) -> dict[str, Any]:
        """The topic's part of the status: how many jobs ran too long, and how many threads do now that nobody waits for."""
        return {
            "timed_out": 0 if self._watch is None else self._watch.timed_out,
            "abandoned": 0 if self._threads is None else self._threads.abandoned,
        }
