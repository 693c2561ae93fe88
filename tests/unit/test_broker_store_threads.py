"""The hub reads and hands over while a thread commits; neither waits for the other, and a forked child disturbs neither."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from time import thread_time

import pytest

from hopd.broker.model import Gone
from hopd.broker.store import Store
from tests.support.process import ROOT
from tests.support.stored import DECLARED, QUEUE, bodies, committed, ids, opened, put

BATCHES, BATCH = 300, 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hopd.store"


def test_no_message_is_out_of_sight_while_it_is_written(path: Path) -> None:
    over = threading.Event()
    failures: list[BaseException] = []

    def keep_committing(store: Store) -> None:
        try:
            while not over.is_set():
                store.commit()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    with opened(path) as store:
        committed(store, DECLARED)
        threads = [threading.Thread(target=keep_committing, args=(store,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            # When batches are handed over, and half of each batch goes again, while two threads commit
            for batch in range(BATCHES):
                first = batch * BATCH + 1
                store.submit([put(id_, b"%d" % id_) for id_ in range(first, first + BATCH)])
                # Then each message is there at any time
                wanted = range(max(1, first - 2 * BATCH), first + BATCH)
                assert bodies(store, wanted) == {id_: None if id_ % 2 and id_ < first else b"%d" % id_ for id_ in wanted}
                store.submit([Gone(QUEUE, id_) for id_ in range(first, first + BATCH) if id_ % 2])
        finally:
            over.set()
            for thread in threads:
                thread.join()
        store.commit()
        assert failures == []
        assert ids(store.load()) == [id_ for id_ in range(1, BATCHES * BATCH + 1) if id_ % 2 == 0]


#: A hub that is patched, and a commit that waits for another connection's lock on the database in a thread of gevent's pool.
IN_A_HUB = """
from gevent import monkey
monkey.patch_all()
import sqlite3, sys
import gevent
from tests.support.stored import DECLARED, QUEUE, bodies, opened, put
from pathlib import Path

turns = 0

def turn():
    global turns
    while True:
        gevent.sleep(0.001)
        turns += 1

with opened(Path(sys.argv[1])) as store:
    pool = gevent.get_hub().threadpool
    store.submit([DECLARED, put(1, b"one")])
    pool.apply(store.commit)
    blocker = sqlite3.connect(sys.argv[1], isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    gevent.spawn(turn)

    # Two commits at once, of which the second waits for the first.
    store.submit([put(2, b"two")])
    commits = [pool.spawn(store.commit) for _ in range(2)]
    while turns < 20:
        gevent.sleep(0.001)
    assert not any(commit.ready() for commit in commits)
    number = store.submit([put(3, b"three")])
    assert bodies(store, [1, 2, 3]) == {1: b"one", 2: b"two", 3: b"three"}
    blocker.execute("COMMIT")
    assert sorted(commit.get() for commit in commits) in ([number - 1, number], [number, number])
    blocker.close()
    print("done")
"""


def test_a_patched_hub_goes_on_while_a_commit_waits_in_a_thread(path: Path) -> None:
    assert run(IN_A_HUB, path) == "done\n"


#: A child that ends in order, its parent being in the middle of a transaction larger than SQLite's cache.
FORKING = """
import os, sys
from pathlib import Path
from hopd.broker.store import Store
from tests.support.stored import DECLARED, bodies, committed, ids, opened, put

store = Store(sys.argv[1])
committed(store, DECLARED, *(put(id_, b"x" * 500) for id_ in range(1, 500)))
writer = store._writer
writer._execute("PRAGMA cache_size = 10")
writer._execute("BEGIN IMMEDIATE")
writer._put([put(id_, b"y" * 500) for id_ in range(500, 2000)])
child = os.fork()
if child == 0:
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
writer._put([put(id_, b"z" * 500) for id_ in range(2000, 3000)])
writer._execute("COMMIT")
assert writer._execute("PRAGMA integrity_check").fetchall() == [("ok",)]
assert ids(store.load()) == list(range(1, 3000))
assert None not in bodies(store, range(1, 3000)).values()
store.close()
print("done")
"""


def test_a_forked_child_leaves_what_its_parent_writes_alone(path: Path) -> None:
    assert run(FORKING, path) == "done\n"


def run(code: str, path: Path) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_commit_of_a_hundred_messages_costs_little(path: Path) -> None:
    costs = []
    with opened(path) as store:
        committed(store, DECLARED)
        for batch in range(100):
            store.submit([put(batch * 100 + each, b"x" * 100) for each in range(1, 101)])
            before = thread_time()
            store.commit()
            costs.append(thread_time() - before)

    # CPU seconds: what the disk takes comes on top.
    assert sorted(costs)[len(costs) // 2] < 0.005
