"""The bench's raw publisher: what it sends, and how it counts the broker's confirms."""

from __future__ import annotations

import struct
from itertools import repeat
from typing import Any

import pytest

from hopd.amqp import frames
from hopd.amqp.properties import Properties, encode
from tests.bench import publish
from tests.bench.publish import BATCH, FRAME_MAX, WINDOW, Messages, RawPublisher
from tests.bench.raw import CHANNEL
from tests.support.clock import Clock


class Broker:
    """A channel whose broker confirms as the test says: a list of (tag, multiple) for each receive."""

    def __init__(self, *confirms: list[tuple[int, bool]]) -> None:
        self.socket: Any = self
        self.writes = 0
        self.confirms = list(confirms)

    def ask(self, _method: object) -> None:
        """There is nothing to answer."""

    def sendall(self, _data: bytes) -> None:
        self.writes += 1

    def receive(self) -> bytes:
        return b"".join(frames.ack(CHANNEL, tag, multiple) for tag, multiple in self.confirms.pop(0))


def publisher(broker: Broker) -> RawPublisher:
    channel: Any = broker
    return RawPublisher(channel, ["bench"])


def test_a_message_is_what_the_library_would_have_made_of_it() -> None:
    messages = Messages(["one", "two"])

    first, second = messages.encode(b"x"), messages.encode(b"y")

    def expected(queue: bytes, number: int, body: bytes) -> bytes:
        properties = encode(Properties(message_id=f"{number:020}", delivery_mode=1))
        return frames.publish(frames.publish_method(CHANNEL, b"", queue), CHANNEL, properties, body, FRAME_MAX)

    assert [first, second] == [expected(b"one", 1, b"x"), expected(b"two", 2, b"y")]


@pytest.mark.parametrize(
    "confirms",
    [
        [[(1, False), (2, False), (3, False)]],
        [[(3, True)]],
        [[(3, False)], [(2, True)]],
        [[(2, False), (3, False)], [(1, False)]],
        [[(2, False)], [(3, True)]],
    ],
    ids=["one by one", "all at once", "a late multiple", "out of order", "a multiple over a single one"],
)
def test_publishing_ends_when_every_message_is_confirmed(confirms: list[list[tuple[int, bool]]]) -> None:
    broker = Broker(*confirms)

    publisher(broker).publish(repeat(b"x", 3))

    assert broker.confirms == []


def test_no_more_than_a_window_is_under_way() -> None:
    # Given a broker that confirms nothing until it is waited for
    broker = Broker([(BATCH, True)], [(WINDOW + BATCH, True)])

    # When one batch more than a window is published
    publisher(broker).publish(repeat(b"x", WINDOW + BATCH))

    # Then the last batch has waited for the first one's confirm
    assert broker.writes == (WINDOW + BATCH) // BATCH
    assert broker.confirms == []


def test_each_message_that_is_sent_is_counted() -> None:
    counted: list[None] = []

    publisher(Broker([(3, True)])).publish(repeat(b"x", 3), lambda: counted.append(None))

    assert len(counted) == 3


def test_jobs_are_paced_and_bear_the_time_of_their_put(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a clock that only sleeping moves on
    sent: list[bytes] = []
    monkeypatch.setattr(publish, "time", Clock(100.0))
    monkeypatch.setattr(publish, "RawChannel", lambda _url: Recorder(sent))

    # When three jobs are put at ten a second
    publish.pace("amqp://", "bench", 3, 100, 10.0)

    # Then each says when that was
    times = [struct.unpack_from(">Q", data, len(data) - 101)[0] / 1e9 for data in sent]
    assert times == pytest.approx([100.0, 100.1, 100.2])


class Recorder:
    """A channel that only keeps what is sent."""

    def __init__(self, sent: list[bytes]) -> None:
        self.socket = self
        self.sendall = sent.append

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is open."""
