"""The database of the store: its tables, its settings, and what keeps a file from being one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from hopd.broker.rows import Damaged
from hopd.errors import StoreError

#: Marks the file as hopd's ("hopd" in ASCII), so that no other program's database is ever taken for it.
APPLICATION_ID = 0x686F7064

#: Of the tables below. A file with a higher one was written by a newer hopd.
VERSION = 1

#: A message keeps its place by its id, which is the row's own number: new ones go to the end. The index makes the ids of a queue
#: known without reading a single body. `arguments` are AMQP tables as on the wire, times are seconds since 1970.
_TABLES = """
CREATE TABLE queues (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE, auto_delete INTEGER, arguments BLOB, checksum INTEGER, delivered_up_to INTEGER
);
CREATE TABLE exchanges (name TEXT PRIMARY KEY, kind TEXT, auto_delete INTEGER, internal INTEGER, arguments BLOB, checksum INTEGER)
WITHOUT ROWID;
CREATE TABLE bindings (
    source TEXT, destination TEXT, to_exchange INTEGER, key TEXT, arguments BLOB, checksum INTEGER,
    PRIMARY KEY (source, destination, to_exchange, key, arguments)
) WITHOUT ROWID;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER, priority INTEGER, expires_at REAL,
    exchange TEXT, routing_key TEXT, expiration REAL, properties BLOB, body BLOB, checksum INTEGER, delivery_count INTEGER
);
CREATE INDEX messages_by_queue ON messages (queue);
"""

#: The log in front of the database goes back to this size after a burst. Bytes.
_LOG_LIMIT = 64 * 1024 * 1024

#: A database of up to this size is looked through at start, which takes it 0.2 s; a larger one only as it is read. Bytes.
_CHECKED = 64 * 1024 * 1024

#: Statements a connection keeps compiled: those of the store, and inserts of a few sizes, of which each may take 200 kB.
_STATEMENTS = 32


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Whatever SQLite and the operating system say about the store at `path` becomes a `StoreError` with what to do about it."""
    try:
        yield
    except (sqlite3.Error, MemoryError, Damaged) as error:  # a size that was overwritten can ask for any amount of memory
        raise StoreError(f"the store {path} {_trouble(error)}") from error
    except OSError as error:
        raise StoreError(f"the store {path} cannot be used: {error.strerror or error}") from error


def _trouble(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "not a database" in text:
        return f"is no store, or a damaged one ({text}): name another file, or restore this one from a copy"
    if "malformed" in text or isinstance(error, Damaged):
        return f"is damaged ({text}): restore it from a copy, or move it away and begin with a new one"
    if "disk is full" in text:
        return "cannot be written, the disk is full: make room"
    return f"cannot be read or written: {text}"


def check_place(path: str) -> None:
    """`StoreError` when there can be no file at `path`."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise StoreError(f"the directory {directory} for the store does not exist: create it, or name another place")
    if os.path.isdir(path):
        raise StoreError(f"the store {path} is a directory: name a file, for example {os.path.join(path, 'hopd.store')}")


def touch(path: str) -> None:
    """Make sure of a file at `path`, its owner's alone if it is new, that can be written. Not while the store is open: see `FileLock`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def connect(path: str) -> sqlite3.Connection:
    """A connection, to be used by any one thread at a time. Transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS)
    try:
        # A commit is on the disk when it returns: FULL makes the log's fsync part of it.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
        connection.execute("PRAGMA secure_delete = FAST")  # Debian's SQLite overwrites what is deleted: as much writing again
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def create_or_check(connection: sqlite3.Connection, path: str) -> None:
    """Give an empty database our tables; `StoreError` when it is not empty and not one of ours, or newer than this hopd."""
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application == 0 and version == 0 and _pragma(connection, "schema_version") == 0:
        # Has to be said before the first table: pages that became free can then be given back a few at a time.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;")
    elif application != APPLICATION_ID:
        raise StoreError(f"the store {path} is another program's database: name another file")
    elif version > VERSION:
        raise StoreError(
            f"the store {path} was written by a newer hopd (format {version}, this one knows up to {VERSION}): "
            "run that hopd, or name another file"
        )
    _log_ahead(connection)
    _check_whole(connection)


def _check_whole(connection: sqlite3.Connection) -> None:
    """A row says itself whether it is damaged, but one that an overwritten index does not show is just not there."""
    if _pragma(connection, "page_count") * _pragma(connection, "page_size") <= _CHECKED:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise Damaged(found)


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Only with its log in front of the database does SQLite let one thread read what another adds to."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"it is on a file system without shared memory (journal mode {mode})")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
