"""The broker's store: what was committed is there again, what was not is not, and both can be read meanwhile."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopd.broker.model import (
    Bound,
    Counted,
    DeliveredUpTo,
    ExchangeDeclared,
    ExchangeDeleted,
    Gone,
    Message,
    PutMessage,
    QueueDeclared,
    QueueDeleted,
    QueuePurged,
    Restored,
    Stored,
    Unbound,
)
from hopd.broker.store import MAX_READ, Store
from tests.support.stored import DECLARED, QUEUE, bodies, committed, content, ids, message, opened, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hopd.store"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A store with a queue in it."""
    with opened(path) as store:
        committed(store, DECLARED)
        yield store


def again(path: Path) -> Restored:
    """What another broker finds at `path`."""
    with opened(path) as store:
        return store.load()


# --- messages -----------------------------------------------------------------------------------


def test_a_new_store_is_empty_and_the_business_of_its_user_alone(path: Path) -> None:
    assert again(path) == Restored()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_committed_message_is_there_again_with_all_that_belongs_to_it(path: Path) -> None:
    # Given a message with everything, and one with nothing
    whole = Message("an exchange", "key.\N{SNOWMAN}\0", b"\x81\x00\x04text\x07", bytes(range(256)), True, 7, 1.5, 999)
    bare = Message("", "", b"", b"", True, 0, None, 512)
    with opened(path) as store:
        committed(store, DECLARED, PutMessage(QUEUE, 3, whole, 1_800_000_000.125, 2), PutMessage(QUEUE, 9, bare, None))

    # When the store is opened again
    with opened(path) as store:
        assert ids(store.load()) == [3, 9]
        found = dict(store.read(QUEUE, [3, 9]))

    # Then they are as they were, but for their size in memory, which is counted anew
    whole.size = 512 + len(whole.properties) + len(whole.body)
    assert content(found[3]) == content(Stored(whole, 1_800_000_000.125, 2))
    assert content(found[9]) == content(Stored(bare, None, 0))


def test_what_was_not_committed_is_not_there(path: Path, store: Store) -> None:
    committed(store, put(1))
    store.submit([put(2)])
    store.close()

    assert ids(again(path)) == [1]


def test_messages_are_read_before_and_after_they_are_committed_in_the_order_asked_for(store: Store) -> None:
    committed(store, put(1, b"one"), put(2, b"two"))
    store.submit([put(3, b"three")])
    before = store.read(QUEUE, [3, 1, 2])
    store.commit()

    assert [(id_, stored and stored.message.body) for id_, stored in before] == [(3, b"three"), (1, b"one"), (2, b"two")]
    assert bodies(store, [3, 1, 2]) == {3: b"three", 1: b"one", 2: b"two"}


def test_a_message_that_is_gone_is_read_as_none_also_before_that_is_committed(store: Store) -> None:
    committed(store, put(1), put(2))
    store.submit([Gone(QUEUE, 1)])
    assert bodies(store, [1, 2, 77]) == {1: None, 2: b"", 77: None}

    store.commit()
    assert bodies(store, [1, 2, 77]) == {1: None, 2: b"", 77: None}
    assert ids(store.load()) == [2]


def test_a_message_that_came_and_went_before_a_commit_is_never_written(store: Store) -> None:
    store.submit([put(1), put(2)])
    store.submit([Gone(QUEUE, 1), Gone(QUEUE, 2)])
    assert store.commit() == 3

    # The store numbers on from the highest id that ever was in it.
    assert store.load().next_id == 1


def test_one_commit_writes_all_batches_that_wait_and_tells_the_last(path: Path, store: Store) -> None:
    first = store.submit([put(1)])
    second = store.submit([put(2)])

    assert (first, second, store.commit()) == (2, 3, 3)
    assert store.commit() == 3
    store.close()
    assert ids(again(path)) == [1, 2]


