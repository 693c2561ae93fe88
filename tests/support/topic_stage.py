"""A consumer on its stage: a broker that answers as the test wants, jobs that wait at a gate, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, ClassVar

from gevent.event import Event

from hopd.amqp.recovery import Backoff
from hopd.config.model import TopicSettings
from hopd.config.retry import FailurePolicy
from hopd.engine.consumer import Consumer
from hopd.job import Job
from tests.support.fake_broker import FakeBroker
from tests.support.loop import run_until


class Pauses(Backoff):
    """Pauses that are over soon, and remember which failure in a row each of them followed."""

    asked: ClassVar[list[int]] = []

    def pause(self, attempt: int) -> float:
        self.asked.append(attempt)
        return 0.001


class Stage:
    """A consumer, its broker, and the jobs it ran."""

    def __init__(self, **options: Any) -> None:
        self.broker = FakeBroker()
        self.gate = Event()
        self.gate.set()
        self.ran: list[int] = []
        options = {"concurrency": 2, **options}
        topic = TopicSettings(name="emails", handler="m:f", **options)
        broker: Any = self.broker
        self.consumer = Consumer(topic, broker, self._handle, FailurePolicy(), broker)

    def _handle(self, job: Job) -> None:
        self.gate.wait()
        self.ran.append(int(job.body))

    def consume(self) -> Stage:
        """Start, and wait until it consumes."""
        self.consumer.start()
        self.until_consuming()
        return self

    def until_consuming(self) -> None:
        run_until(lambda: self.state == "consuming" and self.broker.present.consuming)

    def until_settled(self) -> None:
        run_until(lambda: self.consumer.settled)

    def leave(self, grace: float = 0.0) -> None:
        self.consumer.stop(monotonic() + grace)
        self.consumer.join()

    @property
    def state(self) -> str:
        return str(self.consumer.status()["state"])

    @property
    def reason(self) -> str | None:
        reason: str | None = self.consumer.status()["reason"]
        return reason

    def count(self, name: str) -> int:
        return int(self.consumer.status()[name])

    @property
    def calls(self) -> list[str]:
        return self.broker.script.calls


Make = Callable[..., Stage]


@contextmanager
def stages() -> Iterator[Make]:
    """Makes stages, and clears them at the end."""
    made: list[Stage] = []

    def make(**options: Any) -> Stage:
        made.append(Stage(**options))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.gate.set()
            for event in one.broker.script.held.values():
                event.set()
            one.leave()
