"""A daemon that may open no more files."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.support.daemon import Daemon, put, wait_empty
from tests.support.node_control import NodeControl
from tests.support.process import Processes
from tests.support.waiting import wait_until

#: More than the daemon may accept.
CLIENTS = 40


def test_jobs_go_on_while_no_file_can_be_opened(processes: Processes, tmp_path: Path, broker: NodeControl, topic_name: str) -> None:
    # Given a daemon with four files left to open
    daemon = Daemon(processes, tmp_path, broker.url, {topic_name: {"handler": "tests.fault.handlers:nothing"}}).wait_consuming()
    daemon.topic(topic_name)
    process = psutil.Process(daemon.process.pid)
    _, most = process.rlimit(resource.RLIMIT_NOFILE)
    process.rlimit(resource.RLIMIT_NOFILE, (daemon.process.descriptors() + 4, most))

    # When more clients come than it can accept, and jobs
    with ExitStack() as clients:
        for _ in range(CLIENTS):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(20)
            client.connect(daemon.socket)
        wait_until(lambda: daemon.process.descriptors() >= process.rlimit(resource.RLIMIT_NOFILE)[0] - 1, 20, "no file is left")
        put(broker.url, daemon.ledger, topic_name, 500)
        wait_empty(broker, topic_name)

    # Then the jobs are done, and when the clients are gone it can be steered again
    assert daemon.topic(topic_name)["done"] == 500
    assert daemon.leave() == 0
