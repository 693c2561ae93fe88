"""What outlives the broker, whether it was stopped or crashed. It ends once for all claims: that takes RabbitMQ seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pika.exceptions import AMQPConnectionError, ConnectionClosedByBroker, StreamLostError

from tests.contract.client import PATIENCE, Channel, Client, get_all, publish, put, refused, take, wait_ready
from tests.support.node import OwnNode

LIMITS = {"x-max-length": 2, "x-max-priority": 5}


@dataclass
class World:
    """What there was before the broker ended, what it said at its end, and a channel to look at what there is."""

    channel: Channel
    queue: str
    transient: str
    limited: str
    quorum: str
    expiring: str
    graveyard: str
    source: str
    bound: str
    fleeting_exchange: str
    end: str = ""
    said: BaseException | None = None

    def open(self) -> Channel:
        """Another channel, to be closed by the broker."""
        return self.channel.connection.channel()


@pytest.fixture(scope="module", params=["stop", "kill"])
def world(request: pytest.FixtureRequest, own_broker: OwnNode) -> Iterator[World]:
    with Client(own_broker.url) as before:
        world = build(before)
        world.end = request.param
        getattr(own_broker, world.end)()
        with pytest.raises(AMQPConnectionError) as caught:
            before.connection.process_data_events(PATIENCE)
        world.said = caught.value
        own_broker.start()
        own_broker.wait_ready()
        with Client(own_broker.url) as after:
            world.channel = after.channel
            yield world


def build(client: Client) -> World:
    channel, graveyard = client.channel, client.queue(shared=True, durable=True)
    world = World(
        channel,
        queue=client.queue(shared=True, durable=True),
        transient=client.queue(shared=True),
        limited=client.queue(LIMITS, shared=True, durable=True),
        quorum=client.quorum_queue(),
        expiring=client.queue({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard}, shared=True, durable=True),
        graveyard=graveyard,
        source=client.exchange("topic", durable=True),
        bound=client.queue(shared=True, durable=True),
        fleeting_exchange=client.exchange("fanout"),
    )
    target = client.exchange("headers", durable=True)
    channel.queue_bind(world.bound, target, "", {"x-match": "all", "a": 1})
    channel.exchange_bind(target, world.source, "a.*")
    put(channel, world.queue, b"0", b"1", b"2", delivery_mode=2, headers={"mine": 1})
    put(channel, world.queue, b"not persistent", delivery_mode=1)
    put(channel, world.transient, b"in no durable queue", delivery_mode=2)
    put(channel, world.limited, b"low", delivery_mode=2, priority=1)
    put(channel, world.limited, b"high", delivery_mode=2, priority=4)
    put(channel, world.quorum, b"0", b"1")
    put(channel, world.expiring, b"late", delivery_mode=2, expiration="300")
    for queue in (world.queue, world.quorum):
        take(channel, queue)
    return world


def test_a_broker_says_that_it_stops_but_not_that_it_crashes(world: World) -> None:
    if world.end == "stop":
        assert isinstance(world.said, ConnectionClosedByBroker)
        assert world.said.reply_code == 320
    else:
        assert isinstance(world.said, StreamLostError)


def test_persistent_messages_of_durable_queues_are_still_there_and_nothing_else(world: World) -> None:
    given = [take(world.channel, world.queue, auto_ack=True) for _ in range(3)]

    assert [each.body for each in given] == [b"0", b"1", b"2"]
    assert all((each.headers, each.properties.delivery_mode) == ({"mine": 1}, 2) for each in given)
    assert get_all(world.channel, world.queue) == []
    assert given[0].redelivered  # it was given to somebody when the broker ended


def test_a_queue_that_is_not_durable_is_gone(world: World) -> None:
    channel = world.open()
    with refused(channel, 404, f"NOT_FOUND - no queue '{world.transient}' in vhost '/'"):
        channel.queue_declare(world.transient, passive=True)


def test_an_exchange_that_is_not_durable_is_gone(world: World) -> None:
    channel = world.open()
    with refused(channel, 404, f"NOT_FOUND - no exchange '{world.fleeting_exchange}' in vhost '/'"):
        channel.exchange_declare(world.fleeting_exchange, passive=True)


def test_durable_exchanges_keep_their_bindings(world: World) -> None:
    publish(world.channel, world.source, "a.b", b"0", headers={"a": 1})
    publish(world.channel, world.source, "a.b", b"1", headers={"a": 2})
    publish(world.channel, world.source, "b", b"2", headers={"a": 1})

    assert get_all(world.channel, world.bound) == [b"0"]


def test_a_queue_keeps_its_arguments_and_what_they_mean(world: World) -> None:
    world.channel.queue_declare(world.limited, durable=True, arguments=LIMITS)
    put(world.channel, world.limited, b"middle", priority=3)

    assert get_all(world.channel, world.limited) == [b"middle", b"low"]  # it is full, and has dropped the first


def test_a_message_that_was_to_expire_meanwhile_has_expired(world: World) -> None:
    (death,) = take(world.channel, world.graveyard, auto_ack=True).headers["x-death"]

    assert (death["reason"], death["queue"]) == ("expired", world.expiring)


def test_a_quorum_queue_keeps_all_its_messages(world: World) -> None:
    wait_ready(world.channel, world.quorum, 2)

    assert sorted(get_all(world.channel, world.quorum)) == [b"0", b"1"]
