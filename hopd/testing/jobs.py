"""Run the jobs that are ready, here and now, as the daemon would: with the topic's failure policy, and settled in the broker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from hopd.config.load import load
from hopd.config.model import TopicSettings
from hopd.config.retry import FailurePolicy
from hopd.engine.executor import Executor
from hopd.engine.named import failure_policy, load_named
from hopd.errors import Decision, HopError, PullTimeout
from hopd.job import Job
from hopd.testing.broker import LocalBroker
from hopd.topic import Topic
from hopd.workqueue import WorkQueue

Handler = Callable[[Job], object]

#: How long is looked for a job at a time: one that is on its way back, for example, is neither ready nor here. Seconds.
LOOK_INTERVAL = 0.05

#: When running the jobs of a topic is given up: something settles none of them. Seconds.
PATIENCE = 60.0


class JobRunner:
    """Runs jobs of `broker`, taken over `queue`, in the caller's thread.

    Time limits and threads are the daemon's own: they are tested with a daemon.
    """

    def __init__(self, broker: LocalBroker, queue: WorkQueue) -> None:
        self._broker = broker
        self._queue = queue

    def __call__(
        self, topic: str | Topic, handler: Handler | None = None, *, config: str | Path | None = None, **options: Any
    ) -> list[Job]:
        """Run every job that is ready in the topic, also those that come meanwhile, and return them in their order.

        The handler is given, with the topic's `options` as a config has them (``retry={"max_attempts": 3}``), or it is the one in `config`.
        What handlers raised is raised again once the topic is empty: the first of it. Jobs are settled as the policy says, all the same.
        """
        name = topic if isinstance(topic, str) else topic.name
        handler, policy, max_body = _plan(name, handler, config, options)
        return _Run(self._broker, self._queue.get_topic(name), handler, policy, max_body).drain()


def _plan(
    name: str, handler: Handler | None, config: str | Path | None, options: dict[str, Any]
) -> tuple[Handler, FailurePolicy, int | None]:
    if config is not None:
        if handler is not None or options:
            raise TypeError("give a handler with its options, or a config")
        loaded = load(str(config), os.environ)
        topic = loaded.settings.topics.get(name)
        if topic is None:
            raise HopError(f"{config} has no topic {name!r}; it has {', '.join(loaded.settings.topics)}")
        return load_named(loaded)["topics", name, "handler"], failure_policy(topic), topic.max_body
    if handler is None:
        raise TypeError("give a handler, or a config that names it")
    topic = TopicSettings.model_validate({**options, "name": name, "handler": "the.test:handler"})
    return handler, failure_policy(topic), topic.max_body


class _Run:
    """One run through a topic."""

    def __init__(self, broker: LocalBroker, topic: Topic, handler: Handler, policy: FailurePolicy, max_body: int | None) -> None:
        self._broker = broker
        self._topic = topic
        self._handler = handler
        self._executor = Executor(self._observed, policy, topic.aside, max_body=max_body)
        self._jobs: list[Job] = []
        self._errors: list[BaseException] = []

    def drain(self) -> list[Job]:
        """Run until nothing is ready, then raise what was raised."""
        deadline = monotonic() + PATIENCE
        while self._left():
            try:
                job = self._topic.pull(LOOK_INTERVAL)
            except PullTimeout:
                if monotonic() > deadline:
                    depth = self._broker.queues()[self._topic.name]
                    raise HopError(f"{self._topic.name} does not become empty: {depth.ready} ready, {depth.unsettled} unsettled") from None
                continue
            self._executor.run(job.delivery)
        if self._errors:
            raise self._errors[0]
        return self._jobs

    def _left(self) -> bool:
        depth = self._broker.queues().get(self._topic.name)
        return depth is not None and depth.ready + depth.unsettled > 0

    def _observed(self, job: Job) -> object:
        self._jobs.append(job)
        try:
            return self._handler(job)
        except Decision:
            raise
        except BaseException as error:
            self._errors.append(error)
            raise
