"""What a job costs the embedded broker, as a process of its own with raw clients on the other side:

    python -m tests.bench.broker_speed --jobs 100000

Once transient: put, consumed and acked; once durable: put by a hundred at once, each waiting for its confirm, on a disk that is synced.
"""

from __future__ import annotations

import argparse
import selectors
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pika import spec

from hopd.amqp import frames
from tests.support.process import Process, Processes
from tests.support.raw_client import RawClient
from tests.support.talk import message, method

BODY = bytes(100)
QUEUE = "bench"

#: Jobs that may be under way: so many that nobody waits, so few that the queue stays small.
PREFETCH, AHEAD = 500, 5000

#: Who puts one durable job after the other.
PUTTERS = 100


@dataclass(frozen=True)
class Cost:
    """Jobs per second, and seconds of the broker's CPU for each."""

    rate: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:>8,.0f} jobs/s, {self.cpu * 1e6:5.1f} µs CPU a job"


def start(processes: Processes, *arguments: str) -> tuple[Process, tuple[str, int]]:
    """A broker, and where it serves."""
    broker = processes.hopd("broker", "--listen", "127.0.0.1:0", *arguments)
    port = int(broker.wait_for(r"url=amqp://127\.0\.0\.1:(\d+)").group(1))
    return broker, ("127.0.0.1", port)


def measure(broker: Process, jobs: int, run: Callable[[], None]) -> Cost:
    """What it costs the broker to do that many jobs."""
    cpu, began = broker.cpu(), time.monotonic()
    run()
    return Cost(jobs / (time.monotonic() - began), (broker.cpu() - cpu) / jobs)


def transient(processes: Processes, jobs: int) -> Cost:
    """Put, consume, ack."""
    broker, address = start(processes)
    with RawClient(address).come_in(1) as producer, RawClient(address).come_in(1) as consumer:
        consumer.say(method(1, spec.Queue.Declare(queue=QUEUE)), method(1, spec.Basic.Qos(prefetch_count=PREFETCH)))
        consumer.say(method(1, spec.Basic.Consume(queue=QUEUE, consumer_tag="c")))
        consumer.hear(spec.Basic.ConsumeOk)
        return measure(broker, jobs, lambda: _through(producer, consumer, jobs))


def _through(producer: RawClient, consumer: RawClient, jobs: int) -> None:
    # What is delivered is not decoded but counted: all deliveries are of one size.
    content = message(1, BODY)[len(method(1, spec.Basic.Publish())) :]
    delivery = len(method(1, spec.Basic.Deliver("c", 1, False, "", QUEUE))) + len(content)
    room = threading.Semaphore(AHEAD // 100)

    def put() -> None:
        hundred = message(1, BODY, routing_key=QUEUE) * 100
        for _ in range(jobs // 100):
            room.acquire()
            producer.say(hundred)

    putting = threading.Thread(target=put)
    putting.start()
    done = rest = 0
    while done < jobs:
        received, rest = divmod(rest + len(consumer.socket.recv(1 << 17)), delivery)
        if received:
            done += received
            consumer.say(frames.ack(1, done, True))
            for _ in range(done // 100 - (done - received) // 100):
                room.release()
    putting.join()


def durable(processes: Processes, jobs: int, store: Path) -> Cost:
    """Put by many, each waiting for its confirm."""
    broker, address = start(processes, "--store", str(store))
    putters = [RawClient(address).come_in(1) for _ in range(PUTTERS)]
    try:
        for putter in putters:
            putter.say(method(1, spec.Queue.Declare(queue=QUEUE, durable=True)), method(1, spec.Confirm.Select()))
            putter.hear(spec.Confirm.SelectOk)
        return measure(broker, jobs, lambda: _confirmed(putters, jobs))
    finally:
        for putter in putters:
            putter.socket.close()


def _confirmed(putters: list[RawClient], jobs: int) -> None:
    job = message(1, BODY, routing_key=QUEUE, properties=spec.BasicProperties(delivery_mode=2))
    with selectors.DefaultSelector() as selector:
        for putter in putters:
            selector.register(putter.socket, selectors.EVENT_READ, putter)
            putter.say(job)
        put, confirmed = len(putters), 0
        while confirmed < jobs:
            for key, _ in selector.select():
                key.data.socket.recv(100)  # one confirm
                confirmed += 1
                if put < jobs:
                    key.data.say(job)
                    put += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="how many jobs, in hundreds (default: 100000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hopd-bench-") as directory:
        processes = Processes(Path(directory))
        try:
            print(f"put, consume, ack:      {transient(processes, options.jobs)}")
            print(f"put durable, confirmed: {durable(processes, options.jobs, Path(directory, 'store'))}")
        finally:
            processes.end()


if __name__ == "__main__":
    main()
