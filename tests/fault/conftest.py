"""Faults are injected into RabbitMQ: what the embedded broker has of them has tests of its own here, and the soak."""

from __future__ import annotations

import pytest

from tests.support.node_control import NodeControl
from tests.support.private_node import PrivateNode


@pytest.fixture(scope="session")
def broker(rabbitmq: NodeControl) -> NodeControl:
    return rabbitmq


@pytest.fixture
def own_node(own_rabbitmq: PrivateNode) -> PrivateNode:
    return own_rabbitmq
