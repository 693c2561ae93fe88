"""The ceiling: a consumer that does nothing but count deliveries and ack a hundred at a time.

It does not even decode: every delivery begins with the same bytes, and those are counted.
"""

from __future__ import annotations

from pika import spec

from hopd.amqp import frames
from tests.bench.order import Order
from tests.bench.raw import CHANNEL, RawChannel
from tests.bench.tally import Tally

CONSUMER = "ceiling"

#: One ack for so many.
BATCH = 100

#: A basic.deliver's class, method and consumer tag; bodies are zeros, so that nothing else looks like it.
DELIVERY = bytes((0, 60, 0, 60, len(CONSUMER))) + CONSUMER.encode()


def consume(channel: RawChannel, order: Order) -> None:
    """Count and ack, until somebody ends the process."""
    count = Tally(order).count
    channel.ask(spec.Basic.Qos(prefetch_count=order.prefetch))
    channel.ask(spec.Basic.Consume(queue=order.queue, consumer_tag=CONSUMER))
    data, done, acked = channel.rest(), 0, 0
    while True:
        for _ in range(data.count(DELIVERY)):
            done += 1
            count()
        if done - acked >= BATCH:
            acked = done
            channel.socket.sendall(frames.ack(CHANNEL, acked, True))
        # A delivery that was cut is counted with its end.
        data = data[1 - len(DELIVERY) :] + channel.receive()


def main() -> None:
    order = Order.from_environment()
    with RawChannel(order.url) as channel:
        channel.socket.settimeout(None)
        consume(channel, order)


if __name__ == "__main__":
    main()
