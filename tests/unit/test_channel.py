"""A channel against a pika that does what we want it to: races that a real broker shows once in a thousand runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pika.exceptions
import pika.frame
import pytest
from pika import spec

from hopd.amqp.channel import Channel
from hopd.amqp.settlement import Settlement
from hopd.errors import BrokerRefused, BrokerTimeout, ChannelLost
from tests.support.waiting import wait_until


class Pika:
    """A pika channel whose requests the test answers, or not."""

    channel_number = 3

    def __init__(self) -> None:
        self.is_open = True
        self.is_closing = False
        self.is_closed = False
        self.answer: Callable[[Callable[[Any], None]], None] = lambda callback: callback(SimpleNamespace(method=None))
        self.sent: list[str] = []
        self.on_close: Callable[..., None]
        self.on_cancel: Callable[..., None]

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self.on_close = callback

    def add_on_cancel_callback(self, callback: Callable[..., None]) -> None:
        self.on_cancel = callback

    def basic_qos(self, prefetch_count: int, callback: Callable[[Any], None]) -> None:
        self._request("qos")
        self.answer(callback)

    def close(self) -> None:
        if self.is_closing or self.is_closed:
            raise pika.exceptions.ChannelWrongStateError("closing")
        self.is_open, self.is_closing = False, True
        self.sent.append("close")

    def _request(self, name: str) -> None:
        if not self.is_open:
            raise pika.exceptions.ChannelWrongStateError("not open")
        self.sent.append(name)


class Home:
    """The connection."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.forgotten: list[Channel] = []
        self.sent: list[bytes] = []

    def wake(self, settlement: Settlement) -> None:
        """Nobody writes here."""

    def flush_settlements(self) -> None:
        """Nobody writes here."""

    def forget(self, channel: Channel) -> None:
        self.forgotten.append(channel)

    def send(self, frames: bytes) -> None:
        self.sent.append(frames)


@pytest.fixture
def pika_channel() -> Pika:
    return Pika()


@pytest.fixture
def home() -> Home:
    return Home()


@pytest.fixture
def channel(pika_channel: Pika, home: Home) -> Channel:
    return Channel(home, SimpleNamespace(channel=lambda on_open_callback: pika_channel), ack_window=0.0)


def soon() -> float:
    return monotonic() + 5.0


def test_an_answer_that_comes_after_the_channels_end_is_no_error(channel: Channel, pika_channel: Pika) -> None:
    # Given a broker that cancels the consumer just before it answers
    def cancel_first(callback: Callable[[Any], None]) -> None:
        pika_channel.on_cancel(SimpleNamespace(method=SimpleNamespace(consumer_tag="c")))
        callback(SimpleNamespace(method=None))

    pika_channel.answer = cancel_first

    # When we ask, then the channel is lost and the reader lives
    with pytest.raises(ChannelLost, match="cancelled"):
        channel.qos(1, soon())


def test_an_answer_that_comes_too_late_is_no_error(channel: Channel, pika_channel: Pika) -> None:
    # Given a question whose time ran out
    late: list[Callable[[Any], None]] = []
    pika_channel.answer = late.append
    with pytest.raises(BrokerTimeout):
        channel.qos(1, monotonic())

    # When its answer comes after all, then nobody minds
    late[0](SimpleNamespace(method=None))


def test_a_question_to_a_channel_that_closes_is_answered_with_its_loss(channel: Channel, pika_channel: Pika) -> None:
    pika_channel.close()

    with pytest.raises(ChannelLost):
        channel.qos(1, soon())


def test_a_question_to_a_lost_channel_says_why_it_was_lost(channel: Channel, pika_channel: Pika) -> None:
    pika_channel.on_close(pika_channel, pika.exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - unknown delivery tag 7"))

    with pytest.raises(BrokerRefused, match="unknown delivery tag 7"):
        channel.qos(1, soon())


def test_consumers_start_and_stop_without_waiting_for_each_other(channel: Channel, home: Home) -> None:
    for tag in ("one", "two"):
        channel.consume_soon("emails", tag)
    channel.cancel_soon("one")

    sent = [pika.frame.decode_frame(data)[1].method for data in home.sent]
    assert [(type(method), method.consumer_tag, method.nowait) for method in sent] == [
        (spec.Basic.Consume, "one", True),
        (spec.Basic.Consume, "two", True),
        (spec.Basic.Cancel, "one", True),
    ]


def test_a_channel_that_closes_starts_and_stops_nothing(channel: Channel, pika_channel: Pika, home: Home) -> None:
    # Given a channel that is being closed, which ends its consumers
    pika_channel.close()

    channel.consume_soon("emails", "c")
    channel.cancel_soon("c")

    assert home.sent == []


def test_two_may_close_a_channel_at_once(channel: Channel, pika_channel: Pika) -> None:
    # Given one thread that waits for the broker's word
    first = threading.Thread(target=channel.close, args=(soon(),))
    first.start()
    wait_until(lambda: pika_channel.is_closing)

    # When another closes too, and the word comes
    second = threading.Thread(target=channel.close, args=(soon(),))
    second.start()
    pika_channel.on_close(pika_channel, pika.exceptions.ChannelClosedByClient(0, ""))
    first.join(5.0)
    second.join(5.0)

    # Then both return, and the broker was told once
    assert not first.is_alive()
    assert not second.is_alive()
    assert pika_channel.sent == ["close"]


def test_an_abandoned_channel_is_closed_without_waiting(channel: Channel, pika_channel: Pika) -> None:
    channel.settlement.opened(1)

    channel.abandon()

    assert pika_channel.sent == ["close"]
    assert not channel.settlement.ack(1)


def test_abandoning_a_lost_channel_does_nothing(channel: Channel, pika_channel: Pika) -> None:
    pika_channel.on_close(pika_channel, pika.exceptions.ChannelClosedByBroker(404, "NOT_FOUND"))

    channel.abandon()

    assert pika_channel.sent == []


def test_whoever_asks_for_the_end_of_a_lost_channel_hears_of_it_at_once(channel: Channel, pika_channel: Pika) -> None:
    pika_channel.on_close(pika_channel, pika.exceptions.ChannelClosedByBroker(404, "NOT_FOUND"))
    heard: list[Exception] = []

    channel.on_lost(heard.append)

    assert [str(error) for error in heard] == ["NOT_FOUND (404)"]


def test_the_end_of_a_channel_is_told_once(channel: Channel, pika_channel: Pika) -> None:
    heard: list[Exception] = []
    channel.on_lost(heard.append)

    pika_channel.on_cancel(SimpleNamespace(method=SimpleNamespace(consumer_tag="c")))
    pika_channel.on_close(pika_channel, pika.exceptions.ChannelClosedByClient(0, ""))

    assert len(heard) == 1
