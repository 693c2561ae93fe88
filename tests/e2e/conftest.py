"""What tests of a real daemon share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.node import Node
from tests.support.process import Processes


@pytest.fixture
def start(processes: Processes, tmp_path: Path, broker: Node) -> Callable[..., Daemon]:
    """Starts a daemon with these topics and sections of the config, and waits until it consumes."""

    def start(topics: dict[str, Any], **options: Any) -> Daemon:
        return Daemon(processes, tmp_path, broker.url, topics, **options).wait_consuming()

    return start
