"""Durable queues and persistent messages in a file of SQLite's: one transaction for all that came in while the last one was written.

Two threads meet here. The hub hands batches over and reads, and must not wait for the disk; a native thread commits. What one
may find the other in the middle of is a `Pending` each: `_pending` gathers, `_writing` is being written.
"""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
from _thread import RLock  # the C type itself, which gevent leaves alone: one of these threads is no greenlet
from collections.abc import Container, Sequence

from hopd.amqp.fork import stays_with_parent
from hopd.broker.filelock import FileLock, Locked
from hopd.broker.model import Op, Restored, Stored
from hopd.broker.pending import Pending
from hopd.broker.restoring import restore
from hopd.broker.rows import COLUMNS, from_row
from hopd.broker.schema import check_place, connect, create_or_check, touch, translated
from hopd.broker.transaction import Writer
from hopd.errors import StoreError

#: Bytes of bodies that one `read` brings from the disk into memory, unless a single one is larger.
MAX_READ = 8 << 20

_THESE = "FROM messages WHERE id IN (SELECT value FROM json_each(?))"
_SELECT = f"SELECT {', '.join(COLUMNS)} {_THESE}"
_SIZES = f"SELECT id, length(body) {_THESE}"


class Store:
    """The store at `path`, made when it is not there; `StoreError` says why it cannot be used. One broker at a time has it open."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._batches = 0
        self._committed = 0
        self._pending = Pending()
        self._writing = Pending()
        self._handover = RLock()  # for as long as a batch is taken up, or what is pending exchanged
        self._commits = RLock()  # for as long as a commit runs
        check_place(self.path)
        self._lock = _lock(self.path)
        self._connections: list[sqlite3.Connection] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        stays_with_parent(self)

    def _open(self) -> None:
        with translated(self.path):
            touch(self.path)
            connection = self._connect()
            create_or_check(connection, self.path)
            self._writer = Writer(connection)
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self.path)
        self._connections.append(connection)
        return connection

    def load(self) -> Restored:
        """What is committed: queues with the ids of their messages, exchanges, bindings. A million ids take half a second."""
        with translated(self.path):
            return restore(self._reader)

    def submit(self, ops: Sequence[Op]) -> int:
        """Hand over the next batch; its number, counted from 1. Only remembers it: `commit` makes it durable."""
        with self._handover:
            self._batches += 1
            self._pending.add(self._batches, ops)
            return self._batches

    def commit(self) -> int:
        """Write all that was handed over; the number of the last batch that is on the disk. Blocks: for a native thread.

        `StoreError` when it cannot be written. Nothing of it is lost or in the file then, and the next commit tries again.
        """
        with self._commits, translated(self.path):
            if not self._writing.empty:
                self._write()  # what the commit before could not
            with self._handover:
                self._writing, self._pending = self._pending, Pending()
            self._write()
            return self._committed

    def _write(self) -> None:
        writing = self._writing
        if not writing.empty:
            self._writer.write(writing)
        self._committed = max(self._committed, writing.up_to)
        self._writing = Pending()

    def read(self, queue: str, ids: Sequence[int]) -> list[tuple[int, Stored | None]]:
        """The content of the first of these messages in `queue`, committed or not, in the order asked for; None for one that is gone.

        All of them, unless that is more from the disk than should come into memory at once. `StoreError` when it cannot be read,
        or is not what was written.
        """
        # In this order: what is pending is written next, and what was written is in the file before it is forgotten here.
        uncommitted = self._pending, self._writing
        found = {id_: stored for pending in reversed(uncommitted) for id_, stored in pending.find(ids)}
        with translated(self.path):
            ids = self._first(ids, found)
            rows = self._reader.execute(_SELECT, (json.dumps([id_ for id_ in ids if id_ not in found]),)).fetchall()
            found.update((row[0], from_row(row, queue)) for row in rows)
        for pending in reversed(uncommitted):
            pending.count(found)
        return [(id_, found.get(id_)) for id_ in ids]

    def _first(self, ids: Sequence[int], found: Container[int]) -> Sequence[int]:
        """As many of `ids` as may be read at once, but one at least. Those in `found` take nothing."""
        sizes = dict(self._reader.execute(_SIZES, (json.dumps([id_ for id_ in ids if id_ not in found]),)))
        room = MAX_READ
        for count, id_ in enumerate(ids):
            room -= sizes.get(id_, 0)
            if room < 0:
                return ids[: max(count, 1)]
        return ids

    def close(self) -> None:
        """Let go of the file. What was not committed is not in it."""
        with self._commits:
            for connection in self._connections:
                connection.close()
            self._lock.release()

    def leave_to_parent(self) -> None:
        """In a forked child the connections may not even be closed at its end: in the memory that both share, SQLite would undo what
        the parent is in the middle of. A reference that nobody gives back keeps them."""
        for connection in self._connections:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _lock(path: str) -> FileLock:
    try:
        return FileLock(f"{path}-lock")
    except Locked as error:
        holder = "another process" if error.pid is None else f"process {error.pid}"
        raise StoreError(f"the store {path} is in use by {holder}: stop that broker, or name another file") from error
    except OSError as error:
        raise StoreError(f"the store {path} cannot be locked, {path}-lock: {error.strerror}") from error
