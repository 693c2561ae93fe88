"""The broker's decoder: any split of any frames gives the same events, and garbage is never anything but a connection error."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from hopd.amqp import frames
from hopd.broker import methods as m
from hopd.broker.inbound import ACK, MAX_BODY, NACK, REJECT, Command, Event, Inbound, Publish, Settle, TooLarge
from hopd.broker.refusal import Code, Refused
from tests.support.frame_streams import BODIES, NAMES, TAGS, Described, Item, content, conversations, method

PROPERTIES = st.sampled_from(
    [
        spec.BasicProperties(),
        spec.BasicProperties(message_id="7", delivery_mode=2, headers={"a": [1, "b"], "c": {"d": None}}),
        spec.BasicProperties(content_type="x" * 200, timestamp=2**64 - 1),
    ]
)


def describe(event: Event) -> Described:
    if isinstance(event, Publish):
        to = event.target
        return ("publish", event.channel, to.exchange, to.routing_key, to.mandatory, to.immediate, event.properties, event.body)
    if isinstance(event, Settle):
        return ("settle", event.channel, event.kind, event.tag, event.bits)
    if isinstance(event, Command):
        return ("command", event.channel, event.class_id, event.method_id, event.method)
    return ("too large", event.channel)


# --- what a client may say ------------------------------------------------------------------------


@st.composite
def publishings(draw: st.DrawFn, channel: int) -> Item:
    exchange, key, mandatory, immediate = draw(NAMES), draw(NAMES), draw(st.booleans()), draw(st.booleans())
    body = draw(BODIES)
    head = method(channel, spec.Basic.Publish(0, exchange, key, mandatory, immediate))
    rest = content(channel, draw(PROPERTIES), body, draw(st.integers(1, 50)) if len(body) < 100 else 4096)
    return Item((head, *rest), ("publish", channel, exchange, key, mandatory, immediate, rest[0][7 + 12 : -1], body))


@st.composite
def settlings(draw: st.DrawFn, channel: int) -> Item:
    tag, one, two = draw(TAGS), draw(st.booleans()), draw(st.booleans())
    value, kind, bits = draw(
        st.sampled_from(
            [
                (spec.Basic.Ack(tag, one), ACK, int(one)),
                (spec.Basic.Reject(tag, one), REJECT, int(one)),
                (spec.Basic.Nack(tag, one, two), NACK, one + 2 * two),
            ]
        )
    )
    return Item((method(channel, value),), ("settle", channel, kind, tag, bits))


def commands(channel: int) -> st.SearchStrategy[Item]:
    values: list[tuple[Any, tuple[int, int], m.Method]] = [
        (spec.Queue.Declare(queue="q", durable=True), (50, 10), m.QueueDeclare("q", False, True, False, False, False, {})),
        (spec.Basic.Qos(0, 7, False), (60, 10), m.Qos(0, 7, False)),
        (spec.Channel.CloseOk(), (20, 41), m.ChannelCloseOk()),
    ]
    return st.sampled_from([Item((method(channel, theirs),), ("command", channel, *number, ours)) for theirs, number, ours in values])


def items(channel: int) -> st.SearchStrategy[Item]:
    return st.one_of(publishings(channel), settlings(channel), commands(channel))


def fed(pieces: Iterable[bytes]) -> list[Described]:
    inbound = Inbound()
    return [describe(event) for piece in pieces for event in inbound.feed(piece)]


def cut(stream: bytes, at: Iterable[int]) -> list[bytes]:
    """The stream in pieces, cut at these places (modulo its length)."""
    places = sorted({place % (len(stream) + 1) for place in at} | {0, len(stream)})
    return [stream[start:stop] for start, stop in pairwise(places)]


@given(conversations(items))
def test_what_a_client_says_is_understood(conversation: tuple[list[bytes], list[Described]]) -> None:
    stream, events = conversation

    assert fed([b"".join(stream)]) == events


@given(conversations(items), st.lists(st.integers(0, 2**32), max_size=8))
def test_any_split_of_any_frames_gives_the_same_events(conversation: tuple[list[bytes], list[Described]], at: list[int]) -> None:
    stream, events = conversation

    assert fed(cut(b"".join(stream), at)) == events


@given(conversations(items))
def test_byte_by_byte_gives_the_same_events(conversation: tuple[list[bytes], list[Described]]) -> None:
    stream, events = conversation
    whole = b"".join(stream)[:2000]

    assert fed(whole[at : at + 1] for at in range(len(whole))) == fed([whole])
    assert events[: len(fed([whole]))] == fed([whole])


# --- what no client may say -----------------------------------------------------------------------


def read(inbound: Inbound, pieces: Iterable[bytes]) -> tuple[list[Described], Refused | None]:
    """The events, and the refusal at their end."""
    events: list[Described] = []
    try:
        for piece in pieces:
            events.extend(map(describe, inbound.feed(piece)))
    except Refused as refused:
        return events, refused
    return events, None


@given(st.binary(max_size=200))
def test_garbage_is_a_connection_error_or_nothing(data: bytes) -> None:
    _, refused = read(Inbound(), [data])

    assert refused is None or refused.hard


_HEADS = st.sampled_from([b"", b"\x00\x3c\x00\x28", b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78", b"\x00\x32\x00\x0a", b"\x00\x0a\x00\x0b"])


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 8]), st.integers(0, 2), _HEADS, st.binary(max_size=30)), max_size=6),
    st.lists(st.integers(0, 2**32), max_size=4),
)
def test_frames_full_of_garbage_end_the_same_however_they_are_split(frame_list: list[tuple[int, int, bytes, bytes]], at: list[int]) -> None:
    payloads = [(kind, channel, head + rest if kind == 1 else rest) for kind, channel, head, rest in frame_list]
    stream = b"".join(struct.pack(">BHI", kind, channel, len(raw)) + raw + b"\xce" for kind, channel, raw in payloads)

    events, refused = read(Inbound(), [stream])
    in_parts, refused_in_parts = read(Inbound(), cut(stream, at))

    assert (in_parts, refused_in_parts and refused_in_parts.text) == (events, refused and refused.text)


@given(conversations(items), st.integers(0, 2**32), st.integers(0, 255), st.lists(st.integers(0, 2**32), max_size=4))
def test_one_wrong_byte_ends_the_same_however_it_is_split(
    conversation: tuple[list[bytes], list[Described]], at: int, byte: int, cuts: list[int]
) -> None:
    stream = bytearray(b"".join(conversation[0]) or frames.HEARTBEAT)
    stream[at % len(stream)] = byte

    events, refused = read(Inbound(), [bytes(stream)])
    in_parts, refused_in_parts = read(Inbound(), cut(bytes(stream), cuts))

    # Its code may differ: of several things that are wrong with a frame, what is wrong with its head is seen first when only that has come.
    assert (in_parts, refused_in_parts is None) == (events, refused is None)


PUBLISH = method(1, spec.Basic.Publish(0, "", "q"))
HEADER = pika.frame.Header(1, 3, spec.BasicProperties()).marshal()
OTHER_CLASS = HEADER[:8] + b"\x3d" + HEADER[9:]


@pytest.mark.parametrize(
    ("why", "data", "code"),
    [
        ("no frame type", b"HTTP/1.1 400 Bad Request", Code.FRAME_ERROR),
        ("a frame type nobody knows", b"\x05\0\x01\0\0\0\x02\0\x3c\xce", Code.FRAME_ERROR),
        ("no end mark", frames.HEARTBEAT[:-1] + b"\x00", Code.FRAME_ERROR),
        ("a heartbeat that says something", b"\x08\0\0\0\0\0\x01x\xce", Code.FRAME_ERROR),
        ("a heartbeat on a channel", b"\x08\0\x01\0\0\0\0\xce", Code.UNEXPECTED_FRAME),
        ("a body nobody announced", pika.frame.Body(1, b"x").marshal(), Code.UNEXPECTED_FRAME),
        ("a header nobody announced", HEADER, Code.UNEXPECTED_FRAME),
        ("a method frame without a method", b"\x01\x00\x01\x00\x00\x00\x02\x00\x3c\xce", Code.FRAME_ERROR),
        ("a message in a message", PUBLISH + PUBLISH, Code.UNEXPECTED_FRAME),
        ("a method in a message", PUBLISH + HEADER + method(1, spec.Basic.Qos()), Code.UNEXPECTED_FRAME),
        ("a second header", PUBLISH + HEADER + HEADER, Code.UNEXPECTED_FRAME),
        ("a body before its header", PUBLISH + pika.frame.Body(1, b"x").marshal(), Code.UNEXPECTED_FRAME),
        ("a header of another class", PUBLISH + OTHER_CLASS, Code.UNEXPECTED_FRAME),
        ("more body than announced", PUBLISH + HEADER + pika.frame.Body(1, b"xxxx").marshal(), Code.FRAME_ERROR),
        ("an ack without its tag", b"\x01\0\x01\0\0\0\x04\0\x3c\0\x50\xce", Code.FRAME_ERROR),
        ("a publish that is cut", b"\x01\0\x01\0\0\0\x06\0\x3c\0\x28\0\0\xce" + HEADER, Code.FRAME_ERROR),
        ("a header that is cut", PUBLISH + b"\x02\0\x01\0\0\0\x02\0\x3c\xce", Code.FRAME_ERROR),
        ("a method nobody knows", b"\x01\0\x01\0\0\0\x04\0\x3c\0\xff\xce", Code.NOT_IMPLEMENTED),
    ],
)
def test_what_is_no_amqp_ends_the_connection_with_rabbitmqs_code(why: str, data: bytes, code: Code) -> None:
    with pytest.raises(Refused) as caught:
        list(Inbound().feed(data))

    assert caught.value.code == code


def test_what_came_before_the_error_is_told_first() -> None:
    events, refused = read(Inbound(), [method(1, spec.Basic.Ack(7)) + b"garbage!"])

    assert events == [("settle", 1, ACK, 7, 0)]
    assert refused is not None
    assert refused.code == Code.FRAME_ERROR


def test_a_frame_larger_than_agreed_is_refused_before_it_has_come() -> None:
    inbound = Inbound(frame_max=4096)

    with pytest.raises(Refused, match=r"frame_too_large,4097,4088"):
        list(inbound.feed(struct.pack(">BHI", 3, 1, 4097) + b"x"))


@pytest.mark.parametrize("size", [4088, 4096], ids=["as agreed", "by a client that forgets the frame's own eight bytes"])
def test_a_frame_as_large_as_agreed_is_taken(size: int) -> None:
    inbound = Inbound(frame_max=4096)
    stream = b"".join([PUBLISH, *content(1, spec.BasicProperties(), b"x" * size, size)])

    events = [event for piece in cut(stream, range(0, len(stream), 100)) for event in inbound.feed(piece)]

    assert [len(event.body) for event in events if isinstance(event, Publish)] == [size]


@pytest.mark.parametrize("pieces", [1, 50], ids=["whole", "cut"])
def test_a_body_frame_larger_than_agreed_is_refused_however_it_comes(pieces: int) -> None:
    inbound = Inbound(frame_max=4096)
    stream = b"".join([PUBLISH, *content(1, spec.BasicProperties(), b"x" * 5000, 5000)])

    events, refused = read(inbound, cut(stream, range(0, len(stream), len(stream) // pieces)))

    assert events == []
    assert refused is not None
    assert "frame_too_large,5000,4088" in refused.text


# --- channels that are not listened to --------------------------------------------------------------


def test_what_comes_on_a_channel_the_broker_has_closed_is_dropped() -> None:
    inbound = Inbound()
    inbound.ignore(1)
    message = [PUBLISH, *content(1, spec.BasicProperties(), b"xxx", 4096)]
    said = [*message, PUBLISH, method(1, spec.Basic.Ack(1)), HEADER, method(1, spec.Queue.Declare(queue="q"))]

    events = [describe(event) for event in inbound.feed(b"".join([*said, method(1, spec.Channel.CloseOk())]))]

    assert events == [("command", 1, 20, 41, m.ChannelCloseOk())]


def test_a_channel_closed_in_the_middle_of_a_message_can_start_another() -> None:
    inbound = Inbound()
    list(inbound.feed(PUBLISH + HEADER))
    inbound.ignore(1)
    list(inbound.feed(method(1, spec.Channel.CloseOk())))
    inbound.heed(1)

    events = list(inbound.feed(b"".join([PUBLISH, *content(1, spec.BasicProperties(), b"whole", 4096)])))

    assert [event.body for event in events if isinstance(event, Publish)] == [b"whole"]


def test_other_channels_are_heard_meanwhile() -> None:
    inbound = Inbound()
    inbound.ignore(1)

    assert [describe(event) for event in inbound.feed(method(2, spec.Basic.Ack(7)))] == [("settle", 2, ACK, 7, 0)]


def test_a_message_that_announces_too_much_is_refused_at_once_and_dropped() -> None:
    inbound = Inbound()
    header = struct.pack(">BHIHHQ", 2, 1, 14, 60, 0, MAX_BODY + 1) + b"\0\0\xce"

    (event,) = inbound.feed(PUBLISH + header + pika.frame.Body(1, b"x").marshal())

    assert isinstance(event, TooLarge)
    assert event.refused.text == f"PRECONDITION_FAILED - message size {MAX_BODY + 1} is larger than configured max size {MAX_BODY}"
    assert not event.refused.hard
