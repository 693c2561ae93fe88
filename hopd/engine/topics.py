"""The topics of a daemon: their consumers, and those whose time is over but whose last jobs still run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any

import gevent

from hopd.amqp.topology import QueueSpec
from hopd.config.changes import Changes
from hopd.config.load import Loaded
from hopd.config.model import TopicSettings
from hopd.engine.consumer import Consumer
from hopd.engine.named import failure_policy, load_named
from hopd.engine.suspects import Suspects
from hopd.job import Job
from hopd.topic import Topic
from hopd.workqueue import WorkQueue

LOGGER = logging.getLogger(__name__)

#: How often is looked whether jobs of a replaced consumer have left room for those of its successor. Seconds.
LOOK_INTERVAL = 0.05


class Topics:
    """Its duties:

    1. import what a config names for its topics, and make a consumer for each;
    2. exchange consumers while everything runs: a new one begins at once, the old one takes no more jobs and lets its running ones finish,
       and together they never run more than the topic's `concurrency`;
    3. at the end, see all of them off.
    """

    def __init__(self, queue: WorkQueue, suspects: Suspects, instance: str | None, loaded: Loaded) -> None:
        """`ConfigError` when something cannot be imported."""
        self._queue = queue
        self._suspects = suspects
        self._instance = instance
        self._consumers = self.make(loaded, tuple(loaded.settings.topics))
        self._old: list[Consumer] = []
        self._usher: gevent.Greenlet[..., None] | None = None

    def names(self) -> list[str]:
        """The topics in the order of the config."""
        return list(self._consumers)

    def __getitem__(self, name: str) -> Consumer:
        """The consumer of a topic."""
        return self._consumers[name]

    def __len__(self) -> int:
        return len(self._consumers)

    def running(self, name: str) -> int:
        """How many jobs of a topic run."""
        current = self._consumers.get(name)
        return (0 if current is None else current.running) + self._old_running()[name]

    def under_way(self, names: Iterable[str] | None = None) -> bool:
        """Whether each of these topics, or of all, is consumed, or would be if it were not paused."""
        return all(self._consumers[name].under_way for name in (self._consumers if names is None else names))

    @property
    def busy_threads(self) -> int:
        """How many threads run a handler. After the end these would keep the process: nobody can interrupt them."""
        return sum(consumer.busy_threads for consumer in self._all())

    def status(self) -> dict[str, dict[str, Any]]:
        """The topics' part of the status contract. One that the config has no more is there until its last job is over."""
        shown = {consumer.settings.name: consumer for consumer in self._old} | self._consumers
        order = [*self._consumers, *(name for name in shown if name not in self._consumers)]
        return {name: {**shown[name].status(), "running": self.running(name)} for name in order}

    # --- coming and going ---------------------------------------------------------------------

    def make(self, loaded: Loaded, names: tuple[str, ...]) -> dict[str, Consumer]:
        """Consumers for these topics of a config, not started. Whatever the config names for them is imported first; `ConfigError` tells
        of all that cannot be, with its line."""
        objects = load_named(loaded, names)
        return {name: self._make(loaded.settings.topics[name], objects["topics", name, "handler"]) for name in names}

    def _make(self, settings: TopicSettings, handler: Callable[[Job], object]) -> Consumer:
        topic = self._topic(settings)
        topic.aside.instance, topic.aside.keep_buried = self._instance, settings.keep_buried
        return Consumer(settings, topic, handler, failure_policy(settings), self._queue.consuming, self._suspects)

    def _topic(self, settings: TopicSettings) -> Topic:
        """The topic, with the queue that the config wants."""
        name, spec = settings.name, QueueSpec(settings.name, settings.durable, settings.queue_type, settings.arguments)
        topic = self._queue.topic(name, durable=spec.durable, queue_type=spec.queue_type, arguments=spec.arguments)
        if topic.spec == spec:
            return topic
        self._queue.forget(name)
        again = self._queue.topic(name, durable=spec.durable, queue_type=spec.queue_type, arguments=spec.arguments)
        again.aside.counts = topic.aside.counts  # the same topic to whoever looks at its numbers, also while old jobs run
        return again

    def start(self) -> None:
        """Let all of them begin."""
        for consumer in self._consumers.values():
            consumer.start()

    def change(self, changes: Changes, made: Mapping[str, Consumer], order: Mapping[str, object]) -> None:
        """Let the consumers that were made take over, and topics that are no more finish. What an operator has paused stays paused."""
        for name in (*changes.changed, *changes.removed):
            self._retire(self._consumers.pop(name), made.get(name))
        self._make_room(made)
        for consumer in made.values():
            consumer.start()
        self._consumers = {name: made.get(name) or self._consumers[name] for name in order}
        if self._old and (self._usher is None or self._usher.dead):
            self._usher = gevent.spawn(self._see_off)

    def _retire(self, old: Consumer, new: Consumer | None) -> None:
        if new is not None and old.settings.paused == new.settings.paused and old.paused != new.paused:
            if old.paused:
                new.pause()
            else:
                new.resume()
        old.stop(inf)
        self._old.append(old)

    def _see_off(self) -> None:
        """As the last jobs of old consumers end, let new ones run in their place."""
        while self._old:
            gevent.sleep(LOOK_INTERVAL)
            self._old = [consumer for consumer in self._old if not consumer.stopped]
            self._make_room(self._consumers)

    def _make_room(self, consumers: Mapping[str, Consumer]) -> None:
        old_running = self._old_running()
        for name, consumer in consumers.items():
            consumer.leave_room(old_running[name])

    def _old_running(self) -> Counter[str]:
        """How many jobs run for consumers whose time is over, by topic."""
        running: Counter[str] = Counter()
        for old in self._old:
            running[old.settings.name] += old.running
        return running

    # --- the end ------------------------------------------------------------------------------

    def stop(self, deadline: float) -> None:
        """All begin to leave; running jobs have until `deadline` (monotonic seconds)."""
        for consumer in self._all():
            consumer.stop(deadline)

    def join(self) -> None:
        """Wait until all have left."""
        for consumer in list(self._all()):
            consumer.join()

    def _all(self) -> Iterator[Consumer]:
        yield from self._consumers.values()
        yield from self._old
