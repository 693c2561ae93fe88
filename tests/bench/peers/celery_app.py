"""Celery with the gevent pool, as its guide on optimizing advises for many short tasks: a transient queue, a large prefetch
multiplier; results ignored, as the guide on tasks advises. `acks_late`, so that it promises what the others do. Run as a program
this module puts the jobs of its order.
"""

from __future__ import annotations

from celery import Celery
from kombu import Exchange, Queue

from tests.bench.order import Order
from tests.bench.tally import Tally

_order = Order.from_environment()
_run = Tally(_order).run

app = Celery("bench", broker=_order.url)
app.conf.update(
    task_queues=[Queue(_order.queue, Exchange(_order.queue, delivery_mode=1), routing_key=_order.queue, durable=False)],
    task_default_queue=_order.queue,
    task_default_exchange=_order.queue,
    task_default_routing_key=_order.queue,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=_order.prefetch // _order.concurrency,
    broker_connection_retry_on_startup=True,
)


def work() -> None:
    """One job."""
    _run(b"")


task = app.task(work, name="work")

if __name__ == "__main__":
    with app.producer_pool.acquire() as producer:
        for _ in range(_order.jobs):
            task.apply_async(producer=producer)
