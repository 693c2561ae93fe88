"""dramatiq under gevent, as `dramatiq --help` shows it: `dramatiq-gevent --processes 1 --threads N`, a broker with its defaults, and
so a prefetch of twice the threads. Run as a program this module puts the jobs of its order.
"""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from tests.bench.order import Order
from tests.bench.tally import Tally

_order = Order.from_environment()
_run = Tally(_order).run

broker = RabbitmqBroker(url=_order.url)
dramatiq.set_broker(broker)


def work() -> None:
    """One job."""
    _run(b"")


actor = dramatiq.actor(work, queue_name=_order.queue)

if __name__ == "__main__":
    for _ in range(_order.jobs):
        actor.send()
