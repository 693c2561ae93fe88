"""The brokers that tests run on: the embedded one, and RabbitMQ, of which there is one node for a whole run, shared by all processes.

The node belongs to the process that pytest was started as; the workers of pytest-xdist ask for it through files in the node's
home, which goes with the node even when the run is killed: `wanted` (some test needs a broker), then `ready` (how to reach it)
or `failed` (why there is none). It starts when the first worker has seen that it will need it, while the unit tests run.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.embedded import EmbeddedNode
from tests.support.node import OwnNode
from tests.support.node_control import NodeControl, NodeFailed
from tests.support.private_node import NoRabbitMQ, PrivateNode, find_server
from tests.support.waiting import wait_until

#: The kinds of broker on which everything runs that needs nothing of one of them alone.
BROKERS = ("rabbitmq", "embedded")

#: How long a test waits for the node. It is up in 3 s on an idle machine; two busy cores take longer.
START_TIMEOUT = 120.0

#: How often the owner looks whether somebody wants the node, seconds.
_LOOK_INTERVAL = 0.1


@contextmanager
def node_of(kind: str) -> Iterator[OwnNode]:
    """A node of that kind for whoever asks, serving."""
    if kind == "embedded":
        with EmbeddedNode() as embedded:
            yield embedded.wait_ready()
    else:
        with PrivateNode() as rabbitmq:
            yield rabbitmq.wait_ready(START_TIMEOUT)


def missing() -> str | None:
    """Why no RabbitMQ can be had on this machine, or None."""
    try:
        find_server()
    except NoRabbitMQ as error:
        return str(error)
    return None


class SharedNode:
    """The owner's side: starts the node when it is wanted, and ends it with the run."""

    def __init__(self) -> None:
        self._node = PrivateNode()
        self.directory = self._node.home
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._node.close()

    def _run(self) -> None:
        while not (self.directory / "wanted").exists():
            if self._over.wait(_LOOK_INTERVAL):
                return
        try:
            self._node.start()
            node = self._node.wait_ready(START_TIMEOUT)
        except NodeFailed as error:
            self._say("failed", str(error))
        else:
            self._say("ready", json.dumps([str(node.home), node.server, node.port, node.dist_port, node.pid]))

    def _say(self, name: str, text: str) -> None:
        whole = self.directory / f"{name}.new"
        whole.write_text(text)
        whole.rename(self.directory / name)


def want(directory: Path) -> None:
    """Say that the node will be needed; returns at once."""
    (directory / "wanted").touch()


def shared_node(directory: Path) -> NodeControl:
    """The node of this run, when it serves; NodeFailed when it could not be started."""
    want(directory)
    ready, failed = directory / "ready", directory / "failed"
    wait_until(lambda: ready.exists() or failed.exists(), START_TIMEOUT, "the private RabbitMQ node starts")
    if failed.exists():
        raise NodeFailed(failed.read_text())
    home, server, port, dist_port, pid = json.loads(ready.read_text())
    return NodeControl(Path(home), server, port, dist_port, pid)


def unique_name(test: str) -> str:
    """A name for an exchange or a topic that no other test of the run has, and that tells which test it belongs to."""
    return f"{test[:60]}.{os.urandom(4).hex()}"
