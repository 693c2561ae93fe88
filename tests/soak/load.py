"""The load: threads that put jobs in every way the library has, confirmed, at a steady pace."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hopd import Message, Topic, WorkQueue
from hopd.errors import PutError, PutManyFailed
from tests.soak.topics import DELAY, TOPICS
from tests.support.ledger import Ledger
from tests.support.stamp import stamped

#: Shorter than most faults last, so that deadlines pass as well. Seconds.
PUT_TIMEOUT = 4.0

#: A put that is tried again by the library may take long; the end of the soak waits for it. Seconds.
JOIN_TIMEOUT = 60.0

#: The sizes of bodies: nothing, one frame, several. Bytes.
SIZES = (0, 10, 100, 1000, 20_000, 300_000)
SHARES = (5, 50, 30, 10, 4, 1)

#: How long jobs of `delayed` wait for their time, from and to. Seconds.
DELAYS = (0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to put jobs: `batch` at once, and whether an uncertain put is tried again. `share` is its part of the load."""

    share: int
    batch: int = 1
    retry_uncertain: bool = False


WAYS = (Way(2), Way(2), Way(2, retry_uncertain=True), Way(2, retry_uncertain=True), Way(4, batch=20), Way(4, batch=50))


class Load:
    """Puts about `rate` jobs a second until it is stopped, through two work queues that threads share."""

    def __init__(self, url: str, ledger: Ledger, rate: float, trouble: Callable[[str], None]) -> None:
        self.errors: Counter[str] = Counter()
        self._ledger = ledger
        self._trouble = trouble
        self._over = threading.Event()
        options = {"heartbeat": 3.0, "recovery_max": 1.0, "connect_timeout": 2.0, "put_timeout": PUT_TIMEOUT}
        self._queues = [WorkQueue(url, name=f"soak-{number}", **options) for number in range(2)]  # type: ignore[arg-type]
        total = sum(way.share for way in WAYS)
        self._threads = [
            threading.Thread(target=self._run, args=(number, way, way.batch * total / (way.share * rate)), daemon=True)
            for number, way in enumerate(WAYS)
        ]

    def start(self) -> None:
        """Declare the topics, and begin."""
        for topic in TOPICS:
            self._topic(0, topic.name).declare()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when every put under way has come to an end."""
        self._over.set()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT)
            if thread.is_alive():
                self._trouble("a put did not come back")
        for queue in self._queues:
            queue.close()

    def put(self, topic: str) -> None:
        """Put one job for a fault that needs one."""
        message = _message(topic, "fault", random.Random())
        self._put(self._topic(0, topic), [message], retry_uncertain=True)

    def _topic(self, producer: int, name: str) -> Topic:
        return self._queues[producer % len(self._queues)].topic(name, queue_type="quorum" if name == "quorum" else "classic")

    def _run(self, number: int, way: Way, interval: float) -> None:
        chance = random.Random(number)
        names, shares = [topic.name for topic in TOPICS], [topic.share for topic in TOPICS]
        while not self._over.wait(interval):
            (name,) = chance.choices(names, shares)
            messages = [_message(name, str(number), chance) for _ in range(way.batch)]
            try:
                self._put(self._topic(number, name), messages, retry_uncertain=way.retry_uncertain)
            except Exception as error:
                self._trouble(f"a producer failed: {error!r}")
                raise

    def _put(self, topic: Topic, messages: list[Message], *, retry_uncertain: bool) -> None:
        ids = [message.message_id or "" for message in messages]
        self._ledger.attempt(*ids)
        try:
            if len(messages) == 1:
                (message,) = messages
                about = {"headers": message.headers, "message_id": message.message_id, "delay": message.delay}
                topic.put(message.body, retry_uncertain=retry_uncertain, **about)  # type: ignore[arg-type]
            else:
                topic.put_many(messages)
        except PutManyFailed as error:
            self.errors.update(type(failure).__name__ for failure in error.failures.values())
            self._ledger.confirm(*(job for index, job in enumerate(ids) if index not in error.failures))
        except PutError as error:
            self.errors[type(error).__name__] += 1
        else:
            self._ledger.confirm(*ids)


def _message(topic: str, producer: str, chance: random.Random) -> Message:
    (size,) = chance.choices(SIZES, SHARES)
    message_id = stamped(f"{topic}-{producer}")
    if topic != "delayed":
        return Message(b"x" * size, message_id=message_id)
    delay = round(chance.uniform(*DELAYS), 3)
    return Message(b"x" * size, headers={DELAY: str(delay)}, message_id=message_id, delay=delay)
