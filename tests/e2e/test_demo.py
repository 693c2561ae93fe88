"""The demonstration, as a newcomer runs it."""

from __future__ import annotations

import pytest

from tests.support.node import Node
from tests.support.process import Process, Processes

#: A few hundred jobs of 10 ms, and two processes that start. Seconds.
TIMEOUT = 90.0


def accounted_for(demo: Process) -> bool:
    """It ended well and says so."""
    return demo.wait(TIMEOUT) == 0 and "All 500 jobs are accounted for" in demo.stdout and "demo.webhooks" in demo.stdout


def test_it_needs_no_broker(processes: Processes) -> None:
    demo = processes.hopd("demo", "--jobs", "500", env={"HOP_BROKER_URL": ""})

    assert accounted_for(demo), demo.describe()
    assert "hopd's own is used" in demo.stdout


def test_it_uses_the_broker_it_is_given_and_leaves_nothing_there(processes: Processes, broker: Node) -> None:
    demo = processes.hopd("demo", "--jobs", "500", env={"HOP_BROKER_URL": broker.url})

    assert accounted_for(demo), demo.describe()
    assert not [name for name in broker.list_queues() if name.startswith("demo.") and ".retry." not in name]


@pytest.mark.parametrize("url", ["amqp://127.0.0.1:9/", "http://localhost/"])
def test_a_broker_that_is_not_there_is_told(processes: Processes, url: str) -> None:
    demo = processes.hopd("demo", "--jobs", "500", env={"HOP_BROKER_URL": url})

    assert demo.wait(TIMEOUT) == 1
    assert "The demo failed" in demo.stdout
