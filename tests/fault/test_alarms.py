"""A broker short of memory or disk, and a daemon that works for it."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest

from hopd.errors import ControlError
from tests.support.daemon import Daemon, handler, put
from tests.support.private_node import PrivateNode
from tests.support.process import Processes
from tests.support.waiting import wait_until

JOBS = 50

#: How long the daemon may take to leave: its grace period of 10 s, and a busy machine. Seconds.
LEFT_WITHIN = 15.0


def is_blocked(daemon: Daemon) -> bool:
    """Have it publish, which is what makes the broker tell it of the alarm, and see what it makes of that."""
    try:
        daemon.control.call("put", {"topic": "aside", "body": "x", "timeout": 0.5}, timeout=30.0)
    except ControlError as error:
        return error.code == "broker_unavailable" and bool(daemon.status()["publisher"]["state"] == "blocked")
    return False


@pytest.mark.parametrize("resource", ["memory", "disk"])
def test_under_an_alarm_jobs_go_on_puts_fail_at_their_deadline_and_the_daemon_leaves_in_time(
    own_node: PrivateNode, processes: Processes, tmp_path: Path, resource: str
) -> None:
    # Given running jobs, and an alarm of which the daemon knows
    topics = {"work": handler("hold", concurrency=JOBS), "aside": handler("record", paused=True)}
    daemon = Daemon(processes, tmp_path, own_node.url, topics).wait_consuming("work")
    put(own_node.url, daemon.ledger, "work", JOBS)
    daemon.wait_count("work", "running", JOBS)
    own_node.set_alarm(resource)
    wait_until(lambda: is_blocked(daemon), 60, "the daemon is blocked")
    publisher = daemon.status()["publisher"]

    # When its jobs go on, and it is asked to leave
    daemon.open_gate()
    done = daemon.wait_count("work", "done", JOBS)
    wait_until(lambda: own_node.list_queues()["work"].unsettled == 0, 60, "the broker has heard of it")
    began = monotonic()
    code = daemon.leave()

    # Then every job was done once, and nothing waited for the alarm to end
    assert publisher["reason"]
    assert (done["lost"], daemon.ledger.lost(), daemon.ledger.duplicates()) == (0, set(), 0)
    assert (code, monotonic() - began < LEFT_WITHIN) == (0, True)
