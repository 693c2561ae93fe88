"""The publisher's ceiling: messages prepared as bytes, confirmed, with a fixed number of them under way. It also fills the queues."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable, Iterator, Sequence

from pika import spec

from hopd.amqp import frames
from tests.bench.raw import CHANNEL, RawChannel

#: Unconfirmed at most: enough that the broker never waits.
WINDOW = 2000

#: Messages in one write.
BATCH = 200

#: A basic.ack of the broker.
_confirm = struct.Struct(">BHIHHQBB")

#: RabbitMQ's default.
FRAME_MAX = 131_072

#: Digits of a message id.
ID_LENGTH = 20


class Messages:
    """Messages to queues in turn, by their names: transient, mandatory, each with an id of its own."""

    def __init__(self, queues: Sequence[str], exchange: str = "") -> None:
        self._methods = itertools.cycle([frames.publish_method(CHANNEL, exchange.encode(), queue.encode()) for queue in queues])
        self._numbers = itertools.count(1)

    def encode(self, body: bytes) -> bytes:
        """The next message's frames."""
        # As encode(Properties(message_id=…, delivery_mode=1)), without looking at each of fourteen properties.
        properties = b"\x10\x80\x01" + bytes((ID_LENGTH,)) + b"%0*d" % (ID_LENGTH, next(self._numbers))
        return frames.publish(next(self._methods), CHANNEL, properties, body, FRAME_MAX)


class RawPublisher:
    """Publishes with up to `WINDOW` unconfirmed."""

    def __init__(self, channel: RawChannel, queues: Sequence[str], exchange: str = "") -> None:
        channel.ask(spec.Confirm.Select())
        self._channel = channel
        self._encode = Messages(queues, exchange).encode
        self._sent = 0
        self._base = 0  # all up to this one are confirmed
        self._ahead: set[int] = set()  # and these
        self._data = b""

    def publish(self, bodies: Iterator[bytes], count: Callable[[], None] = lambda: None) -> None:
        """Publish all of them and return when they are confirmed; `count` is called for each one that is sent."""
        while batch := list(itertools.islice(bodies, BATCH)):
            self._channel.socket.sendall(b"".join(map(self._encode, batch)))
            for _ in batch:
                count()
            self._sent += len(batch)
            self._wait(WINDOW - BATCH)
        self._wait(0)

    def _wait(self, left: int) -> None:
        """Until no more than `left` are unconfirmed."""
        while self._sent - self._base - len(self._ahead) > left:
            self._data += self._channel.receive()
            whole = len(self._data) // _confirm.size * _confirm.size
            for *_, method, tag, multiple, _end in _confirm.iter_unpack(self._data[:whole]):
                if method != 80:
                    raise RuntimeError("the broker sent something else than a confirm")
                self._confirmed(tag, multiple)
            self._data = self._data[whole:]

    def _confirmed(self, tag: int, multiple: int) -> None:
        if multiple:
            self._base = max(self._base, tag)
            self._ahead = {each for each in self._ahead if each > tag}
        else:
            self._ahead.add(tag)
        while self._base + 1 in self._ahead:
            self._base += 1
            self._ahead.remove(self._base)


def fill(url: str, queues: Sequence[str], jobs: int, size: int) -> None:
    """Have `jobs` messages of `size` bytes in these queues, evenly, and nothing else."""
    with RawChannel(url) as channel:
        for queue in queues:
            channel.declare(queue)
    add(url, queues, jobs, size)


def add(url: str, queues: Sequence[str], jobs: int, size: int) -> None:
    """The same for queues that are there, without emptying them."""
    with RawChannel(url) as channel:
        RawPublisher(channel, queues).publish(itertools.repeat(bytes(size), jobs))


def pace(url: str, queue: str, jobs: int, size: int, rate: float) -> None:
    """Put `rate` jobs a second that bear the time of their put, without confirms: nothing is to hold up the next one."""
    encode = Messages([queue]).encode
    with RawChannel(url) as channel:
        began = time.monotonic()
        for number in range(jobs):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            channel.socket.sendall(encode(time.time_ns().to_bytes(8, "big") + bytes(size - 8)))
