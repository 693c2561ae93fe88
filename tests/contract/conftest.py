"""The brokers that are held to the contract, and clients of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.client import Channel, Client
from tests.contract.wire import Wire
from tests.support.broker import BROKERS, START_TIMEOUT
from tests.support.embedded import EmbeddedNode
from tests.support.node import Node, OwnNode
from tests.support.private_node import PrivateNode

#: How long a client of `own_broker` may keep a delivery. Milliseconds.
CONSUMER_TIMEOUT = 1000


@pytest.fixture(scope="session")
def contract_broker(broker: Node) -> Node:
    """A broker under contract: all that the claims know of it is its `.url` and `.port`."""
    return broker


@pytest.fixture(scope="session", params=BROKERS)
def own_broker(request: pytest.FixtureRequest) -> Iterator[OwnNode]:
    """A broker that nobody else uses: claims may end it, as long as they start it again, and raise alarms."""
    if request.param == "embedded":
        with EmbeddedNode(consumer_timeout=CONSUMER_TIMEOUT / 1000) as embedded:
            yield embedded.wait_ready()
    else:
        impatient = f"[{{rabbit, [{{consumer_timeout, {CONSUMER_TIMEOUT}}}, {{channel_tick_interval, 300}}]}}]."
        with PrivateNode(advanced=impatient) as node:
            yield node.wait_ready(START_TIMEOUT)


@pytest.fixture
def client(contract_broker: Node) -> Iterator[Client]:
    with Client(contract_broker.url) as client:
        yield client


@pytest.fixture
def channel(client: Client) -> Channel:
    """The client's first channel; its publishes are confirmed."""
    return client.channel


@pytest.fixture
def stranger(contract_broker: Node) -> Iterator[Client]:
    """Another client."""
    with Client(contract_broker.url) as client:
        yield client


@pytest.fixture
def wire(contract_broker: Node) -> Iterator[Wire]:
    """A socket to the broker on which nothing has been said."""
    with Wire(contract_broker.port) as wire:
        yield wire


@pytest.fixture
def another(contract_broker: Node) -> Iterator[Wire]:
    """Another such socket."""
    with Wire(contract_broker.port) as wire:
        yield wire
