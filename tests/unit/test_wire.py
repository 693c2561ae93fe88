"""The decoder of what comes in: any split of any frames gives the same events, and garbage is never anything but a `FrameError`."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from hopd.amqp import frames
from hopd.amqp.properties import Properties, PropertiesError, decode
from hopd.amqp.wire import Confirm, Decoder, Delivery, Event, FrameError, MethodFrame, Returned
from tests.support.frame_streams import BODIES, NAMES, TAGS, Described, Item, content, conversations, method


def describe(event: Event) -> Described:
    if isinstance(event, Delivery):
        where = (event.consumer_tag, event.exchange, event.routing_key)
        return ("delivery", event.channel, event.tag, event.redelivered, *where, event.raw_properties, event.body)
    if isinstance(event, MethodFrame):
        return ("method", event.channel, event.data)
    return ("publishing", event)


def raw_of(header: bytes) -> bytes:
    """The encoded properties in a header frame."""
    return header[7 + 12 : -1]


# --- what a broker may say ----------------------------------------------------------------------

PROPERTIES = st.sampled_from(
    [
        spec.BasicProperties(),
        spec.BasicProperties(message_id="7", delivery_mode=2, headers={"a": [1, "b"], "c": {"d": None}}),
        spec.BasicProperties(content_type="x" * 200, timestamp=2**64 - 1),
    ]
)


@st.composite
def deliveries(draw: st.DrawFn, channel: int) -> Item:
    tag, redelivered, consumer, exchange, key = draw(TAGS), draw(st.booleans()), draw(NAMES), draw(NAMES), draw(NAMES)
    body, properties = draw(BODIES), draw(PROPERTIES)
    head = method(channel, spec.Basic.Deliver(consumer, tag, redelivered, exchange, key))
    rest = content(channel, properties, body, draw(st.integers(1, 50)) if len(body) < 100 else 4096)
    return Item((head, *rest), ("delivery", channel, tag, redelivered, consumer, exchange, key, raw_of(rest[0]), body))


@st.composite
def returns(draw: st.DrawFn, channel: int) -> Item:
    exchange, key, body = draw(NAMES), draw(NAMES), draw(BODIES)
    head = method(channel, spec.Basic.Return(312, "NO_ROUTE", exchange, key))
    rest = content(channel, draw(PROPERTIES), body, 4096)
    return Item((head, *rest), ("publishing", Returned(channel, 312, "NO_ROUTE", exchange, key, raw_of(rest[0]))))


@st.composite
def confirms(draw: st.DrawFn, channel: int) -> Item:
    tag, multiple, accepted = draw(TAGS), draw(st.booleans()), draw(st.booleans())
    value = spec.Basic.Ack(tag, multiple) if accepted else spec.Basic.Nack(tag, multiple)
    return Item((method(channel, value),), ("publishing", Confirm(channel, tag, multiple, accepted)))


def others(channel: int) -> st.SearchStrategy[Item]:
    values = [spec.Basic.ConsumeOk("c"), spec.Queue.DeclareOk("q", 1, 2), spec.Channel.CloseOk(), spec.Basic.Cancel("c", True)]
    data = [method(channel, value) for value in values]
    return st.sampled_from([Item((one,), ("method", channel, one)) for one in data])


def items(channel: int) -> st.SearchStrategy[Item]:
    return st.one_of(deliveries(channel), returns(channel), confirms(channel), others(channel))


def fed(pieces: Iterable[bytes]) -> list[Described]:
    decoder = Decoder()
    return [describe(event) for piece in pieces for event in decoder.feed(piece)]


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    return [data[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(data)])]


# --- claims -------------------------------------------------------------------------------------


@given(conversations(items), st.data())
def test_any_split_of_any_frames_gives_the_same_events(conversation: tuple[list[bytes], list[Described]], data: st.DataObject) -> None:
    # Given frames of several channels, and any cuts through their bytes
    stream, events = b"".join(conversation[0]), conversation[1]
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))

    # When they are fed piece by piece, then what comes out is what went in
    assert fed(cut(stream, cuts)) == events


@given(conversations(items))
def test_bytes_that_come_one_at_a_time_give_the_same_events(conversation: tuple[list[bytes], list[Described]]) -> None:
    stream, events = conversation

    assert fed(bytes((byte,)) for byte in b"".join(stream)) == events


def test_a_delivery_that_lies_whole_in_the_buffer_equals_one_that_comes_in_frames() -> None:
    head = method(1, spec.Basic.Deliver("c", 7, True, "hop.exchange", "emails"))
    whole = [head, *content(1, spec.BasicProperties(message_id="7"), b"body", 4096)]

    assert fed([b"".join(whole)]) == fed(whole) != []


HEADERS = st.dictionaries(
    st.text(max_size=10),
    st.recursive(
        st.one_of(st.text(max_size=10), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
SHORT = st.none() | st.text(max_size=60)
PIKA_PROPERTIES = st.builds(
    spec.BasicProperties,
    content_type=SHORT,
    content_encoding=SHORT,
    headers=st.none() | HEADERS,
    delivery_mode=st.none() | st.integers(1, 2),
    priority=st.none() | st.integers(0, 255),
    correlation_id=SHORT,
    reply_to=SHORT,
    expiration=SHORT,
    message_id=SHORT,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=SHORT,
    user_id=SHORT,
    app_id=SHORT,
    cluster_id=SHORT,
)


@given(TAGS, st.booleans(), NAMES, NAMES, NAMES, PIKA_PROPERTIES, st.binary(max_size=50))
def test_a_delivery_is_what_pikas_own_decoder_makes_of_it(
    tag: int, redelivered: bool, consumer: str, exchange: str, key: str, properties: spec.BasicProperties, body: bytes
) -> None:
    # Given a delivery on the wire
    stream = [method(3, spec.Basic.Deliver(consumer, tag, redelivered, exchange, key)), *content(3, properties, body, 4096)]

    # When we and pika decode it
    (ours,) = Decoder().feed(b"".join(stream))
    deliver, header, *bodies = (pika.frame.decode_frame(frame)[1] for frame in stream)

    # Then both have read the same
    assert isinstance(ours, Delivery)
    theirs = deliver.method
    assert (ours.channel, ours.tag, ours.redelivered) == (deliver.channel_number, theirs.delivery_tag, theirs.redelivered)
    assert (ours.consumer_tag, ours.exchange, ours.routing_key) == (theirs.consumer_tag, theirs.exchange, theirs.routing_key)
    assert ours.body == b"".join(each.fragment for each in bodies)
    assert decode(ours.raw_properties) == Properties(**{**vars(header.properties), "headers": header.properties.headers or {}})


# --- bytes that make no sense -------------------------------------------------------------------


def refused_or_read(data: bytes) -> None:
    """All that somebody may ask of what the decoder lets through; raises only for what is neither read nor refused."""
    decoder = Decoder()
    try:
        for event in decoder.feed(data):
            describe(event)
            if isinstance(event, (Delivery, Returned)):
                decode(event.raw_properties)
    except (FrameError, PropertiesError):
        return


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_a_frame_error(data: bytes) -> None:
    refused_or_read(data)


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 8]), st.integers(0, 2), st.binary(max_size=30)), max_size=6), st.data())
def test_frames_full_of_garbage_raise_nothing_but_a_frame_error(frame_list: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    heads = st.sampled_from([b"", b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x32", b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"])
    payloads = [(kind, channel, data.draw(heads) + payload if kind == 1 else payload) for kind, channel, payload in frame_list]

    refused_or_read(b"".join(struct.pack(">BHI", kind, channel, len(raw)) + raw + b"\xce" for kind, channel, raw in payloads))


@given(conversations(items), st.integers(0, 2**32), st.integers(0, 255))
def test_one_wrong_byte_raises_nothing_but_a_frame_error(conversation: tuple[list[bytes], list[Described]], at: int, byte: int) -> None:
    stream = bytearray(b"".join(conversation[0]) or frames.HEARTBEAT)
    stream[at % len(stream)] = byte

    refused_or_read(bytes(stream))


@pytest.mark.parametrize(
    ("why", "data"),
    [
        ("no frame type", b"HTTP/1.1 400 Bad Request"),
        ("another AMQP", b"AMQP\x00\x01\x00\x00"),
        ("no end mark", frames.HEARTBEAT[:-1] + b"\x00"),
        ("a body nobody announced", pika.frame.Body(1, b"x").marshal()),
        ("a header nobody announced", pika.frame.Header(1, 1, spec.BasicProperties()).marshal()),
        ("a method frame without a method", b"\x01\x00\x01\x00\x00\x00\x02\x00\x3c\xce"),
        (
            "a second message before the first one ended",
            method(1, spec.Basic.Deliver("c", 1, False, "", "q")) + method(1, spec.Basic.Deliver("c", 2, False, "", "q")),
        ),
        (
            "more body than announced",
            method(1, spec.Basic.Deliver("c", 1, False, "", "q"))
            + pika.frame.Header(1, 2, spec.BasicProperties()).marshal()
            + pika.frame.Body(1, b"xxx").marshal(),
        ),
    ],
)
def test_what_is_no_amqp_is_refused(why: str, data: bytes) -> None:
    with pytest.raises(FrameError):
        Decoder().feed(data)


def test_another_protocol_version_is_named_as_such() -> None:
    with pytest.raises(FrameError, match="another protocol version"):
        Decoder().feed(b"AMQP\x00\x00\x09\x00")


def test_a_frame_larger_than_agreed_is_refused_with_its_first_eight_bytes() -> None:
    decoder = Decoder(frame_max=4096)

    with pytest.raises(FrameError):
        decoder.feed(struct.pack(">BHI", 3, 1, 4096 - 8 + 1) + b"x")


def test_a_frame_as_large_as_agreed_is_taken() -> None:
    decoder = Decoder(frame_max=4096)
    body = b"x" * (4096 - 8)
    stream = b"".join([method(1, spec.Basic.Deliver("c", 1, False, "", "q")), *content(1, spec.BasicProperties(), body, len(body))])

    events = [event for piece in cut(stream, range(0, len(stream), 100)) for event in decoder.feed(piece)]

    assert [event.body for event in events if isinstance(event, Delivery)] == [body]


def test_a_channel_that_closes_in_the_middle_of_a_message_can_start_another() -> None:
    # Given half a message on a channel, and its close
    half = [method(1, spec.Basic.Deliver("c", 1, False, "", "q")), pika.frame.Header(1, 9, spec.BasicProperties()).marshal()]
    close = method(1, spec.Channel.Close(406, "PRECONDITION_FAILED", 0, 0))

    # When the channel's number is used again
    whole = [method(1, spec.Basic.Deliver("c", 2, False, "", "q")), *content(1, spec.BasicProperties(), b"whole", 4096)]
    events = fed([*half, close, *whole])

    # Then only the whole message is delivered
    assert [event[2] for event in events if event[0] == "delivery"] == [2]
