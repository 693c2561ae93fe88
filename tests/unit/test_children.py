"""What threads need to have children is there for as long as hopd runs, and no longer. (What it does: tests/e2e/test_timeouts.py.)"""

from __future__ import annotations

import os

import gevent.os
from gevent import subprocess

from hopd.engine import children


def in_force() -> tuple[object, ...]:
    return os.waitpid, os.system, gevent.os.fork_and_watch, subprocess.fork_and_watch, subprocess.Popen.wait


def test_what_is_replaced_is_put_back() -> None:
    before = in_force()

    with children.of_threads():
        during = in_force()

    assert all(ours is not theirs for ours, theirs in zip(during, before, strict=True))
    assert in_force() == before
