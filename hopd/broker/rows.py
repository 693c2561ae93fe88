"""Messages, queues, exchanges and bindings as rows of the store's database, and back. Each row says whether it is as it was written."""

from __future__ import annotations

from typing import Any, TypeAlias
from zlib import crc32

from hopd.broker.model import Message, PutMessage, Stored, size_of

Row: TypeAlias = tuple[Any, ...]

#: The columns of a row, in its order.
COLUMNS = (
    *("id", "queue", "priority", "expires_at", "exchange", "routing_key", "expiration", "properties", "body"),
    *("checksum", "delivery_count"),
)


class Damaged(Exception):
    """Something in the database is not as it was written. SQLite itself sees to the form of its file, not to what is in it."""


def to_row(put: PutMessage, queue: int) -> Row:
    """The row of a message in the queue numbered `queue`."""
    it = put.message
    what = (put.id, queue, it.priority, put.expires_at, it.exchange, it.routing_key, it.expiration)
    return (*what, it.properties, it.body, checksum(what, it.properties, it.body), put.delivery_count)


def from_row(row: Row, queue: str) -> Stored:
    """The message of a row of `queue`; `Damaged` when it is not what was written."""
    what, (properties, body, written, delivery_count) = row[:7], row[7:]
    if type(properties) is not bytes or type(body) is not bytes or checksum(what, properties, body) != written:
        raise Damaged(f"the message {what[0]} of the queue {queue} is not as it was written")
    _id, _queue, priority, expires_at, exchange, routing_key, expiration = what
    message = Message(exchange, routing_key, properties, body, True, priority, expiration, size_of(properties, body))
    return Stored(message, expires_at, delivery_count)


def sealed(*values: object) -> Row:
    """The row of a queue, an exchange or a binding: its values, and that they are so."""
    return (*values, checksum(values))


def unsealed(row: Row) -> Row:
    """The values of such a row; `Damaged` when it is not what was written."""
    *values, written = row
    if checksum(tuple(values)) != written:
        raise Damaged("a queue, exchange or binding is not as it was written")
    return tuple(values)


def checksum(values: tuple[object, ...], *content: bytes) -> int:
    """Of the values, types included, and of the content."""
    found = crc32(repr(values).encode("utf-8", "backslashreplace"))
    for each in content:
        found = crc32(each, found)
    return found
