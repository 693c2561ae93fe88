"""A long durable queue keeps only its head in memory, and nobody can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hopd.broker.model import Limits, Load, Message, Stored, size_of
from tests.support.pure_broker import Hand, PureBroker, message

#: Small enough that a test sees pages.
LIMITS = Limits(page_messages=10, page_bytes=1 << 20)
SIZE = message(b"0000", persistent=True).size


def bodies(first: int, last: int) -> list[bytes]:
    return [b"%04d" % number for number in range(first, last)]


def long_queue(length: int, **arguments: Any) -> Hand:
    client = PureBroker(paging=True, limits=LIMITS).channel()
    client.declare(durable=True, **arguments)
    client.publish(*bodies(0, length), persistent=True)
    return client


def test_behind_its_head_a_long_queue_holds_no_content() -> None:
    client = long_queue(100)

    assert client.broker.ready() == 100
    assert client.broker.state.memory == 10 * SIZE


def test_content_comes_back_before_it_is_needed_and_in_order() -> None:
    client = long_queue(100)

    assert client.drain() == bodies(0, 100)

    assert (client.broker.state.memory, client.broker.state.messages) == (0, 0)
    assert max(len(load.ids) for load in client.broker.loads) <= 10


def test_new_messages_stay_behind_those_on_disk() -> None:
    client = long_queue(20)
    client.prefetch(1)
    client.consume()
    for number in range(15):
        client.ack(number + 1)
        client.publish(b"%04d" % (20 + number), persistent=True)

    assert client.bodies() == bodies(0, 16)
    assert client.broker.state.memory <= 12 * SIZE


def test_transient_messages_keep_their_place_between_those_on_disk() -> None:
    client = long_queue(15)
    client.publish(b"transient")
    client.publish(*bodies(15, 40), persistent=True)
    client.publish(*[b"also transient"] * 30)

    assert client.drain() == [*bodies(0, 15), b"transient", *bodies(15, 40), *[b"also transient"] * 30]


def test_what_comes_back_is_in_front_of_what_is_on_disk() -> None:
    client = long_queue(40)
    client.prefetch(30)
    client.consume(tag="c")
    client.bodies()
    client.cancel("c")

    client.nack(25, multiple=True)

    assert client.drain() == [*bodies(0, 25), *bodies(30, 40)]


def test_a_restart_reads_the_heads_only() -> None:
    client = long_queue(100)
    client.broker.loads.clear()

    client.broker.restart()

    assert len(client.broker.loads) == 1
    assert client.broker.state.memory <= 10 * SIZE
    assert client.broker.channel().drain() == bodies(0, 100)


def test_large_messages_are_paged_by_their_bytes() -> None:
    client = PureBroker(paging=True, limits=Limits(page_messages=1000, page_bytes=100_000)).channel()
    client.declare(durable=True)
    client.publish(*[b"x" * 30_000] * 50, persistent=True)
    assert client.broker.state.memory < 150_000
    held = []

    while client.get(no_ack=True) is not None:
        held.append(client.broker.state.memory)

    assert max(held) < 250_000


def test_a_queue_that_waits_for_content_says_so() -> None:
    client = long_queue(30)
    state, now = client.broker.state, client.broker.now
    while state.get(client.channel, "q", no_ack=True, now=now) is not None:
        pass  # nobody answers the loads meanwhile

    assert state.awaits_content("q")
    assert client.broker.ready() > 0
    client.broker.pump()

    assert not state.awaits_content("q")
    assert client.get() is not None
    assert not state.awaits_content("none")


def test_a_consumer_waits_for_content_and_gets_it_when_it_comes() -> None:
    client = long_queue(30)
    state, now = client.broker.state, client.broker.now

    state.consume(client.channel, "q", "c", no_ack=False, exclusive=False, arguments={}, now=now)

    assert client.broker.ready() > 0
    client.broker.pump()
    assert client.bodies() == bodies(0, 30)


def test_what_is_published_while_content_is_on_its_way_stays_behind_it() -> None:
    client = long_queue(15)
    state, now = client.broker.state, client.broker.now
    for _ in range(10):
        state.get(client.channel, "q", no_ack=True, now=now)
    state.consume(client.channel, "q", "c", no_ack=False, exclusive=False, arguments={}, now=now)
    assert state.awaits_content("q")

    state.publish(message(b"0015", persistent=True), now)
    state.publish(message(b"0016"), now)
    client.broker.pump()

    assert client.bodies() == bodies(10, 17)


def test_an_answer_may_stop_where_it_gets_large() -> None:
    client = PureBroker(paging=True, limits=LIMITS).channel()
    client.declare(durable=True)
    client.publish(*bodies(0, 40), persistent=True)
    read = client.broker.shelf.read
    client.broker.shelf.read = lambda queue, ids: read(queue, ids)[:2]  # type: ignore[method-assign]

    assert client.drain() == bodies(0, 40)


def test_content_that_the_store_has_lost_is_passed_over() -> None:
    client = long_queue(30)
    for number in (12, 13, 29):
        del client.broker.shelf.queues["q"].messages[number + 1]
    client.consume()

    assert client.bodies() == [body for body in bodies(0, 30) if body not in (b"0012", b"0013", b"0029")]
    assert client.broker.ready() == 0
    assert client.broker.state.messages == 27


@pytest.mark.parametrize("end", [lambda client: client.purge(), lambda client: client.delete()])
def test_what_is_purged_while_it_is_on_its_way_does_not_arrive(end: Callable[[Hand], object]) -> None:
    client = long_queue(30)
    state, now = client.broker.state, client.broker.now
    for _ in range(6):
        state.get(client.channel, "q", no_ack=True, now=now)
    (load,) = [effect for effect in state.take_effects() if isinstance(effect, Load)]
    client.broker.save()
    rows = client.broker.shelf.read("q", load.ids)

    end(client)
    state.loaded("q", rows, now)

    assert (state.messages, state.memory) == (0, 0)
    client.declare(durable=True)
    client.publish(b"new", persistent=True)
    assert client.drain() == [b"new"]


def test_messages_expire_at_the_head_when_it_comes_from_the_disk() -> None:
    client = long_queue(30, x_message_ttl=5000)
    client.broker.wait(4.0)
    client.publish(b"late", persistent=True)

    client.broker.wait(1.0)

    assert client.broker.ready() == 1
    client.broker.wait(4.0)
    assert client.broker.ready() == 0


def test_a_full_queue_drops_its_head_also_from_the_disk() -> None:
    client = long_queue(40, x_max_length=25)

    assert client.drain() == bodies(15, 40)


def test_each_priority_has_pages_of_its_own() -> None:
    client = PureBroker(paging=True, limits=LIMITS).channel()
    client.declare(durable=True, x_max_priority=2)
    for body in bodies(0, 60):
        client.publish(body, persistent=True, priority=int(body) % 3)
    expected = [body for priority in (2, 1, 0) for body in bodies(0, 60) if int(body) % 3 == priority]
    client.broker.restart()
    again = client.broker.channel()

    assert again.broker.state.memory <= 30 * (SIZE + 1)  # the priority is a byte
    assert again.drain() == expected


def test_a_queue_without_a_store_pages_nothing() -> None:
    client = PureBroker(limits=LIMITS).channel()
    client.declare(durable=True)
    client.publish(*bodies(0, 50), persistent=True)

    assert client.broker.state.memory == 50 * SIZE
    assert client.drain() == bodies(0, 50)
    assert client.broker.loads == []


def test_an_answer_to_nothing_is_ignored() -> None:
    client = long_queue(5)
    content = Message("", "q", b"\0\0", b"x", True, 0, None, size_of(b"\0\0", b"x"))

    client.broker.state.loaded("q", [(77, Stored(content, None, 0))], client.broker.now)
    client.broker.state.loaded("none", [(77, None)], client.broker.now)

    assert client.drain() == bodies(0, 5)
