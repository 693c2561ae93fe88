"""What cannot be a store is refused with a reason, and left as it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit

import psutil
import pytest

from hopd.broker import schema
from hopd.broker.filelock import FileLock, Locked
from hopd.broker.model import Gone, QueueDeclared, QueueDeleted
from hopd.broker.store import Store
from hopd.errors import StoreError
from tests.support.process import ROOT, Processes
from tests.support.stored import DECLARED, bodies, committed, ids, opened, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hopd.store"


def refused(path: Path) -> str:
    """Why `path` cannot be used."""
    with pytest.raises(StoreError) as caught:
        Store(str(path))
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- files that are none ------------------------------------------------------------------------


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory: name a file" in refused(tmp_path)


def test_a_place_in_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"the directory {tmp_path}/none for the store does not exist"):
        Store(str(tmp_path / "none" / "hopd.store"))


@pytest.mark.parametrize("content", [b"jobs: none\n", b"SQLite format 3\0" + b"\xff" * 4096, b"x" * 10_000])
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    assert "is no store, or a damaged one (file is not a database): name another file" in refused(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_the_database_of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE messages (id)")
    before = path.read_bytes()

    assert "is another program's database: name another file" in refused(path)
    assert path.read_bytes() == before


def test_a_store_that_a_newer_hopd_wrote(path: Path) -> None:
    with opened(path) as store:
        committed(store, DECLARED)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")

    assert f"a newer hopd (format {schema.VERSION + 1}, this one knows up to {schema.VERSION})" in refused(path)


def test_a_store_whose_index_was_overwritten(path: Path) -> None:
    with opened(path) as store:
        committed(store, DECLARED, *(put(id_) for id_ in range(1, 50)))
    with closing(sqlite3.connect(path)) as other:
        (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages_by_queue'").fetchone()
    content = bytearray(path.read_bytes())
    content[page * 4096 - 1] ^= 1  # the first message's id, at the end of its page
    path.write_bytes(content)

    assert "is damaged (row 1 missing from index messages_by_queue)" in refused(path)


def test_a_file_that_was_made_and_never_written_becomes_a_store(path: Path) -> None:
    path.touch()

    with opened(path) as store:
        committed(store, DECLARED, put(1))


def test_a_name_that_points_to_a_store_is_that_store(path: Path) -> None:
    with opened(path) as store:
        committed(store, DECLARED, put(1))
    other = path.with_name("link")
    other.symlink_to(path.name)

    with opened(other) as store:
        assert ids(store.load()) == [1]
        assert f"in use by process {os.getpid()}" in refused(path)


# --- places that cannot be written ---------------------------------------------------------------

WITHOUT_RIGHTS = """
import os, sys
from hopd.broker.store import Store
from hopd.errors import StoreError
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    Store(sys.argv[1])
except StoreError as error:
    print(error)
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def refused_without_rights(path: Path) -> str:
    """What a process that may do nothing special is told about `path`."""
    command = [sys.executable, "-c", WITHOUT_RIGHTS, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_directory_that_cannot_be_written(open_directory: Path) -> None:
    open_directory.chmod(0o555)

    told = refused_without_rights(open_directory / "hopd.store")

    assert told == f"the store {open_directory}/hopd.store cannot be locked, {open_directory}/hopd.store-lock: Permission denied\n"


def test_a_file_that_cannot_be_written(open_directory: Path) -> None:
    path = open_directory / "hopd.store"
    with opened(path) as store:
        committed(store, DECLARED)
    open_directory.chmod(0o777)
    path.chmod(0o444)

    assert refused_without_rights(path) == f"the store {path} cannot be used: Permission denied\n"
    assert os.listdir(open_directory) == ["hopd.store"]


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes."""
    limits = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, limits)


def test_a_commit_that_finds_no_room_reports_nothing_and_the_next_one_makes_up_for_it(path: Path) -> None:
    with opened(path) as store:
        committed(store, DECLARED, put(1, b"before"), QueueDeclared("old", {}, False))

        # Given two batches for which there is no room
        with files_at_most(20_000):
            store.submit([QueueDeleted("old"), QueueDeclared("new", {}, False), put(2, b"large" * 10_000)])
            for _ in range(2):
                with pytest.raises(StoreError, match=f"the store {path} cannot be read or written: disk I/O error"):
                    store.commit()
                later = store.submit([put(3, b"later"), Gone("tasks", 1)])
            # Then they can be read all the same
            assert bodies(store, [1, 2, 3]) == {1: None, 2: b"large" * 10_000, 3: b"later"}

        # When there is room again, all of it is written
        assert store.commit() == later
    with opened(path) as store:
        found = store.load()
        assert {queue.name: queue.ids for queue in found.queues} == {"tasks": [2, 3], "new": []}


def test_a_commit_that_fails_leaves_nothing_half_done(path: Path) -> None:
    with opened(path) as store:
        committed(store, DECLARED, put(2))
        store.submit([QueueDeclared("other", {}, False), put(1), put(2), put(3)])
        with pytest.raises(StoreError, match="UNIQUE constraint failed"):
            store.commit()

        # Others may write, and see nothing of it
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert other.execute("SELECT id FROM messages").fetchall() == [(2,)]
            assert other.execute("SELECT name FROM queues").fetchall() == [("tasks",)]


def test_a_full_disk_is_told_as_such(path: Path) -> None:
    with opened(path) as store:
        committed(store, DECLARED)
        (writer, _reader) = store._connections
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        number = store.submit([put(1, b"large" * 10_000)])
        with pytest.raises(StoreError, match="cannot be written, the disk is full: make room"):
            store.commit()

        writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
        assert store.commit() == number
        assert ids(store.load()) == [1]


# --- one broker at a time -----------------------------------------------------------------------


def test_a_store_that_another_process_has_open(path: Path, processes: Processes) -> None:
    code = "import sys, time; from hopd.broker.store import Store; store = Store(sys.argv[1]); print('open', flush=True); time.sleep(600)"
    other = processes.python("-c", code, str(path))
    other.wait_for("open")

    assert f"in use by process {other.pid}: stop that broker, or name another file" in refused(path)

    # When it is killed, which leaves its lock's file
    other.kill()
    other.wait()
    assert path.with_name("hopd.store-lock").exists()

    # Then the store is free
    with opened(path):
        assert f"in use by process {os.getpid()}" in refused(path)
    assert not path.with_name("hopd.store-lock").exists()


def test_the_holder_of_a_lock_need_not_be_known(path: Path) -> None:
    with opened(path):
        path.with_name("hopd.store-lock").write_bytes(b"")

        assert "in use by another process" in refused(path)


def test_a_lock_whose_file_was_taken_away_and_made_by_another_is_that_ones(path: Path) -> None:
    first = FileLock(str(path))
    path.unlink()
    second = FileLock(str(path))
    first.release()

    with pytest.raises(Locked):
        FileLock(str(path))
    second.release()
    assert not path.exists()


def test_a_lock_ends_with_its_process_though_a_child_lives_on(path: Path, processes: Processes) -> None:
    # Given a process with a child that it forked
    code = """
import os, sys, time
from hopd.broker.store import Store
store = Store(sys.argv[1])
if os.fork() == 0:
    print("child", os.getpid(), flush=True)  # by itself: it has what it does after a fork behind it
time.sleep(600)
"""
    parent = processes.python("-c", code, str(path))
    child = int(parent.wait_for(r"child (\d+)")[1])

    parent.kill()
    parent.wait()

    assert psutil.pid_exists(child)
    with opened(path) as store:
        committed(store, DECLARED)
    psutil.Process(child).kill()
