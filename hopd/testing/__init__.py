"""Test your handlers on a real broker that starts with the test: hopd's own, in the test's process, with a clock the test turns.

With pytest the fixtures `hop_broker`, `hop_queue`, `hop_daemon` and `run_jobs` are there as soon as hopd is installed; with
unittest derive from `HopTestCase`. Nothing needs to be patched, neither in the tests nor in what they test.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hopd.testing.broker import LocalBroker as LocalBroker
    from hopd.testing.case import HopTestCase as HopTestCase
    from hopd.testing.daemon import DaemonProcess as DaemonProcess
    from hopd.testing.jobs import JobRunner as JobRunner

# pytest loads the plugin in every run of an environment that has hopd: nothing is imported before it is used.
_HOMES = {
    "DaemonProcess": "hopd.testing.daemon",
    "HopTestCase": "hopd.testing.case",
    "JobRunner": "hopd.testing.jobs",
    "LocalBroker": "hopd.testing.broker",
}

__all__ = ["DaemonProcess", "HopTestCase", "JobRunner", "LocalBroker"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hopd.testing' has no attribute {name!r}")
    return getattr(import_module(home), name)
