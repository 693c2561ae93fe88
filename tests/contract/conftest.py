"""The brokers that are held to the contract, and clients of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hopd.demo.node_control import NodeControl
from tests.contract.client import Channel, Client
from tests.contract.wire import Wire


@pytest.fixture(scope="session")
def contract_broker(broker: NodeControl) -> NodeControl:
    """A broker under contract: all that the claims know of it is its `.url` and `.port`."""
    return broker


@pytest.fixture
def client(contract_broker: NodeControl) -> Iterator[Client]:
    with Client(contract_broker.url) as client:
        yield client


@pytest.fixture
def channel(client: Client) -> Channel:
    """The client's first channel; its publishes are confirmed."""
    return client.channel


@pytest.fixture
def stranger(contract_broker: NodeControl) -> Iterator[Client]:
    """Another client."""
    with Client(contract_broker.url) as client:
        yield client


@pytest.fixture
def wire(contract_broker: NodeControl) -> Iterator[Wire]:
    """A socket to the broker on which nothing has been said."""
    with Wire(contract_broker.port) as wire:
        yield wire


@pytest.fixture
def another(contract_broker: NodeControl) -> Iterator[Wire]:
    """Another such socket."""
    with Wire(contract_broker.port) as wire:
        yield wire
