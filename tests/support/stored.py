"""Messages for tests of the broker's store, and what is in one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from hopd.broker.model import Message, Op, PutMessage, QueueDeclared, Restored, Stored, size_of
from hopd.broker.store import Store

QUEUE = "tasks"

#: The queue that `put` puts into.
DECLARED = QueueDeclared(QUEUE, {}, False)


def message(body: bytes = b"", *, properties: bytes = b"\x10\x00\x02", priority: int = 0, expiration: float | None = None) -> Message:
    """A persistent message, as a session makes one."""
    return Message("hop.exchange", QUEUE, properties, body, True, priority, expiration, size_of(properties, body))


def put(id_: int, body: bytes = b"", queue: str = QUEUE) -> PutMessage:
    """A message into a queue."""
    return PutMessage(queue, id_, message(body), None)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Store]:
    """The store at `path`, for a while."""
    with contextlib.closing(Store(str(path))) as store:
        yield store


def committed(store: Store, *ops: Op) -> None:
    """Have `ops` written."""
    assert store.submit(ops) == store.commit()


def ids(restored: Restored, queue: str = QUEUE) -> list[int]:
    """The messages of one queue."""
    (found,) = (each.ids for each in restored.queues if each.name == queue)
    return found


def bodies(store: Store, wanted: Sequence[int], queue: str = QUEUE) -> dict[int, bytes | None]:
    """What `store.read` gives, without all that is not the body."""
    return {id_: stored.message.body if stored else None for id_, stored in store.read(queue, wanted)}


def content(stored: Stored | None) -> tuple[object, ...]:
    """All that is in a stored message, to be compared: messages themselves are equal only to themselves."""
    assert stored is not None
    it = stored.message
    named = (it.exchange, it.routing_key, it.properties, it.body, it.persistent, it.priority, it.expiration, it.size)
    return (*named, stored.expires_at, stored.delivery_count)
