"""What all sessions of a broker share, as pure code: its state, its store, and who has to be told what.

Everything here runs in one thread, one thing after the other. `now` is the time of what is being done, set by whoever does it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from hopd.broker.model import Cancelled, CloseChannel, Deliver, Load, Op, Stored
from hopd.broker.state import State
from hopd.errors import StoreError

LOGGER = logging.getLogger(__name__)


class Party(Protocol):
    """Whom effects are for: the owner of a channel. A session."""

    def deliver(self, effect: Deliver) -> None:
        """A message for one of its consumers."""

    def tell(self, effect: Cancelled | CloseChannel) -> None:
        """The broker has ended a consumer or a channel."""


class Shelf(Protocol):
    """The store, as far as the desk uses it."""

    def submit(self, ops: Sequence[Op]) -> int:
        """Hand a batch over; its number."""

    def read(self, queue: str, ids: Sequence[int]) -> list[tuple[int, Stored | None]]:
        """Content, also of batches that are not committed."""


class Desk:
    """Hands effects to those they are for, the journal to the store, and content from the store to the state."""

    def __init__(self, state: State, users: Mapping[str, str], store: Shelf | None = None) -> None:
        self.state = state
        self.users = users
        self.now = 0.0
        #: Those that have something to say, in the order in which they first had.
        self.touched: dict[Party, None] = {}
        #: Those that wait for a commit before they can confirm.
        self.waiting: dict[Party, None] = {}
        #: Bytes of messages that the store has yet to write.
        self.uncommitted = 0
        #: The last batch that the store was handed, and the last one that it has written. 0: none.
        self.batch = 0
        self.committed = 0
        #: What the broker is short of: whoever publishes then is held up. None: of nothing.
        self.shortage: str | None = None
        self._store = store
        #: By batch, the bytes in it.
        self._sizes: deque[tuple[int, int]] = deque()
        self._unsubmitted = 0
        self._loads: list[Load] = []

    def deliver(self) -> None:
        """Hand the state's effects to the sessions they are for."""
        if not self.state.effects:
            return
        for effect in self.state.take_effects():
            if isinstance(effect, Load):
                self._loads.append(effect)
                continue
            party = cast("Party", effect.channel.owner)
            if isinstance(effect, Deliver):
                party.deliver(effect)
            else:
                party.tell(effect)
            self.touched[party] = None

    def load(self) -> bool:
        """Answer what the state wants to have loaded; whether it wanted anything. The deliveries that follow are handed on."""
        self.deliver()
        if not self._loads or self._store is None:
            return False
        while self._loads:
            # The journal first: it may hold the very messages.
            self.submit()
            loads, self._loads = self._loads, []
            for load in loads:
                self.state.loaded(load.queue, _content(self._store, load), self.now)
            self.deliver()
        return True

    def published(self, size: int) -> None:
        """A message of that many bytes went into the journal."""
        self.uncommitted += size
        self._unsubmitted += size

    def submit(self) -> None:
        """Hand the journal to the store. What is confirmed from now on waits for it."""
        ops = self.state.take_journal()
        size, self._unsubmitted = self._unsubmitted, 0
        if ops and self._store is not None:
            self.batch = self._store.submit(ops)
            self._sizes.append((self.batch, size))
        else:
            self.uncommitted -= size

    def written(self, batch: int) -> None:
        """The store has made everything durable up to that batch."""
        self.committed = max(self.committed, batch)
        self.touched.update(self.waiting)
        while self._sizes and self._sizes[0][0] <= batch:
            self.uncommitted -= self._sizes.popleft()[1]


def _content(store: Shelf, load: Load) -> list[tuple[int, Stored | None]]:
    """What the state wants to have loaded. A message that cannot be read is passed over: it must not hold up those behind it."""
    try:
        return store.read(load.queue, load.ids)
    except StoreError:
        return [_content_of(store, load.queue, id_) for id_ in load.ids]


def _content_of(store: Shelf, queue: str, id_: int) -> tuple[int, Stored | None]:
    try:
        ((_, stored),) = store.read(queue, [id_])
    except StoreError as error:
        extra = {"event": "message_unreadable", "queue": queue, "message": id_}
        LOGGER.error("A message cannot be read, and stays where it is: %s", error, extra=extra)
        return id_, None
    return id_, stored
