"""Everything that is pending, written to the store's database in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from hopd.amqp.table import encode_table
from hopd.broker.model import (
    Arguments,
    Bound,
    ExchangeDeclared,
    ExchangeDeleted,
    PutMessage,
    QueueDeclared,
    QueueDeleted,
    QueuePurged,
    Unbound,
)
from hopd.broker.pending import Pending
from hopd.broker.rows import COLUMNS, sealed, to_row

#: Messages in one INSERT. A statement lets go of the interpreter once and then stands in line behind the hub to get it back, so a
#: statement for each message would make a commit wait for a busy hub a hundred times. SQLite takes 32,766 values in one.
_ROWS = 256

_INSERT = f"INSERT INTO messages ({', '.join(COLUMNS)}) VALUES "
_ROW = f"({', '.join('?' * len(COLUMNS))})"

#: Any number of ids as one value, for the same reason.
_IDS = "(SELECT value FROM json_each(?))"

#: Free pages are given back to the file system when they are most of a file that is worth it, a bounded number at a time: to move
#: them takes some 10 ms. Pages of 4 KiB; commits.
_MANY_FREE, _GIVE_BACK, _LOOK_EVERY = 4096, 512, 16


class Writer:
    """Writes to the store's database. What it raises is SQLite's, and then nothing of the transaction was written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._connection = connection
        self._numbers: dict[str, int] = dict(connection.execute("SELECT name, number FROM queues"))
        self._last = max(self._numbers.values(), default=0)
        self._commits = 0
        self._topology: Mapping[type, Callable[[Any], None]] = {
            QueueDeclared: self._declare_queue,
            QueueDeleted: self._delete_queue,
            QueuePurged: self._purge_queue,
            ExchangeDeclared: self._declare_exchange,
            ExchangeDeleted: self._delete_exchange,
            Bound: self._bind,
            Unbound: self._unbind,
        }

    def write(self, pending: Pending) -> None:
        """Write it all; it is on the disk when this returns."""
        self._give_back()
        numbers = self._numbers.copy()
        self._execute("BEGIN IMMEDIATE")
        try:
            for op in pending.topology:
                self._topology[type(op)](op)
            self._put(pending.puts.values())
            self._count(pending.counted)
            if pending.gone:
                self._execute(f"DELETE FROM messages WHERE id IN {_IDS}", (json.dumps(sorted(pending.gone)),))
            for queue, id_ in pending.delivered.items():
                self._execute("UPDATE queues SET delivered_up_to = ? WHERE number = ?", (id_, self._numbers[queue]))
            self._execute("COMMIT")
        except BaseException:
            self._numbers = numbers
            if self._connection.in_transaction:  # where the disk was full SQLite has rolled back already
                self._execute("ROLLBACK")
            raise

    # --- messages -----------------------------------------------------------------------------------------------------

    def _put(self, puts: Iterable[PutMessage]) -> None:
        numbers = self._numbers
        rows = [to_row(put, numbers[put.queue]) for put in puts]
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            self._execute(_INSERT + ",".join([_ROW] * len(some)), list(chain.from_iterable(some)))

    def _count(self, counted: Mapping[int, int]) -> None:
        by_count: dict[int, list[int]] = defaultdict(list)
        for id_, count in counted.items():
            by_count[count].append(id_)
        for count, ids in by_count.items():
            self._execute(f"UPDATE messages SET delivery_count = ? WHERE id IN {_IDS}", (count, json.dumps(ids)))

    # --- topology -----------------------------------------------------------------------------------------------------

    def _declare_queue(self, op: QueueDeclared) -> None:
        self._last += 1
        self._numbers[op.name] = self._last
        row = sealed(self._last, op.name, int(op.auto_delete), encode(op.arguments))
        self._execute("INSERT INTO queues (number, name, auto_delete, arguments, checksum, delivered_up_to) VALUES (?, ?, ?, ?, ?, 0)", row)

    def _delete_queue(self, op: QueueDeleted) -> None:
        number = self._numbers.pop(op.name)
        self._execute("DELETE FROM messages WHERE queue = ?", (number,))
        self._execute("DELETE FROM bindings WHERE destination = ? AND NOT to_exchange", (op.name,))
        self._execute("DELETE FROM queues WHERE number = ?", (number,))

    def _purge_queue(self, op: QueuePurged) -> None:
        kept = json.dumps(list(op.kept))
        self._execute(f"DELETE FROM messages WHERE queue = ? AND id NOT IN {_IDS}", (self._numbers[op.name], kept))

    def _declare_exchange(self, op: ExchangeDeclared) -> None:
        row = sealed(op.name, op.kind, int(op.auto_delete), int(op.internal), encode(op.arguments))
        self._execute("INSERT INTO exchanges (name, kind, auto_delete, internal, arguments, checksum) VALUES (?, ?, ?, ?, ?, ?)", row)

    def _delete_exchange(self, op: ExchangeDeleted) -> None:
        self._execute("DELETE FROM bindings WHERE source = ? OR (destination = ? AND to_exchange)", (op.name, op.name))
        self._execute("DELETE FROM exchanges WHERE name = ?", (op.name,))

    def _bind(self, op: Bound) -> None:
        row = sealed(*binding(op))
        self._execute("INSERT INTO bindings (source, destination, to_exchange, key, arguments, checksum) VALUES (?, ?, ?, ?, ?, ?)", row)

    def _unbind(self, op: Unbound) -> None:
        where = "source = ? AND destination = ? AND to_exchange = ? AND key = ? AND arguments = ?"
        self._execute(f"DELETE FROM bindings WHERE {where}", binding(op))

    # --- the file -----------------------------------------------------------------------------------------------------

    def _give_back(self) -> None:
        """Make the file smaller when most of it has long been free; else what is free is used again."""
        self._commits += 1
        if self._commits % _LOOK_EVERY:
            return
        ((free,), (all_,)) = (self._execute(f"PRAGMA {what}").fetchone() for what in ("freelist_count", "page_count"))
        if free > _MANY_FREE and free > all_ // 2:
            self._connection.executescript(f"PRAGMA incremental_vacuum({_GIVE_BACK})")  # execute() would stop after its first page


def binding(op: Bound | Unbound) -> tuple[str, str, int, str, bytes]:
    """The columns of a binding."""
    return op.source, op.destination, int(op.to_exchange), op.key, encode(op.arguments)


def encode(arguments: Arguments) -> bytes:
    """An AMQP table with its keys in order, so that equal arguments are equal bytes."""
    return encode_table(dict(sorted(arguments.items(), key=lambda item: str(item[0]))))
