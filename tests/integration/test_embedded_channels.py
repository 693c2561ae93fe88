"""What an operator of the embedded broker sees of its clients' channels, and can do to one."""

from __future__ import annotations

from collections.abc import Iterator

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from hopd.broker.server import Broker


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


@pytest.fixture
def connection(broker: Broker) -> Iterator[pika.BlockingConnection]:
    parameters = pika.URLParameters(broker.url)
    parameters.client_properties = {"connection_name": "a client"}
    with pika.BlockingConnection(parameters) as connection:
        yield connection


def test_open_channels_are_listed_with_their_clients_and_consumers(broker: Broker, connection: pika.BlockingConnection) -> None:
    connection.channel()
    consuming = connection.channel()
    queue = consuming.queue_declare("", exclusive=True).method.queue
    consuming.basic_consume(queue, print)

    assert sorted((each.client, each.consumers) for each in broker.channels()) == [("a client", 0), ("a client", 1)]


def test_a_channel_that_has_the_number_of_another_is_another(broker: Broker, connection: pika.BlockingConnection) -> None:
    before = connection.channel(1)
    (first,) = broker.channels()

    before.close()
    connection.channel(1)

    (second,) = broker.channels()
    assert second.serial != first.serial


def test_a_channel_that_is_closed_gives_back_what_it_had_and_leaves_the_others(broker: Broker, connection: pika.BlockingConnection) -> None:
    other, closed = connection.channel(), connection.channel()
    queue = other.queue_declare("", exclusive=True).method.queue
    other.confirm_delivery()
    other.basic_publish("", queue, b"job")
    assert closed.basic_get(queue)[2] == b"job"
    last = max(broker.channels(), key=lambda channel: channel.serial)

    broker.close_channel(last.serial, "for a test")

    with pytest.raises(ChannelClosedByBroker, match=r"406.*PRECONDITION_FAILED - for a test"):
        closed.basic_qos()
    assert other.basic_get(queue)[2] == b"job"


def test_closing_a_channel_that_is_not_there_is_done_already(broker: Broker, connection: pika.BlockingConnection) -> None:
    broker.close_channel(12345)

    assert connection.channel().is_open