def test_a_commit_has_sqlite_wait_until_its_log_is_on_the_disk(store: Store) -> None:
    (writer, _reader) = store._connections

    # Its FULL. What less would lose is lost by a power failure alone, which no test of ours can cause.
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_more_messages_than_one_statement_takes_are_written_and_deleted(path: Path, store: Store) -> None:
    everything = range(1, 1001)
    committed(store, *(put(id_, b"%d" % id_) for id_ in everything))
    assert bodies(store, everything) == {id_: b"%d" % id_ for id_ in everything}

    committed(store, *(Gone(QUEUE, id_) for id_ in everything if id_ % 3))
    store.close()
    assert ids(again(path)) == [id_ for id_ in everything if id_ % 3 == 0]


def test_not_more_is_read_at_once_than_should_come_into_memory(store: Store) -> None:
    half = bytes(MAX_READ // 2)
    committed(store, put(1, half), put(2), put(3, half), put(4, b"x"), put(5, half + half + half), put(6))
    store.submit([put(7, half), put(8, half), put(9, half)])

    def read(*wanted: int) -> list[int]:
        return list(bodies(store, wanted))

    assert read(1, 2, 3, 4, 5, 6) == [1, 2, 3]
    assert read(4, 5, 6) == [4]
    assert read(5, 6) == [5]  # too large, but somebody has to get it
    assert read(6, 7, 8, 9, 77, 1, 3) == [6, 7, 8, 9, 77, 1, 3]  # what is not written yet is in memory anyway


def test_a_delivery_count_is_kept_wherever_its_message_is(path: Path, store: Store) -> None:
    committed(store, put(1), put(2))
    store.submit([put(3), Counted(QUEUE, 1, 4), Counted(QUEUE, 3, 5)])

    def counts(of: Store) -> list[int]:
        return [stored.delivery_count for _id, stored in of.read(QUEUE, [1, 2, 3]) if stored]

    assert counts(store) == [4, 0, 5]
    store.commit()
    assert counts(store) == [4, 0, 5]
    store.close()
    with opened(path) as later:
        assert counts(later) == [4, 0, 5]


def test_counting_a_message_that_is_gone_does_not_bring_it_back(store: Store) -> None:
    committed(store, put(1))
    store.submit([Counted(QUEUE, 1, 1), put(2), Counted(QUEUE, 2, 1)])
    committed(store, Gone(QUEUE, 1), Gone(QUEUE, 2))

    assert bodies(store, [1, 2]) == {1: None, 2: None}


def test_ids_are_never_used_again_even_when_the_highest_message_is_gone(path: Path, store: Store) -> None:
    committed(store, put(41))
    committed(store, Gone(QUEUE, 41))
    store.close()

    assert again(path).next_id == 42


def test_an_id_that_was_delivered_is_not_used_again_though_its_message_was_never_written(path: Path, store: Store) -> None:
    committed(store, put(41), Gone(QUEUE, 41), DeliveredUpTo(QUEUE, 41))
    store.close()

    assert again(path).next_id == 42


def test_how_far_a_queue_was_delivered_is_kept(path: Path, store: Store) -> None:
    committed(store, put(1), put(2), DeliveredUpTo(QUEUE, 1))
    store.submit([DeliveredUpTo(QUEUE, 2)])
    store.commit()
    store.close()

    (queue,) = again(path).queues
    assert queue.delivered_up_to == 2


def test_a_queue_with_priorities_finds_those_of_its_messages(path: Path, store: Store) -> None:
    committed(store, QueueDeclared("urgent", {"x-max-priority": 9}, False))
    committed(store, *(PutMessage("urgent", id_, message(priority=priority), None) for id_, priority in [(5, 9), (6, 0), (7, 200)]))
    store.close()

    plain, urgent = again(path).queues
    assert plain.priorities is None
    assert (urgent.ids, list(urgent.priorities or ())) == ([5, 6, 7], [9, 0, 200])


def test_a_queue_with_a_bound_in_bytes_finds_how_many_it_has(path: Path, store: Store) -> None:
    committed(store, QueueDeclared("bounded", {"x-max-length-bytes": 100}, False), put(1, b"12345", "bounded"), put(2, b"678", "bounded"))
    committed(store, put(3, b"elsewhere"), QueueDeclared("empty", {"x-max-length-bytes": 100}, False))
    store.close()

    assert [queue.body_bytes for queue in again(path).queues] == [0, 8, 0]


# --- queues, exchanges, bindings ----------------------------------------------------------------


def test_queues_exchanges_and_bindings_are_there_again(path: Path) -> None:
    arguments = {"x-max-length": 5, "x-queue-type": "quorum", "nested": {"list": [1, True, None, b"\xff", 2.5]}, b"\xff": "raw key"}
    queue = QueueDeclared("a queue", arguments, True)
    exchange = ExchangeDeclared("an exchange", "topic", True, True, arguments)
    bound = Bound("an exchange", "a queue", False, "a.#", arguments)
    onward = Bound("amq.topic", "an exchange", True, "", {})
    with opened(path) as store:
        committed(store, queue, exchange, bound, onward)

    found = again(path)

    assert [(each.name, each.arguments, each.auto_delete) for each in found.queues] == [("a queue", arguments, True)]
    assert found.exchanges == [exchange]
    assert sorted(found.bindings, key=lambda each: each.source) == [onward, bound]


def test_a_deleted_queue_takes_its_messages_and_bindings_along(path: Path, store: Store) -> None:
    # Given a queue, another one, and an exchange that has its name
    kept = [Bound("amq.direct", "other", False, QUEUE, {}), Bound("amq.topic", QUEUE, True, "", {})]
    committed(store, ExchangeDeclared(QUEUE, "fanout", False, False, {}), QueueDeclared("other", {}, False))
    committed(store, *kept, Bound("amq.direct", QUEUE, False, "", {}), put(1), put(2, queue="other"))
    store.submit([put(3), Counted(QUEUE, 3, 1), DeliveredUpTo(QUEUE, 3)])
    committed(store, QueueDeleted(QUEUE))
    store.close()

    found = again(path)
    assert [(queue.name, queue.ids) for queue in found.queues] == [("other", [2])]
    assert found.bindings == kept


def test_a_queue_of_the_same_name_begins_anew(path: Path, store: Store) -> None:
    committed(store, put(1), DeliveredUpTo(QUEUE, 1))
    store.submit([put(2), QueueDeleted(QUEUE), QueueDeclared(QUEUE, {"x-expires": 1000}, False), put(3)])
    store.commit()
    store.close()

    (queue,) = again(path).queues
    assert (queue.arguments, queue.ids, queue.delivered_up_to) == ({"x-expires": 1000}, [3], 0)


def test_a_purge_spares_what_is_not_settled_whether_committed_or_not(path: Path, store: Store) -> None:
    committed(store, put(1), put(2), QueueDeclared("other", {}, False), put(3, queue="other"))
    store.submit([put(4), put(5), put(6, queue="other"), QueuePurged(QUEUE, [2, 5]), put(7)])
    store.commit()
    store.close()

    found = again(path)
    assert (ids(found), ids(found, "other")) == ([2, 5, 7], [3, 6])


def test_a_deleted_exchange_takes_the_bindings_from_and_to_it_along(path: Path, store: Store) -> None:
    # Given an exchange, and a queue that has its name
    committed(store, QueueDeclared("x", {}, False), *(ExchangeDeclared(name, "direct", False, False, {}) for name in "xy"))
    kept = Bound("y", "x", False, "", {})
    committed(store, Bound("x", QUEUE, False, "", {}), Bound("y", "x", True, "", {}), kept)

    committed(store, ExchangeDeleted("x"))
    store.close()

    found = again(path)
    assert [exchange.name for exchange in found.exchanges] == ["y"]
    assert found.bindings == [kept]


def test_bindings_that_differ_in_one_thing_are_different_ones(path: Path, store: Store) -> None:
    first = ("amq.headers", QUEUE, False, "key", {"a": 1, "b": 2})
    others = [
        Bound("amq.topic", *first[1:]),
        Bound(first[0], QUEUE, False, "other", first[4]),
        Bound(*first[:4], {"a": 1}),
        Bound(first[0], QUEUE, True, "key", first[4]),
    ]
    committed(store, Bound(*first), *others)

    # The order of arguments makes no difference.
    committed(store, Unbound(*first[:4], {"b": 2, "a": 1}))
    store.close()

    found = again(path).bindings
    assert len(found) == 4
    assert all(each in found for each in others)
