"""pika's BlockingConnection, as in pika's own consumer examples (docs/examples/blocking_consume.rst): one callback after the other,
each message acked. A prefetch count is what RabbitMQ's guide on consumers recommends for throughput; without one pika takes all there is.
"""

from __future__ import annotations

from typing import Any

import pika

from tests.bench.order import Order
from tests.bench.tally import Tally


def main() -> None:
    order = Order.from_environment()
    run = Tally(order).run

    def handle(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        run(body)
        channel.basic_ack(method.delivery_tag)

    channel = pika.BlockingConnection(pika.URLParameters(order.url)).channel()
    channel.basic_qos(prefetch_count=order.prefetch)
    channel.basic_consume(order.queue, handle)
    channel.start_consuming()


if __name__ == "__main__":
    main()
