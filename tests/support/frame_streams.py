"""Streams of AMQP frames as hypothesis makes them, for the decoders of both ends: made with pika's codec, which is not under test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import pika.frame
from hypothesis import strategies as st
from pika import spec

from hopd.amqp import frames

#: An event in words that can be compared.
Described: TypeAlias = "tuple[Any, ...]"

CHANNELS = (1, 2, 300)
NAMES = st.sampled_from(["", "emails", "\u00fcn\u00efcode", "x" * 255])
TAGS = st.integers(0, 2**64 - 1)
BODIES = st.one_of(st.just(b""), st.binary(max_size=40), st.sampled_from([b"\xce" * 30, b"x" * 5000]))


@dataclass(frozen=True)
class Item:
    """The frames of one thing a peer says on a channel, and the event that the last of them completes."""

    frames: tuple[bytes, ...]
    event: Described | None


def method(channel: int, value: Any) -> bytes:
    """A method frame."""
    return bytes(pika.frame.Method(channel, value).marshal())


def content(channel: int, properties: spec.BasicProperties, body: bytes, frame_size: int) -> list[bytes]:
    """The header frame and the body frames of a message."""
    header = pika.frame.Header(channel, len(body), properties).marshal()
    pieces = (body[start : start + frame_size] for start in range(0, len(body), frame_size))
    return [header, *(pika.frame.Body(channel, piece).marshal() for piece in pieces)]


@st.composite
def conversations(draw: st.DrawFn, items: Callable[[int], st.SearchStrategy[Item]]) -> tuple[list[bytes], list[Described]]:
    """Frames of several channels, interleaved, with heartbeats between them; and the events they amount to, in order.

    `items` makes what is said on a channel.
    """
    queues = [list(_in_order(draw(st.lists(items(channel), max_size=4)))) for channel in CHANNELS]
    queues.append([(frames.HEARTBEAT, None)] * draw(st.integers(0, 3)))
    stream: list[bytes] = []
    events: list[Described] = []
    while queues := [queue for queue in queues if queue]:
        frame, event = draw(st.sampled_from(queues)).pop(0)
        stream.append(frame)
        if event is not None:
            events.append(event)
    return stream, events


def _in_order(of_one_channel: Iterable[Item]) -> Iterator[tuple[bytes, Described | None]]:
    for item in of_one_channel:
        for frame in item.frames[:-1]:
            yield frame, None
        yield item.frames[-1], item.event
