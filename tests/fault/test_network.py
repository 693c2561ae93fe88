"""A bad network between a daemon and its broker: slow, in pieces, cut, silent. Never lost, never a wrong body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

import pytest

from hopd import Message
from tests.fault.handlers import LENGTH, body_of
from tests.support.daemon import Daemon, put, wait_empty
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.process import Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

HEARTBEAT = 2.0

#: What the table of faults grants beyond the heartbeat until a silent broker is noticed. Seconds.
NOTICED_WITHIN = HEARTBEAT + 5.0


def slice_to_bytes(proxy: Proxy) -> None:
    proxy.up.slice = proxy.down.slice = 1


def throttle(proxy: Proxy) -> None:
    proxy.up.rate = proxy.down.rate = 20_000.0


def delay(proxy: Proxy) -> None:
    proxy.up.delay = proxy.down.delay = 0.1


def cut_what_arrives(proxy: Proxy) -> None:
    proxy.cut("down", after=7_001, times=5)


def cut_what_is_sent(proxy: Proxy) -> None:
    proxy.cut("up", after=1_001, times=5)


#: Each with the length of the bodies, their number (a slow network gets little to carry), and the connections it takes at least.
WEATHERS: Mapping[str, tuple[Callable[[Proxy], None], int, int, int]] = {
    "one byte at a time": (slice_to_bytes, 300, 30, 1),
    "20 kB a second": (throttle, 1_000, 40, 1),
    "0.1 s late": (delay, 1_000, 100, 1),
    "cut in the middle of a delivery": (cut_what_arrives, 3_000, 100, 6),
    "cut in the middle of an ack": (cut_what_is_sent, 100, 2_000, 6),
}


@pytest.mark.parametrize("weather", WEATHERS)
def test_whatever_the_network_does_every_job_is_done_with_its_own_body(
    processes: Processes, tmp_path: Path, broker: NodeControl, proxy: Proxy, topic_name: str, weather: str
) -> None:
    worsen, length, count, connections = WEATHERS[weather]
    topics = {topic_name: {"handler": "tests.fault.handlers:whole"}}
    daemon = Daemon(processes, tmp_path, proxy.through(broker.url), topics).wait_consuming()
    worsen(proxy)

    ids = [f"job{number}" for number in range(count)]
    daemon.ledger.attempt(*ids)
    with work_queue(broker.url) as queue:
        bodies = (Message(body_of(one, length), headers={LENGTH: length}, message_id=one) for one in ids)
        queue.get_topic(topic_name).put_many(bodies)
    daemon.ledger.confirm(*ids)

    wait_until(lambda: not daemon.ledger.lost(), 60, "every job is handled")
    assert not daemon.ledger.unexpected()
    wait_empty(broker, topic_name)
    assert proxy.accepted >= connections


def test_resets_in_the_middle_of_work_lose_nothing(
    processes: Processes, tmp_path: Path, broker: NodeControl, proxy: Proxy, topic_name: str
) -> None:
    daemon = Daemon(processes, tmp_path, proxy.through(broker.url), {topic_name: {"handler": "tests.support.handlers:nap"}})
    daemon.wait_consuming()
    put(broker.url, daemon.ledger, topic_name, 1_000)

    for _ in range(5):
        before, accepted = daemon.ledger.count(), proxy.accepted
        wait_until(lambda before=before: daemon.ledger.count() > before or not daemon.ledger.lost(), 60, "jobs are handled")  # type: ignore[misc]
        proxy.reset()
        wait_until(lambda accepted=accepted: proxy.accepted > accepted, 60, "the daemon connects again")  # type: ignore[misc]

    wait_empty(broker, topic_name)
    assert not daemon.ledger.lost()
    assert daemon.ledger.duplicates() <= 5 * daemon.topic(topic_name)["prefetch"]


def test_a_half_open_connection_is_noticed_and_replaced(
    processes: Processes, tmp_path: Path, broker: NodeControl, proxy: Proxy, topic_name: str
) -> None:
    topics = {topic_name: {"handler": "tests.support.handlers:record"}}
    daemon = Daemon(processes, tmp_path, proxy.through(broker.url), topics, broker={"heartbeat": HEARTBEAT}).wait_consuming()

    proxy.black_hole()
    began = monotonic()
    daemon.wait_broker("recovering")
    noticed = monotonic() - began
    proxy.heal()
    daemon.wait_consuming()

    assert noticed < NOTICED_WITHIN
    put(broker.url, daemon.ledger, topic_name, 20)
    wait_empty(broker, topic_name)
    assert not daemon.ledger.lost()
