"""py-amqp, as in its README: a callback for each message and `drain_events` in a loop, each message acked."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import amqp

from tests.bench.order import Order
from tests.bench.tally import Tally


def main() -> None:
    order = Order.from_environment()
    run = Tally(order).run
    where = urlsplit(order.url)
    with amqp.Connection(f"{where.hostname}:{where.port}", where.username, where.password) as connection:
        channel = connection.channel()

        def handle(message: Any) -> None:
            run(message.body.encode() if isinstance(message.body, str) else message.body)
            channel.basic_ack(message.delivery_tag)

        channel.basic_qos(0, order.prefetch, False)
        channel.basic_consume(order.queue, callback=handle)
        while True:
            connection.drain_events()


if __name__ == "__main__":
    main()
