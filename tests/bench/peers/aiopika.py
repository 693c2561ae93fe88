"""aio-pika, as in its quick start and its "work queues" tutorial: `connect_robust`, a prefetch count, a coroutine for each message
that acks when it is done. So as many run at once as the prefetch count allows.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika

from tests.bench.order import Order
from tests.bench.tally import Tally


async def main() -> None:
    order = Order.from_environment()
    tally = Tally(order)

    async def handle(message: Any) -> None:
        if order.idle:
            tally.count()
        else:
            await asyncio.sleep(tally.duration())
            tally.count()
        await message.ack()

    connection = await aio_pika.connect_robust(order.url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=order.prefetch)
    queue = await channel.get_queue(order.queue)
    await queue.consume(handle)
    await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
