"""Waiting for one confirm, which may come at any moment of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

import pytest

from hopd.amqp.confirms import Pending
from hopd.errors import PutRefused

_Lock = threading.Lock


def a_pending() -> Pending:
    return Pending(None)  # type: ignore[arg-type]  # what is on its way does not matter here


class Gate:
    """A lock in whose life something happens just before it is taken, and just after."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._lock = _Lock()
        self._moments = [before, after]

    def acquire(self, timeout: float = -1) -> bool:
        if self._moments:
            self._moments.pop(0)()
        taken = self._lock.acquire(timeout=timeout)
        if self._moments:
            self._moments.pop(0)()
        return taken

    def release(self) -> None:
        self._lock.release()


@pytest.mark.parametrize("moment", ["before the gate is shut", "after it was"])
def test_a_confirm_is_heard_whenever_it_comes(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    # Given a confirm that the reader brings while somebody begins to wait
    pending = a_pending()
    confirmed, nothing = (lambda: pending.settle(None)), (lambda: None)
    moments = (confirmed, nothing) if moment.startswith("before") else (nothing, confirmed)
    monkeypatch.setattr("hopd.amqp.confirms.threading.Lock", lambda: Gate(*moments))

    # When somebody waits, then the reader had no trouble and the wait is over
    assert pending.wait(monotonic() + 5.0)


def test_what_was_said_before_the_wait_is_heard() -> None:
    pending = a_pending()
    pending.settle(PutRefused())

    assert pending.wait(monotonic())
    assert isinstance(pending.error, PutRefused)


def test_a_wait_ends_at_its_deadline() -> None:
    assert not a_pending().wait(monotonic() + 0.01)
