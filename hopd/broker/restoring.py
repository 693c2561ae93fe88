"""What the store's database holds, read at start. Of messages only the ids, so that a million of them are there within a second."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from hopd.amqp.table import decode_table
from hopd.broker.model import Arguments, Bound, ExchangeDeclared, Restored, RestoredQueue
from hopd.broker.rows import Damaged, unsealed
from hopd.names import MAX_LENGTH_BYTES, MAX_PRIORITY


def restore(connection: sqlite3.Connection) -> Restored:
    """Everything but the content of messages; sqlite3.Error or `Damaged` when it cannot be read."""
    queues = list(_queues(connection))
    # AUTOINCREMENT keeps the highest id that was ever in the table. One that came, was delivered and went before a commit never was.
    ((highest,),) = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages'")
    known = [_number(highest), *(queue.delivered_up_to for queue in queues), *(queue.ids[-1] for queue in queues if queue.ids)]
    return Restored(list(_exchanges(connection)), queues, list(_bindings(connection)), next_id=max(known) + 1)


def _exchanges(connection: sqlite3.Connection) -> Iterator[ExchangeDeclared]:
    for row in connection.execute("SELECT name, kind, auto_delete, internal, arguments, checksum FROM exchanges"):
        name, kind, auto_delete, internal, arguments = unsealed(row)
        yield ExchangeDeclared(name, kind, bool(auto_delete), bool(internal), _decoded(arguments))


def _bindings(connection: sqlite3.Connection) -> Iterator[Bound]:
    for row in connection.execute("SELECT source, destination, to_exchange, key, arguments, checksum FROM bindings"):
        source, destination, to_exchange, key, arguments = unsealed(row)
        yield Bound(source, destination, bool(to_exchange), key, _decoded(arguments))


def _queues(connection: sqlite3.Connection) -> Iterator[RestoredQueue]:
    rows = connection.execute("SELECT delivered_up_to, number, name, auto_delete, arguments, checksum FROM queues ORDER BY number")
    for delivered_up_to, *row in rows.fetchall():
        number, name, auto_delete, arguments = unsealed(tuple(row))
        queue = RestoredQueue(name, _decoded(arguments), bool(auto_delete), [], delivered_up_to=_number(delivered_up_to))
        _fill(queue, number, connection)
        yield queue


def _fill(queue: RestoredQueue, number: int, connection: sqlite3.Connection) -> None:
    """The queue's messages. The index has all that is needed, unless the queue wants more than ids."""
    if MAX_PRIORITY in queue.arguments:
        rows = connection.execute("SELECT id, priority FROM messages WHERE queue = ? ORDER BY id", (number,)).fetchall()
        queue.ids = [id_ for id_, _priority in rows]
        queue.priorities = [_number(priority) for _id, priority in rows]
    else:
        queue.ids = [id_ for (id_,) in connection.execute("SELECT id FROM messages WHERE queue = ? ORDER BY id", (number,))]
    if MAX_LENGTH_BYTES in queue.arguments:
        ((queue.body_bytes,),) = connection.execute("SELECT coalesce(sum(length(body)), 0) FROM messages WHERE queue = ?", (number,))


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise Damaged(f"a number is {value!r}")
    return value


def _decoded(arguments: bytes) -> Arguments:
    return decode_table(arguments, 0)[0]
