"""The two worlds the library lives in: plain threads, and greenlets under gevent's monkey-patching. One code serves both.

The tests of the library run in plain threads like all others, and once more, patched, in a child process that this module is:

    python -m tests.support.worlds DIRECTORY PYTEST-ARGUMENTS…

The child is a worker of the run, as those of pytest-xdist are: it uses the run's node, which `share` tells it how to reach.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.support.node_control import NodeControl


def patched() -> bool:
    """Whether this is the world of greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def share(node: NodeControl, directory: Path) -> None:
    """Tell a child, through the directory it is given, how to reach the run's node."""
    (directory / "ready").write_text(json.dumps([str(node.home), node.server, node.port, node.dist_port, node.pid]))


class Worker:
    """Makes this pytest a worker of another."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def pytest_configure(self, config: pytest.Config) -> None:
        config.workerinput = {"hopd_broker": self._directory}  # type: ignore[attr-defined]


def main() -> int:
    from gevent import monkey

    monkey.patch_all()
    import pytest

    directory, *arguments = sys.argv[1:]
    worker = Worker(directory)
    # Before the plugins of the run, which ask for it.
    pytest.hookimpl(tryfirst=True)(Worker.pytest_configure)
    return int(pytest.main(["-p", "no:xdist", "-p", "no:cacheprovider", *arguments], plugins=[worker]))


if __name__ == "__main__":
    sys.exit(main())
