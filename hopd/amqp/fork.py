"""A child process that fork() made has its parent's sockets, and under gevent even the greenlets that read and write them.

Whatever the child does with them would be the parent's undoing: so in the child they are taken away, at once and for good.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class LeftBehind(Protocol):
    """Something that belongs to the process that made it."""

    def leave_to_parent(self) -> None:
        """We are in a child. No lock may be taken: whoever holds it may not be here."""


_everything: WeakSet[LeftBehind] = WeakSet()


def stays_with_parent(thing: LeftBehind) -> None:
    """Have `thing.leave_to_parent()` called in every child process that is forked from now on."""
    _everything.add(thing)


def _in_child() -> None:
    for thing in list(_everything):
        thing.leave_to_parent()


os.register_at_fork(after_in_child=_in_child)
