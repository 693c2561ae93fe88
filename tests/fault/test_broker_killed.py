"""The embedded broker is killed under load, again and again: no message that it confirmed is lost."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pika
import pytest
from pika.exceptions import AMQPError

from hopd import Message, Topic
from hopd.errors import PutManyFailed
from tests.support.broker_process import BrokerProcess
from tests.support.library import work_queue
from tests.support.process import Processes
from tests.support.waiting import wait_until

KILLS = 50

#: The most messages that are taken between two kills, and that a consumer may hold.
STRIDE, PREFETCH = 300, 100

#: Seconds.
PATIENCE = 60.0


class Load:
    """Something that goes on in a thread until it is told to stop, and whose errors are the test's."""

    def __init__(self, run: Callable[[Load], None]) -> None:
        self.over = threading.Event()
        self._failure: BaseException | None = None
        self._run = run
        self._thread = threading.Thread(target=self._guarded)
        self._thread.start()

    def _guarded(self) -> None:
        try:
            self._run(self)
        except BaseException as error:  # noqa: BLE001 - told to the test
            self._failure = error

    def check(self) -> bool:
        """Whether it goes on; its error when it ended by one."""
        if self._failure is not None:
            raise self._failure
        return True

    def stop(self) -> None:
        """End it."""
        self.over.set()
        self._thread.join()


class Producer:
    """Puts jobs with the library, as many at once as comes to its mind, and knows which of them the broker confirmed."""

    def __init__(self, topic: Topic) -> None:
        self.attempted: set[str] = set()
        self.confirmed: set[str] = set()
        self._topic = topic
        self._chosen = random.Random("producer")

    def run(self, load: Load) -> None:
        """Put until it is over, about as fast as they are taken."""
        while not load.over.wait(0.01):
            first = len(self.attempted)
            ids = [str(number) for number in range(first, first + self._chosen.randint(1, 200))]
            self.attempted.update(ids)
            unconfirmed: set[int] = set()
            try:
                self._topic.put_many([Message(body(id_), message_id=id_) for id_ in ids])
            except PutManyFailed as failed:
                unconfirmed = set(failed.failures)
            self.confirmed.update(id_ for index, id_ in enumerate(ids) if index not in unconfirmed)


class Consumer:
    """Takes jobs with pika, and settles now one, now a few at once."""

    def __init__(self, url: str, queue: str) -> None:
        self.taken: set[str] = set()
        self._parameters = pika.URLParameters(url)
        self._queue = queue
        self._chosen = random.Random("consumer")

    def run(self, load: Load) -> None:
        """Consume until it is over, on one connection after the other."""
        while not load.over.is_set():
            try:
                with pika.BlockingConnection(self._parameters) as connection:
                    self._consume(connection.channel(), load)
            except (AMQPError, OSError):
                load.over.wait(0.02)  # the broker was killed

    def _consume(self, channel: pika.adapters.blocking_connection.BlockingChannel, load: Load) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        owed = 1
        for method, properties, content in channel.consume(self._queue, inactivity_timeout=0.05):
            if method is not None:
                assert content == body(properties.message_id)
                self.taken.add(properties.message_id)
                owed -= 1
                if owed == 0:
                    channel.basic_ack(method.delivery_tag, multiple=True)
                    owed = self._chosen.randint(1, 10)
            elif load.over.is_set():
                break


def body(message_id: str) -> bytes:
    """What the job of that id holds: sometimes more than a page of the store."""
    chosen = random.Random(message_id)
    return chosen.randbytes(chosen.choice((0, 100, 100, 100, 6000)))


@pytest.fixture
def broker(processes: Processes, tmp_path: Path) -> BrokerProcess:
    return BrokerProcess(processes, tmp_path / "hopd.store")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is said about so many lost connections would hide everything else."""
    for name in ("hopd", "pika"):
        caplog.set_level(logging.CRITICAL, name)


@pytest.fixture
def topic(broker: BrokerProcess) -> Iterator[Topic]:
    with work_queue(broker.url, recovery_max=0.05) as queue:
        topic = queue.get_topic("tasks")
        topic.declare()
        yield topic


def test_a_broker_that_is_killed_fifty_times_under_load_loses_nothing_that_it_confirmed(broker: BrokerProcess, topic: Topic) -> None:
    producer, consumer = Producer(topic), Consumer(broker.url, topic.name)
    chosen = random.Random("kills")
    with ExitStack() as stack:
        loads = [Load(producer.run), Load(consumer.run)]
        for load in loads:
            stack.callback(load.stop)
        # When the broker is killed in the middle of its work, and started again
        for _ in range(KILLS):
            wanted = len(consumer.taken) + chosen.randint(1, STRIDE)
            wait_until(lambda wanted=wanted: all(load.check() for load in loads) and len(consumer.taken) >= wanted, PATIENCE, "it works")  # type: ignore[misc]
            broker.kill()
        # Then every job that was confirmed is taken in the end
        loads[0].stop()
        wait_until(lambda: producer.confirmed <= consumer.taken, PATIENCE, "nothing is lost")
        wait_until(lambda: topic.ready() == 0, PATIENCE, "nothing is left")
    loads[1].check()
    assert consumer.taken <= producer.attempted
    assert len(producer.confirmed) > KILLS
