"""Does the embedded broker keep a million messages on the disk, and start with them?

    python -m tests.bench.broker_million --messages 1000000 --size 100

They are put, confirmed; then the broker is killed and started again, and they are taken. Ends with 1 when it took too long or too much.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pika

from hopd import Message, WorkQueue
from tests.support.broker_process import BrokerProcess
from tests.support.process import Processes

#: What is asked of it: bytes of resident memory, at any time, and seconds until it serves, with what its interpreter needs.
MAX_MEMORY, MAX_START = 300 * 1000**2, 2.0

TOPIC = "many"

#: Messages between two looks at the broker's memory, and what the consumer may hold.
STRIDE, PREFETCH = 10_000, 1000


@dataclass(frozen=True)
class Result:
    """Times in seconds; memory in bytes: the most while messages were put, that of a broker started with them, the most after that."""

    messages: int
    put: float
    start: float
    taken: float
    memory_put: int
    memory_started: int
    memory_taken: int
    file: int

    @property
    def memory(self) -> int:
        return max(self.memory_put, self.memory_started, self.memory_taken)

    def __str__(self) -> str:
        return (
            f"put:   {self.messages / self.put:>8,.0f} messages/s, confirmed; memory up to {_mb(self.memory_put)}, file {_mb(self.file)}\n"
            f"start: {self.start:>8.2f} s; memory {_mb(self.memory_started)}\n"
            f"taken: {self.messages / self.taken:>8,.0f} messages/s; memory up to {_mb(self.memory_taken)}"
        )


def _mb(size: int) -> str:
    return f"{size / 1000**2:.0f} MB"


def body(number: int, size: int) -> bytes:
    """What the message of that number holds."""
    return number.to_bytes(8, "big") + bytes(max(0, size - 8))


def measure(directory: Path, messages: int, size: int) -> Result:
    """One run with a broker of its own in `directory`. AssertionError when a message is lost, changed or out of order."""
    store = directory / "hopd.store"
    with _processes(directory) as processes:
        broker = BrokerProcess(processes, store)
        put, memory_put = _timed(broker, _put(broker.url, messages, size))
        file = store.stat().st_size
        began = time.monotonic()
        broker.kill()
        start, memory_started = time.monotonic() - began, broker.process.memory()
        taken, memory_taken = _timed(broker, _take(broker.url, messages, size))
    return Result(messages, put, start, taken, memory_put, memory_started, memory_taken, file)


@contextmanager
def _processes(directory: Path) -> Iterator[Processes]:
    processes = Processes(directory)
    try:
        yield processes
    finally:
        processes.end()


def _timed(broker: BrokerProcess, steps: Iterator[None]) -> tuple[float, int]:
    """How long it took, and the most memory that the broker had meanwhile."""
    began, memory = time.monotonic(), 0
    for _ in steps:
        memory = max(memory, broker.process.memory())
    return time.monotonic() - began, memory


def _put(url: str, messages: int, size: int) -> Iterator[None]:
    with WorkQueue(url) as queue:
        topic = queue.get_topic(TOPIC)
        for first in range(0, messages, STRIDE):
            topic.put_many(Message(body(number, size)) for number in range(first, min(first + STRIDE, messages)))
            yield


def _take(url: str, messages: int, size: int) -> Iterator[None]:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        for number, (method, _properties, content) in zip(range(messages), channel.consume(TOPIC), strict=False):
            assert content == body(number, size), f"message {number} is not the next one"
            last = number + 1 == messages
            if last or number % (PREFETCH // 2) == 0:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if last or number % STRIDE == 0:
                yield
        assert channel.queue_declare(TOPIC, passive=True).method.message_count == 0
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many messages (default: 1000000)")
    parser.add_argument("--size", type=int, default=100, help="bytes in each (default: 100)")
    options = parser.parse_args()
    print(f"{options.messages:,} persistent messages of {options.size:,} bytes")
    with tempfile.TemporaryDirectory(prefix="hopd-bench-") as directory:
        result = measure(Path(directory), options.messages, options.size)
    print(result)
    return 0 if result.memory < MAX_MEMORY and result.start < MAX_START else 1


if __name__ == "__main__":
    sys.exit(main())
