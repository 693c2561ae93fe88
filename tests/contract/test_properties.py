"""Properties and headers come back byte for byte."""

from __future__ import annotations

import struct

import pytest
from pika import spec

from hopd.amqp import properties
from hopd.amqp.properties import Properties
from hopd.amqp.table import decode_table
from tests.contract.client import Client, take
from tests.contract.wire import Wire


def long_text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def table(*fields: tuple[bytes, bytes, bytes]) -> bytes:
    """A field table of names, type marks and values."""
    return long_text(b"".join(bytes((len(name),)) + name + mark + value for name, mark, value in fields))


#: A value of every type that RabbitMQ knows.
EVERY_TYPE = table(
    (b"byte", b"b", struct.pack(">b", -5)),
    (b"unsigned byte", b"B", b"\xfe"),
    (b"short", b"s", struct.pack(">h", -1234)),
    (b"unsigned short", b"u", struct.pack(">H", 65000)),
    (b"int", b"I", struct.pack(">i", -70000)),
    (b"unsigned int", b"i", struct.pack(">I", 4_000_000_000)),
    (b"long", b"l", struct.pack(">q", -(2**62))),
    (b"float", b"f", struct.pack(">f", 1.5)),
    (b"double", b"d", struct.pack(">d", 3.14159)),
    (b"true", b"t", b"\1"),
    (b"false", b"t", b"\0"),
    (b"decimal", b"D", b"\2" + struct.pack(">i", 12345)),
    (b"time", b"T", struct.pack(">Q", 1_700_000_000)),
    (b"late time", b"T", b"\xff" * 8),
    (b"text", b"S", long_text("größer ☃".encode())),
    (b"not utf-8", b"S", long_text(b"\xff\xfe\x00")),
    (b"bytes", b"x", long_text(b"\x00\xce\xff")),
    (b"nothing", b"V", b""),
    (b"empty table", b"F", table()),
    (b"table", b"F", table((b"a", b"I", struct.pack(">i", 1)), (b"b", b"F", table((b"c", b"V", b""))))),
    (b"list", b"A", long_text(b"t\1" + b"S" + long_text(b"x") + b"A" + long_text(b"V"))),
    (b"empty list", b"A", long_text(b"")),
    (b"x" * 128, b"t", b"\1"),
    (b"", b"t", b"\1"),
)

#: The flag of the headers, alone.
HEADERS = struct.pack(">H", 1 << 13)

EVERY_PROPERTY = Properties(
    content_type="text/plain",
    content_encoding="utf-8",
    headers={"a": 1},
    delivery_mode=1,
    priority=255,
    correlation_id="c" * 255,
    reply_to="somewhere",
    expiration="60000",
    message_id="größe",
    timestamp=2**63,
    type="",
    user_id="guest",
    app_id="an app",
    cluster_id="a cluster",
)

RAW = {
    "no properties": b"\0\0",
    "every property": properties.encode(EVERY_PROPERTY),
    "every type of header": HEADERS + EVERY_TYPE,
    "no headers in a table": HEADERS + table(),
    "the same header twice": HEADERS + table((b"a", b"t", b"\1"), (b"a", b"t", b"\0")),
    **{
        f"only {name}": properties.encode(Properties(**{name: getattr(EVERY_PROPERTY, name)}))
        for name in ("content_type", "priority", "timestamp", "cluster_id", "type", "delivery_mode")
    },
}


def encoded(properties: bytes) -> dict[str | bytes, bytes]:
    """The headers, each with its type as it was on the wire: there are several for one number, and some clients tell them apart."""
    encodings: dict[str | bytes, bytes] = {}
    decode_table(properties, 2, encodings=encodings)
    return encodings


@pytest.mark.parametrize("what", RAW)
def test_properties_come_back_byte_for_byte(client: Client, wire: Wire, what: str) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)

    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"body", RAW[what])

    wire.expect(spec.Basic.Ack, 1)
    wire.send(1, spec.Basic.Get(queue=queue))
    got = wire.expect_message(spec.Basic.GetOk)
    assert (got.raw_properties, got.body) == (RAW[what], b"body")


@pytest.mark.parametrize("what", RAW)
def test_properties_are_delivered_byte_for_byte(client: Client, wire: Wire, what: str) -> None:
    queue = client.queue(shared=True, durable=True)
    wire.open()
    wire.ask(1, spec.Basic.Consume(queue=queue, no_ack=True), spec.Basic.ConsumeOk)

    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"body", RAW[what])

    assert wire.expect_message(spec.Basic.Deliver).raw_properties == RAW[what]


def test_a_dead_lettered_message_keeps_the_headers_of_every_type(client: Client, wire: Wire) -> None:
    graveyard = client.queue(shared=True)
    queue = client.queue({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard, "x-message-ttl": 0}, shared=True)
    wire.open()
    wire.ask(1, spec.Basic.Consume(queue=graveyard, no_ack=True), spec.Basic.ConsumeOk)

    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"body", HEADERS + EVERY_TYPE)

    headers = encoded(wire.expect_message(spec.Basic.Deliver).raw_properties)
    assert {name: value for name, value in headers.items() if not str(name).startswith("x-")} == encoded(HEADERS + EVERY_TYPE)
    assert b"\x05countl" in headers["x-death"]


def test_a_counted_message_keeps_the_headers_of_every_type(client: Client, wire: Wire) -> None:
    queue = client.quorum_queue()
    wire.open()
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"body", HEADERS + EVERY_TYPE)
    wire.expect(spec.Basic.Ack, 1)

    wire.send(1, spec.Basic.Get(queue=queue))

    headers = encoded(wire.expect_message(spec.Basic.GetOk).raw_properties)
    assert headers == {**encoded(HEADERS + EVERY_TYPE), "x-delivery-count": b"l" + bytes(8)}


def test_a_returned_message_has_its_properties(wire: Wire) -> None:
    wire.open()

    wire.publish(1, spec.Basic.Publish(routing_key="nobody", mandatory=True), b"body", RAW["every property"])

    assert wire.expect_message(spec.Basic.Return).raw_properties == RAW["every property"]


BROKEN = {
    "a text that runs past the end": struct.pack(">H", 1 << 15) + b"\xffabc",
    "a table that runs past the end": HEADERS + struct.pack(">I", 100) + b"\1at\1",
    "bytes left over": b"\0\0abc",
    "a property cut short": struct.pack(">H", 1 << 6) + b"\0\0",
}


@pytest.mark.parametrize("what", BROKEN)
def test_properties_that_make_no_sense_end_the_connection(wire: Wire, what: str) -> None:
    wire.open()

    wire.publish(1, spec.Basic.Publish(routing_key="anywhere"), b"body", BROKEN[what])

    close = wire.read_to_end()
    assert close is not None
    assert close.reply_code in (501, 541)  # RabbitMQ calls it an error of its own


def test_the_longest_routing_key_comes_back(client: Client) -> None:
    exchange, key = client.exchange("topic"), "k" * 255
    queue = client.bound(exchange, "#")

    client.channel.basic_publish(exchange, key, b"0")

    assert take(client.channel, queue).routing_key == key
