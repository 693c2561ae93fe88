"""The fixtures that pytest finds when hopd is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hopd.testing.broker import LocalBroker
    from hopd.testing.daemon import DaemonProcess
    from hopd.testing.jobs import JobRunner
    from hopd.workqueue import WorkQueue


@pytest.fixture
def hop_broker() -> Iterator[LocalBroker]:
    """A broker for this test alone: `.url`, `.turn("10m")`, `.cut()`, `.frozen()`, `.blocked()`, `.restart()`, `.queues()`."""
    from hopd.testing.broker import LocalBroker

    with LocalBroker() as broker:
        yield broker


@pytest.fixture
def hop_queue(hop_broker: LocalBroker) -> Iterator[WorkQueue]:
    """A work queue on that broker."""
    with hop_broker.work_queue() as queue:
        yield queue


@pytest.fixture
def run_jobs(hop_broker: LocalBroker, hop_queue: WorkQueue) -> JobRunner:
    """`run_jobs("emails", send_email)` runs what is ready in the topic, now and here, and raises what the handler raised."""
    from hopd.testing.jobs import JobRunner

    return JobRunner(hop_broker, hop_queue)


@pytest.fixture
def hop_daemon(hop_broker: LocalBroker, tmp_path: Path) -> Iterator[Callable[[Mapping[str, Any] | str | Path], DaemonProcess]]:
    """`hop_daemon("hopd.yaml")`, or with what such a file holds, starts a real daemon on that broker; it ends with the test."""
    from hopd.testing.daemon import DaemonProcess

    with ExitStack() as daemons:

        def start(config: Mapping[str, Any] | str | Path) -> DaemonProcess:
            directory = tmp_path / f"hopd-{len(list(tmp_path.glob('hopd-*')))}"
            directory.mkdir()
            return daemons.enter_context(DaemonProcess(config, hop_broker.url, directory))

        yield start
