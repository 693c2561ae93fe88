"""The same for users of unittest."""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hopd.testing.broker import LocalBroker
from hopd.testing.daemon import DaemonProcess
from hopd.testing.jobs import JobRunner


class HopTestCase(unittest.TestCase):
    """A test case with a broker of its own: `self.broker`, `self.queue`, `self.run_jobs(topic, handler)`, `self.start_daemon(config)`."""

    def setUp(self) -> None:
        """Start the broker. Call it first when you override it."""
        super().setUp()
        self._kept = ExitStack()
        self.addCleanup(self._kept.close)
        self.broker = self._kept.enter_context(LocalBroker())
        self.queue = self._kept.enter_context(self.broker.work_queue())
        self.run_jobs = JobRunner(self.broker, self.queue)

    def start_daemon(self, config: Mapping[str, Any] | str | Path) -> DaemonProcess:
        """A real daemon on the broker; it ends with the test."""
        directory = self._kept.enter_context(tempfile.TemporaryDirectory(prefix="hopd-test-"))
        return self._kept.enter_context(DaemonProcess(config, self.broker.url, Path(directory)))
