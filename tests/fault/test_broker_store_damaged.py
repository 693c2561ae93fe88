"""Bytes of the store's files are lost or overwritten: it says so, or it has everything that was committed.

Of its log a committed end can be lost without a trace, for SQLite cannot tell it from one that was never written whole: then
everything is there that was committed up to some moment, and nothing of what came after it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopd.broker.model import Bound, ExchangeDeclared, Gone, Op, QueueDeclared, Restored
from hopd.broker.store import Store
from hopd.errors import StoreError
from tests.support.stored import committed, opened, put

BATCHES, BATCH, GOING = 20, 20, 8

TOPOLOGY = (
    QueueDeclared("plain", {}, False),
    QueueDeclared("ranked", {"x-max-priority": 5, "x-max-length-bytes": 10**9}, True),
    ExchangeDeclared("exchange", "topic", False, False, {"a": 1}),
    Bound("exchange", "plain", False, "key", {}),
)

PAGE = 4096


class Written:
    """The files of a store, and what was in it after each commit: the topology, then the queue of each message by id."""

    def __init__(self, directory: Path, moments: list[tuple[Restored, dict[int, str]]]) -> None:
        self.directory = directory
        self.moments = moments

    def __repr__(self) -> str:
        return f"<Written in {self.directory}>"


def body(id_: int) -> bytes:
    chosen = random.Random(id_)
    return chosen.randbytes(chosen.choice((0, 10, 100, 1000, 9000)))


def batches() -> list[list[Op]]:
    """What is committed: messages come and go in two queues."""
    made: list[list[Op]] = []
    there: dict[int, str] = {}
    for batch in range(BATCHES):
        coming = {id_: "plain" if id_ % 3 else "ranked" for id_ in range(batch * BATCH + 1, (batch + 1) * BATCH + 1)}
        there |= coming
        going = random.Random(batch).sample(sorted(there), GOING)
        puts: list[Op] = [put(id_, body(id_), queue) for id_, queue in coming.items()]
        made.append([*puts, *(Gone(there.pop(id_), id_) for id_ in going)])
    return made


def topology(found: Restored) -> Restored:
    """What was found, without what is about messages. Only counters have no checksum: how far a queue was delivered is one."""
    for queue in found.queues:
        queue.ids, queue.priorities, queue.body_bytes, queue.delivered_up_to = [], None, 0, 0
    found.next_id = 0
    return found


def everything(store: Store) -> tuple[Restored, dict[int, str]]:
    """What is in a store: the topology, and the queue of each message, whose body is looked at."""
    found = store.load()
    there = {}
    for queue in found.queues:
        for id_, stored in store.read(queue.name, queue.ids):
            assert stored is not None
            assert stored.message.body == body(id_)
            there[id_] = queue.name
    return topology(found), there


def write(directory: Path, log: bool) -> Written:
    """A store with what `batches` has. With its `log` as a killed process leaves it, else closed in order."""
    directory.mkdir()
    with opened(directory / "hopd.store") as store:
        moments = [everything(store)]
        for ops in (TOPOLOGY, *batches()):
            committed(store, *ops)
            moments.append(everything(store))
        if log:
            shutil.copytree(directory, directory / "killed", ignore=lambda _directory, _names: ["killed"])
    return Written(directory / "killed" if log else directory, moments)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("closed") / "store", log=False)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("killed") / "store", log=True)


# --- damage -------------------------------------------------------------------------------------


def cut(file: bytearray, at: int, _junk: bytes) -> None:
    """The end is lost, but not all: an empty file is one that was never written, and SQLite takes one of a single byte for empty."""
    del file[max(at, 2) :]


def overwrite(file: bytearray, at: int, junk: bytes) -> None:
    """Something else was written there."""
    file[at : at + len(junk)] = junk


def flip(file: bytearray, at: int, junk: bytes) -> None:
    """Single bits turn, here and there."""
    for step, byte in enumerate(junk[:10]):
        file[(at + step * 7919 * byte) % len(file)] ^= 1 << byte % 8


def blank(file: bytearray, at: int, _junk: bytes) -> None:
    """A page of the database never reached the disk."""
    start = at // PAGE * PAGE
    file[start : start + PAGE] = bytes(len(file[start : start + PAGE]))


def swap(file: bytearray, at: int, junk: bytes) -> None:
    """Two pages lie in each other's place."""
    first, second = at // PAGE * PAGE, len(junk) * 31 % max(1, len(file) // PAGE) * PAGE
    file[first : first + PAGE], file[second : second + PAGE] = file[second : second + PAGE], file[first : first + PAGE]


def lengthen(file: bytearray, _at: int, junk: bytes) -> None:
    """There is more than was written."""
    file += junk * 50


Damage = Callable[[bytearray, int, bytes], None]

DAMAGE = {
    "how": st.sampled_from([cut, overwrite, flip, blank, swap, lengthen]),
    "where": st.floats(0, 1, exclude_max=True),
    "junk": st.binary(min_size=1, max_size=200),
}


def what_is_left(written: Written, directory: Path, name: str, how: Damage, where: float, junk: bytes) -> Any:
    """What is found in a store of which one file was damaged; None when it is refused with a reason."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(written.directory, directory)
    file = directory / name
    content = bytearray(file.read_bytes())
    how(content, int(where * len(content)), junk)
    file.write_bytes(content)
    with contextlib.suppress(StoreError), opened(directory / "hopd.store") as store:
        found = everything(store)
        # It can be written as well: whatever a commit touches is whole, or is said not to be.
        all_gone = [Gone(queue, id_) for id_, queue in found[1].items()]
        committed(store, QueueDeclared("new", {}, False), put(100_000, queue="new"), *all_gone)
        return found
    return None


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "store"


@settings(max_examples=100)
@given(**DAMAGE)
def test_a_damaged_database_is_refused_or_gives_everything(
    closed: Written, directory: Path, how: Damage, where: float, junk: bytes
) -> None:
    assert what_is_left(closed, directory, "hopd.store", how, where, junk) in (None, closed.moments[-1])


@settings(max_examples=100)
@given(**DAMAGE)
def test_a_damaged_log_is_refused_or_gives_everything_up_to_a_commit(
    killed: Written, directory: Path, how: Damage, where: float, junk: bytes
) -> None:
    assert what_is_left(killed, directory, "hopd.store-wal", how, where, junk) in (None, *killed.moments)


@settings(max_examples=30)
@given(name=st.sampled_from(["hopd.store-shm", "hopd.store-lock"]), **DAMAGE)
def test_files_that_only_help_may_hold_anything(
    killed: Written, directory: Path, name: str, how: Damage, where: float, junk: bytes
) -> None:
    assert what_is_left(killed, directory, name, how, where, junk) == killed.moments[-1]


def test_the_log_is_what_most_was_in(killed: Written) -> None:
    assert os.path.getsize(killed.directory / "hopd.store-wal") > 100 * PAGE
