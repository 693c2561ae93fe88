"""A producer: `python -m tests.bench.put WAY` puts the jobs of its order in one of four ways, and counts those that are confirmed."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.bench.order import Order
from tests.bench.publish import RawPublisher
from tests.bench.raw import RawChannel
from tests.bench.tally import Tally

if TYPE_CHECKING:
    from hopd import Topic

BODY = bytes(100)

#: What the raw publisher's messages pass through, as those of a work queue do.
EXCHANGE = "bench.exchange"

#: Callers at once, for the way `greenlets`.
CALLERS = 100


def raw(order: Order) -> None:
    """As fast as the broker confirms what takes the same way."""
    with RawChannel(order.url) as channel:
        channel.bind(order.queue, EXCHANGE)
        RawPublisher(channel, [order.queue], EXCHANGE).publish(itertools.repeat(BODY, order.last), Tally(order).count)


def one_by_one(order: Order) -> None:
    """One caller that waits for each confirm, in plain threads."""
    with _topic(order) as topic:
        _put(topic, order.last, Tally(order))


def greenlets(order: Order) -> None:
    """Many callers at once, each waiting for its own confirms."""
    from gevent import monkey

    monkey.patch_all()
    import gevent

    with _topic(order) as topic:
        tally = Tally(order)
        gevent.joinall([gevent.spawn(_put, topic, order.last // CALLERS + 1, tally) for _ in range(CALLERS)])


def many(order: Order) -> None:
    """`put_many`, in plain threads. Counted when it takes the next one, as it keeps no more than a window unconfirmed."""
    with _topic(order) as topic:
        topic.put_many(_counted(order.last, Tally(order)))


@contextmanager
def _topic(order: Order) -> Iterator[Topic]:
    """The order's topic; transient, as the raw publisher's messages are: what a disk costs would hide what a client does."""
    from hopd import WorkQueue  # not before gevent has patched what it imports

    with WorkQueue(order.url, durable=False) as queue:
        topic = queue.get_topic(order.queue)
        topic.declare()
        yield topic


def _put(topic: Topic, jobs: int, tally: Tally) -> None:
    for _ in range(jobs):
        topic.put(BODY)
        tally.count()


def _counted(jobs: int, tally: Tally) -> Iterator[bytes]:
    for _ in range(jobs):
        yield BODY
        tally.count()


WAYS: Mapping[str, Callable[[Order], None]] = {"raw": raw, "one-by-one": one_by_one, "greenlets": greenlets, "many": many}

if __name__ == "__main__":
    WAYS[sys.argv[1]](Order.from_environment())
