"""What the claims say to a broker, in a word: a client over pika's BlockingConnection.

Nothing here waits for a time. What a channel was sent before an answer it has received, it has received as well: so `settle` knows
that nothing more is on its way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

from pika import BasicProperties, BlockingConnection, URLParameters
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from tests.support.waiting import wait_until

#: pika ships no types.
Channel: TypeAlias = BlockingChannel

#: Longer than any answer takes on a busy machine. Seconds.
PATIENCE = 20.0

#: How long one look for deliveries waits on the socket. Seconds.
_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Given:
    """A delivery, or the answer to a get."""

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Any
    body: bytes

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})


class Client:
    """A connection with one channel to begin with, and the shared queues and exchanges it made: they go with it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.connection = BlockingConnection(URLParameters(url))
        self.channel = self.open()
        self._queues: list[str] = []
        self._exchanges: list[str] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def open(self, *, prefetch: int = 0, confirms: bool = True) -> Channel:
        """A channel. With `confirms` a publish returns when the broker has taken the message."""
        channel = self.connection.channel()
        if confirms:
            channel.confirm_delivery()
        if prefetch:
            channel.basic_qos(prefetch_count=prefetch)
        return channel

    def queue(self, arguments: Mapping[str, Any] | None = None, *, shared: bool = False, name: str | None = None, **options: Any) -> str:
        """Declare a queue; its name. It is exclusive to this connection unless `shared`."""
        name = unique("queue") if name is None else name
        if shared:
            self._queues.append(name)
        self.channel.queue_declare(name, exclusive=not shared, arguments=arguments, **options)
        return name

    def quorum_queue(self, arguments: Mapping[str, Any] | None = None) -> str:
        """Declare a quorum queue; its name."""
        return self.queue({"x-queue-type": "quorum", **(arguments or {})}, shared=True, durable=True)

    def exchange(self, kind: str = "direct", arguments: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Declare an exchange; its name."""
        name = unique("exchange")
        self._exchanges.append(name)
        self.channel.exchange_declare(name, kind, arguments=arguments, **options)
        return name

    def bound(self, exchange: str, key: str = "", arguments: Mapping[str, Any] | None = None) -> str:
        """A new exclusive queue, bound to that exchange."""
        queue = self.queue()
        self.channel.queue_bind(queue, exchange, key, arguments)
        return queue

    def close(self) -> None:
        """Delete what is shared, on a fresh connection where the claim has ended this one."""
        if self._queues or self._exchanges:
            connection = self.connection if self.connection.is_open else BlockingConnection(URLParameters(self._url))
            channel = connection.channel()
            for queue in self._queues:
                channel.queue_delete(queue)
            for exchange in self._exchanges:
                channel.exchange_delete(exchange)
            if connection is not self.connection:
                connection.close()
        if self.connection.is_open:
            self.connection.close()


class Inbox:
    """A consumer, and what it was given, in order. `options` are those of basic_consume."""

    def __init__(self, channel: Channel, queue: str, *, auto_ack: bool = False, **options: Any) -> None:
        self.given: list[Given] = []
        self.cancelled = False
        self._channel = channel
        self._queue = queue
        channel.add_on_cancel_callback(self._on_cancel)
        self.tag = ""
        self.tag = channel.basic_consume(queue, self._on_delivery, auto_ack=auto_ack, **options)

    @property
    def bodies(self) -> list[bytes]:
        return [each.body for each in self.given]

    def wait(self, count: int) -> list[Given]:
        """Everything it was given, once that is at least `count`."""
        self.process_until(lambda: len(self.given) >= count, f"{count} deliveries to {self.tag}")
        return self.given

    def exactly(self, *bodies: bytes) -> list[Given]:
        """It is given these, in this order, and nothing more."""
        self.wait(len(bodies))
        settle(self._channel, self._queue)
        assert self.bodies == list(bodies), f"it was given {self.bodies}"
        return self.given

    def wait_cancelled(self) -> None:
        """Until the broker says that this consumer is no more."""
        self.process_until(lambda: self.cancelled, f"{self.tag} is cancelled")

    def process_until(self, condition: Any, why: str) -> None:
        def look() -> bool:
            if not condition():
                self._channel.connection.process_data_events(_LOOK)
            return bool(condition())

        wait_until(look, PATIENCE, why)

    def _on_delivery(self, _channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        self.given.append(_given(method, properties, body))

    def _on_cancel(self, frame: Any) -> None:
        if frame.method.consumer_tag == self.tag:
            self.cancelled = True


def unique(kind: str) -> str:
    """A name that nothing else has."""
    return f"contract-{kind}-{os.urandom(6).hex()}"


# --- messages ---------------------------------------------------------------------------------------


def put(channel: Channel, queue: str, *bodies: bytes, **properties: Any) -> None:
    """Publish to a queue, all with the same properties."""
    publish(channel, "", queue, *bodies, **properties)


def publish(channel: Channel, exchange: str, key: str, *bodies: bytes, **properties: Any) -> None:
    for body in bodies:
        channel.basic_publish(exchange, key, body, BasicProperties(**properties))


def get(channel: Channel, queue: str, *, auto_ack: bool = False) -> Given | None:
    """What a basic.get brings."""
    method, properties, body = channel.basic_get(queue, auto_ack)
    return None if method is None else _given(method, properties, body)


def take(channel: Channel, queue: str, *, auto_ack: bool = False) -> Given:
    """The same, once there is something."""
    return wait_until(lambda: get(channel, queue, auto_ack=auto_ack), PATIENCE, f"a message in {queue}")


def get_all(channel: Channel, queue: str) -> list[bytes]:
    """The bodies of all messages that are ready, which are taken out."""
    bodies = []
    while (given := get(channel, queue, auto_ack=True)) is not None:
        bodies.append(given.body)
    return bodies


def ready(channel: Channel, queue: str) -> int:
    """How many messages are ready."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def consumers(channel: Channel, queue: str) -> int:
    """How many consumers it has."""
    return int(channel.queue_declare(queue, passive=True).method.consumer_count)


def wait_ready(channel: Channel, queue: str, count: int) -> None:
    """Until that many messages are ready."""

    def look() -> bool:
        found = ready(channel, queue)
        assert found == count, f"{found} are"
        return True

    wait_until(look, PATIENCE, f"{count} messages are ready in {queue}")


def settle(channel: Channel, queue: str) -> None:
    """Until nothing more is on its way from the queue to the channel.

    The first answer comes from the queue, which has handed its deliveries to the channel before; with the second the channel
    has sent them.
    """
    for _ in range(2):
        channel.queue_declare(queue, passive=True)
    channel.connection.process_data_events()


def _given(method: Any, properties: Any, body: bytes) -> Given:
    return Given(method.delivery_tag, method.redelivered, method.exchange, method.routing_key, properties, body)


# --- refusals ---------------------------------------------------------------------------------------


@contextmanager
def refused(channel: Channel, code: int, text: str) -> Iterator[None]:
    """The block gets the channel closed with this code and text, and nothing but the channel."""
    with _ended(channel, ChannelClosedByBroker, code, text):
        yield
    channel.connection.channel().close()


@contextmanager
def hung_up(channel: Channel, code: int, text: str) -> Iterator[None]:
    """The block gets the connection closed with this code and text."""
    with _ended(channel, ConnectionClosedByBroker, code, text):
        yield
    assert channel.connection.is_closed


@contextmanager
def _ended(channel: Channel, kind: type[Exception], code: int, text: str) -> Iterator[None]:
    said: tuple[int, str] | None = None
    try:
        yield
        channel.basic_qos()  # what needs no answer is refused by the time of the next
    except kind as error:
        said = (error.args[0], error.args[1])
    assert said == (code, text), f"the broker said {said}"
