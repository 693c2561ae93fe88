"""Commits of the store, in a native thread, one at a time: what arrives while one runs goes with the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gevent.threadpool import ThreadPool

from hopd.errors import StoreError


class Committing(Protocol):
    """The store, as far as it is used here."""

    def commit(self) -> int:
        """Make durable all that was handed over; the number of its last batch. `StoreError` when it cannot be."""


class Commits:
    """Runs one commit at a time. `finished` is called in the hub when one has ended, and must not block; then `outcome` is taken."""

    def __init__(self, store: Committing, finished: Callable[[], None]) -> None:
        self._store = store
        self._finished = finished
        self._pool = ThreadPool(1)
        self._running = False
        self._outcome: int | StoreError | None = None

    def start(self) -> None:
        """Start one, unless one runs."""
        if not self._running:
            self._running = True
            self._pool.spawn(self._commit).rawlink(self._on_end)

    def _commit(self) -> int | StoreError:
        try:
            return self._store.commit()
        except StoreError as error:
            return error

    def _on_end(self, result: Any) -> None:
        self._outcome = result.value
        self._finished()

    def outcome(self) -> int | StoreError | None:
        """The number of the last batch that is durable, or why it is not; None when there is nothing new."""
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._running = False
        return outcome

    def last(self) -> int | StoreError:
        """Wait for the one that runs, run another, and wait for that."""
        self._running = False
        outcome: int | StoreError = self._pool.spawn(self._commit).get()
        return outcome

    def close(self) -> None:
        """End the thread, once what runs in it has ended."""
        self._pool.join()
        self._pool.kill()
