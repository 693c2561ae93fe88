"""The store's files do not grow for ever, whatever came and went."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopd.broker.model import Gone
from hopd.broker.store import Store
from tests.support.stored import DECLARED, QUEUE, bodies, committed, opened, put

#: Messages in a batch, and bytes in each.
BATCH, SIZE = 500, 1000

MEGABYTE = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hopd.store"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with opened(path) as store:
        committed(store, DECLARED)
        yield store


def fill(store: Store, batches: range) -> None:
    for batch in batches:
        committed(store, *(put(id_, os.urandom(SIZE)) for id_ in range(batch * BATCH + 1, (batch + 1) * BATCH + 1)))


def empty(store: Store, batches: range) -> None:
    for batch in batches:
        committed(store, *(Gone(QUEUE, id_) for id_ in range(batch * BATCH + 1, (batch + 1) * BATCH + 1)))


def log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_the_place_of_messages_that_are_gone_is_used_again(store: Store, path: Path) -> None:
    for batch in range(40):
        fill(store, range(batch, batch + 1))
        empty(store, range(batch, batch + 1))

    # 20 MB went through.
    assert path.stat().st_size < 3 * MEGABYTE


def test_the_log_in_front_of_the_database_stays_small(store: Store, path: Path) -> None:
    sizes = []
    for batch in range(40):
        fill(store, range(batch, batch + 1))
        sizes.append(log(path).stat().st_size)

    assert max(sizes) < 8 * MEGABYTE


def test_a_file_that_became_much_too_large_is_given_back_bit_by_bit(store: Store, path: Path) -> None:
    # Given a full store that was emptied again, but for its last messages
    fill(store, range(50))
    full = path.stat().st_size
    assert full > 25 * MEGABYTE
    empty(store, range(49))

    # When little goes on, and the log is written into the database now and then
    for batch in range(300):
        committed(store, put(1_000_000 + batch, b"x" * 20_000), Gone(QUEUE, 1_000_000 + batch - 1))

    # Then most of the file is gone, and nothing that was in it
    assert path.stat().st_size < full / 2
    kept = bodies(store, range(49 * BATCH + 1, 50 * BATCH + 1))
    assert None not in kept.values()
    assert len(set(kept.values())) == BATCH
