"""Clients of the control socket that do everything wrong, and jobs that do not notice."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic

from hopd import Topic
from tests.support.daemon import Daemon, handler
from tests.support.ledger import Ledger
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.process import Processes
from tests.support.stamp import stamped
from tests.support.waiting import wait_until

#: Clients that send a byte now and then, those that ask and ask and never read, and those of a thousand others that stay for a while.
TRICKLING, DEAF, STAYING = 20, 20, 200

#: How often a trickling client sends its byte. Seconds.
TRICKLE = 0.1

JOBS = 30

#: How long a job takes from put to handled, at the median, on a machine that is busy and when it is looked at every 10 ms. Seconds.
LATENCY = 0.3


def latencies(topic: Topic, ledger: Ledger) -> list[float]:
    """How long each of some jobs takes, put one after the other."""
    took = []
    for _ in range(JOBS):
        message_id = stamped("job")
        began = monotonic()
        topic.put(b"", message_id=message_id)
        wait_until(lambda message_id=message_id: ledger.handled()[message_id], 60, "the job is handled")  # type: ignore[misc]
        took.append(monotonic() - began)
    return took


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)  # without a timeout: else a full backlog would be an error at once
    client.settimeout(20)
    return client


def annoy(path: str, data: bytes, over: threading.Event) -> None:
    """Send again and again until the daemon has had enough, then begin anew."""
    while not over.is_set():
        with connect(path) as client:
            try:
                while not over.wait(TRICKLE):
                    client.send(data)
            except OSError:
                continue  # it hung up on us, as it should


def crowd(path: str, over: threading.Event) -> None:
    """Come, one after the other, and stay for a while."""
    staying: deque[socket.socket] = deque()
    while not over.is_set():
        staying.append(connect(path))
        if len(staying) > STAYING:
            staying.popleft().close()
    for client in staying:
        client.close()


@contextmanager
def flood(path: str) -> Iterator[None]:
    """The socket has all these clients while the block lasts."""
    over = threading.Event()
    work = [(path, b"{", over)] * TRICKLING + [(path, b'{"v":1,"id":1,"cmd":"status"}\n' * 50, over)] * DEAF
    threads = [threading.Thread(target=annoy, args=arguments, daemon=True) for arguments in work]
    threads.append(threading.Thread(target=crowd, args=(path, over), daemon=True))
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


def test_jobs_do_not_notice_clients_that_flood_trickle_or_never_read(
    processes: Processes, tmp_path: Path, broker: NodeControl, topic_name: str
) -> None:
    daemon = Daemon(processes, tmp_path, broker.url, {topic_name: handler("record")}).wait_consuming()

    with work_queue(broker.url) as queue:
        topic = queue.get_topic(topic_name)
        with flood(daemon.socket):
            took = latencies(topic, daemon.ledger)

    assert median(took) < LATENCY
    assert not daemon.events("broker_lost")
    wait_until(lambda: daemon.states() == {topic_name: "consuming"}, 60, "it answers again")
    assert daemon.leave() == 0
