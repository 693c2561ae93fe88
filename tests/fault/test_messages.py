"""Messages with the strangest properties, and very large ones: handled or buried, and never a lost connection."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import pytest

from hopd import WorkQueue
from hopd.amqp import frames
from tests.support.daemon import OVER, Daemon, handler, put_on, wait_empty
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.private_node import PrivateNode
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: The first word of a message's properties says which there are.
HEADERS, TIMESTAMP = 0x2000, 0x0040


def table(*fields: tuple[bytes, bytes]) -> bytes:
    """An AMQP table of names and typed values as they are."""
    content = b"".join(bytes([len(name)]) + name + value for name, value in fields)
    return struct.pack(">I", len(content)) + content


def with_headers(*fields: tuple[bytes, bytes]) -> bytes:
    return struct.pack(">H", HEADERS) + table(*fields)


def nested(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"F" + table((b"x", value))
    return with_headers((b"x", value))


#: Raw properties of messages, none of which hopd or any decent client would send. What is no finite number is not among them:
#: RabbitMQ itself refuses it.
STRANGE: Mapping[str, bytes] = {
    "no properties": b"\x00\x00",
    "a timestamp header in milliseconds": with_headers((b"at", b"T" + struct.pack(">Q", 1_700_000_000_000))),
    "a timestamp header of 2^64-1": with_headers((b"at", b"T" + b"\xff" * 8)),
    "a timestamp of 2^64-1": struct.pack(">H", TIMESTAMP) + b"\xff" * 8,
    "an integer of 2^64-1": with_headers((b"n", b"l" + b"\xff" * 8)),
    "a key that is not UTF-8": with_headers((b"\xff\xfe", b"t\x01")),
    "a text that is not UTF-8": with_headers((b"text", b"S\x00\x00\x00\x02\xff\xfe")),
    "tables nested ten deep": nested(10),
    "tables nested a thousand deep": nested(1000),
    "the same key twice": with_headers((b"x", b"t\x01"), (b"x", b"t\x00")),
    "hopd's own headers with nonsense in them": with_headers(
        (b"hop-attempts", b"S\x00\x00\x00\x04many"), (b"hop-due-at", b"t\x01"), (b"hop-delay", b"V"), (b"x-delivery-count", b"F" + table())
    ),
    "attempts below zero": with_headers((b"hop-attempts", b"l" + b"\xff" * 8)),
}


def send_raw(queue: WorkQueue, topic: str, properties: bytes, body: bytes) -> None:
    """Publish a message with properties that no encoder of ours would write."""
    deadline = monotonic() + 20
    connection = queue.publishing.connection(deadline)
    channel = connection.channel(deadline, ack_window=0.0)
    method = frames.publish_method(channel.number, queue.exchange.encode(), topic.encode())
    with connection.lock:
        connection.send(frames.publish(method, channel.number, properties, body, connection.frame_max))
    channel.close(deadline)


def over(daemon: Daemon, topic: str) -> int:
    """How many jobs of the topic are settled for good."""
    status = daemon.topic(topic)
    return sum(status[counter] for counter in OVER)


@pytest.mark.parametrize("retry", [None, {"max_attempts": 2, "first": "100ms"}], ids=["tried once", "tried again"])
def test_no_message_however_strange_costs_the_connection(
    processes: Processes, tmp_path: Path, broker: NodeControl, topic_name: str, retry: object
) -> None:
    other = f"{topic_name}.other"
    topics = {topic_name: {"handler": "tests.fault.handlers:look", "retry": retry}, other: handler("record")}
    daemon = Daemon(processes, tmp_path, broker.url, topics).wait_consuming()

    with work_queue(broker.url) as queue:
        for properties in STRANGE.values():
            send_raw(queue, topic_name, properties, b"body")
            send_raw(queue, topic_name, properties, b"")
        put_on(queue, daemon.ledger, other, 20)
    wait_until(lambda: over(daemon, topic_name) >= 2 * len(STRANGE), 60, "every message came to an end")

    wait_empty(broker, topic_name, other)
    assert over(daemon, topic_name) == 2 * len(STRANGE)
    assert daemon.topic(topic_name)["done"] > daemon.topic(topic_name)["buried"] > 0
    assert not daemon.ledger.lost()
    assert not daemon.events("broker_lost")


LARGE = 100 * 1000 * 1000

#: The body as it comes in, and the body as it is handed to the handler; the rest of a daemon is small. Bytes.
AT_MOST = 2.2 * LARGE


def peak(daemon: Daemon) -> int:
    """The most memory its process has had. Bytes."""
    (line,) = [line for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_body_of_a_hundred_megabytes_takes_little_more_memory_than_it_is_large(
    own_node: PrivateNode, processes: Processes, tmp_path: Path
) -> None:
    daemon = Daemon(processes, tmp_path, own_node.url, {"large": handler("record")}).wait_consuming()
    before = daemon.process.memory()

    with work_queue(own_node.url, put_timeout=60) as queue:
        put_on(queue, daemon.ledger, "large", 1, b"x" * LARGE)
    daemon.wait_count("large", "done", 1)

    assert not daemon.ledger.lost()
    assert peak(daemon) - before < AT_MOST
    wait_until(lambda: daemon.process.memory() - before < LARGE / 10, 30, "the memory is given back")
