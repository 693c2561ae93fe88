"""What the store's database holds, read at start. Of messages only the ids, so that a million of them are there within a second."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from hopd.amqp.table import TableError, decode_table
from hopd.broker.model import Arguments, Bound, ExchangeDeclared, Restored, RestoredQueue
from hopd.broker.rows import Damaged
from hopd.names import MAX_LENGTH_BYTES, MAX_PRIORITY


def restore(connection: sqlite3.Connection) -> Restored:
    """Everything but the content of messages; sqlite3.Error or `Damaged` when it cannot be read."""
    # AUTOINCREMENT keeps the highest id that was ever in the table, also of messages that are gone.
    ((highest,),) = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages'")
    return Restored(
        exchanges=list(_exchanges(connection)), queues=list(_queues(connection)), bindings=list(_bindings(connection)), next_id=highest + 1
    )


def _exchanges(connection: sqlite3.Connection) -> Iterator[ExchangeDeclared]:
    for name, kind, auto_delete, internal, arguments in connection.execute(
        "SELECT name, kind, auto_delete, internal, arguments FROM exchanges"
    ):
        yield ExchangeDeclared(name, kind, bool(auto_delete), bool(internal), _decoded(arguments))


def _bindings(connection: sqlite3.Connection) -> Iterator[Bound]:
    for source, destination, to_exchange, key, arguments in connection.execute(
        "SELECT source, destination, to_exchange, key, arguments FROM bindings"
    ):
        yield Bound(source, destination, bool(to_exchange), key, _decoded(arguments))


def _queues(connection: sqlite3.Connection) -> Iterator[RestoredQueue]:
    for number, name, auto_delete, arguments, delivered_up_to in connection.execute(
        "SELECT number, name, auto_delete, arguments, delivered_up_to FROM queues ORDER BY number"
    ).fetchall():
        queue = RestoredQueue(name, _decoded(arguments), bool(auto_delete), [], delivered_up_to=delivered_up_to)
        _fill(queue, number, connection)
        yield queue


def _fill(queue: RestoredQueue, number: int, connection: sqlite3.Connection) -> None:
    """The queue's messages. The index has all that is needed, unless the queue wants more than ids."""
    if MAX_PRIORITY in queue.arguments:
        rows = connection.execute("SELECT id, priority FROM messages WHERE queue = ? ORDER BY id", (number,)).fetchall()
        queue.ids = [id_ for id_, _priority in rows]
        queue.priorities = bytes(priority for _id, priority in rows)
    else:
        queue.ids = [id_ for (id_,) in connection.execute("SELECT id FROM messages WHERE queue = ? ORDER BY id", (number,))]
    if MAX_LENGTH_BYTES in queue.arguments:
        ((queue.body_bytes,),) = connection.execute("SELECT coalesce(sum(length(body)), 0) FROM messages WHERE queue = ?", (number,))


def _decoded(arguments: bytes) -> Arguments:
    try:
        return decode_table(arguments, 0)[0]
    except (TableError, TypeError) as error:
        raise Damaged("the arguments of a queue, exchange or binding are not as they were written") from error
