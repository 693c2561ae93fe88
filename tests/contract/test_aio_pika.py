"""aio-pika works as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, DeliveryError

from tests.contract.client import PATIENCE, unique
from tests.support.node import Node


@asynccontextmanager
async def connected(broker: Node) -> AsyncIterator[tuple[AbstractChannel, AbstractQueue]]:
    """A channel with confirms, and an exclusive queue."""
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel(on_return_raises=True)
        yield channel, await channel.declare_queue(unique("queue"), exclusive=True)


def run(broker: Node, claim: Callable[[AbstractChannel, AbstractQueue], Coroutine[None, None, None]]) -> None:
    async def body() -> None:
        async with connected(broker) as (channel, queue):
            await asyncio.wait_for(claim(channel, queue), PATIENCE)

    asyncio.run(body())


async def put(channel: AbstractChannel, queue: AbstractQueue, *bodies: bytes) -> None:
    for body in bodies:
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, headers={"length": len(body)})
        await channel.default_exchange.publish(message, queue.name)


def test_messages_go_round(contract_broker: Node) -> None:
    async def claim(channel: AbstractChannel, queue: AbstractQueue) -> None:
        await channel.set_qos(5)
        bodies = [str(number).encode() for number in range(50)]
        await put(channel, queue, *bodies)

        found = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    found.append(message.body)
                if len(found) == len(bodies):
                    break

        assert found == bodies

    run(contract_broker, claim)


def test_a_message_refused_comes_again(contract_broker: Node) -> None:
    async def claim(channel: AbstractChannel, queue: AbstractQueue) -> None:
        await put(channel, queue, b"0")
        first = await queue.get()
        await first.reject(requeue=True)

        again = await queue.get()

        assert (again.redelivered, again.headers, again.body) == (True, {"length": 1}, b"0")
        await again.ack()
        assert await queue.get(fail=False) is None

    run(contract_broker, claim)


def test_what_cannot_be_routed_is_an_error_of_the_publish(contract_broker: Node) -> None:
    async def claim(channel: AbstractChannel, queue: AbstractQueue) -> None:
        with pytest.raises(DeliveryError):
            await channel.default_exchange.publish(aio_pika.Message(b"0"), unique("nowhere"), mandatory=True)

        await put(channel, queue, b"1")

    run(contract_broker, claim)


def test_refusals_are_the_exceptions_they_should_be(contract_broker: Node) -> None:
    async def claim(channel: AbstractChannel, queue: AbstractQueue) -> None:
        with pytest.raises(ChannelNotFoundEntity):
            await channel.get_queue(unique("nowhere"))
        await channel.reopen()
        with pytest.raises(ChannelPreconditionFailed):
            await channel.declare_queue(queue.name, exclusive=True, arguments={"x-max-length": 3})

    run(contract_broker, claim)


def test_a_topic_exchange_routes(contract_broker: Node) -> None:
    async def claim(channel: AbstractChannel, queue: AbstractQueue) -> None:
        exchange = await channel.declare_exchange(unique("exchange"), aio_pika.ExchangeType.TOPIC, auto_delete=True)
        await queue.bind(exchange, "a.*")

        await exchange.publish(aio_pika.Message(b"0"), "a.b")

        assert (await queue.get(no_ack=True)).routing_key == "a.b"

    run(contract_broker, claim)
