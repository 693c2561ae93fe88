"""The library's other way to take jobs: `pull` and `done`, one at a time, in plain threads."""

from __future__ import annotations

from hopd import WorkQueue
from tests.bench.order import Order
from tests.bench.tally import Tally


def main() -> None:
    order = Order.from_environment()
    run = Tally(order).run
    with WorkQueue(order.url) as queue:
        for job in queue.get_topic(order.queue):
            run(job.body)
            job.done()


if __name__ == "__main__":
    main()
