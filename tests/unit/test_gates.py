"""Waiting for one thing among many, which may come at any moment of it, or not in time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic

import pytest

from hopd.amqp.gates import Gates
from tests.support.waiting import wait_until


class Thing:
    """Something to wait for."""

    def __init__(self) -> None:
        self.settled = False

    def settle(self, gates: Gates) -> None:
        self.settled = True
        gates.open(self)


class Gate:
    """A gate that is shut, and where something happens just before somebody waits."""

    def __init__(self, moment: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._moment = moment

    def acquire(self) -> bool:
        self._moment()
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


@pytest.fixture
def gates() -> Iterator[Gates]:
    gates = Gates()
    yield gates
    gates.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


def soon(seconds: float = 10.0) -> float:
    return monotonic() + seconds


def keepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hopd-deadlines"]


def test_what_happens_just_before_the_wait_is_heard(gates: Gates) -> None:
    thing = Thing()
    gates._spare.append(Gate(lambda: thing.settle(gates)))  # type: ignore[arg-type]

    assert gates.wait(thing, soon())


def test_what_was_there_before_the_wait_is_seen(gates: Gates) -> None:
    thing = Thing()
    thing.settle(gates)

    assert gates.wait(thing, monotonic())


def test_each_waits_until_its_own_deadline_whoever_came_first(gates: Gates, pool: ThreadPoolExecutor) -> None:
    # Given those who wait long, and some who come later and wait less
    things = [Thing() for _ in range(3)]
    patient = [pool.submit(gates.wait, thing, soon(60)) for thing in things]
    wait_until(lambda: len(gates._shut) == 3)

    # When their time is up, then theirs alone
    hasty = [pool.submit(gates.wait, Thing(), soon(seconds)) for seconds in (0.2, 0.05, 0.1, 0.0)]
    assert [each.result(10) for each in hasty] == [False] * 4
    assert not any(each.done() for each in patient)

    # And the others go on when what they wait for is settled, in any order
    for thing, future in reversed(list(zip(things, patient, strict=True))):
        thing.settle(gates)
        assert future.result(10)


def test_a_gate_is_used_again_but_never_one_that_somebody_left_in_a_hurry(gates: Gates) -> None:
    # Given one who was interrupted, say by a signal, while it waited
    def interrupt() -> None:
        raise KeyboardInterrupt

    left = Thing()
    gates._spare.append(Gate(interrupt))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        gates.wait(left, soon())

    # When what it waited for is settled after all, then nobody else's wait ends of it
    left.settle(gates)
    assert not gates.wait(Thing(), soon(0.01))

    # And the next one waits at the gate that this one left shut
    (spare,) = gates._spare
    assert not gates.wait(Thing(), soon(0.01))
    assert gates._spare == [spare]


def test_one_thread_looks_after_all_and_ends_with_them(pool: ThreadPoolExecutor) -> None:
    # Given many that wait
    before = keepers()
    gates = Gates()
    waiting = [pool.submit(gates.wait, Thing(), soon(60)) for _ in range(20)]
    wait_until(lambda: len(gates._shut) == 20)
    assert len(keepers()) == len(before) + 1

    # When all is closed, then everybody goes on, also who comes later, and the thread is gone
    gates.close()
    assert [each.result(10) for each in waiting] == [False] * 20
    assert not gates.wait(Thing(), soon(60))
    assert keepers() == before


def test_nobody_is_forgotten_and_nobody_told_a_lie_when_many_wait_and_some_in_vain(gates: Gates, pool: ThreadPoolExecutor) -> None:
    chance = random.Random("gates")
    told: list[Future[bool]] = []
    things: list[Thing] = []
    for _ in range(100):
        # Given twenty that wait at once, half of them for a very short time
        round_ = [Thing() for _ in range(20)]
        waiting = [pool.submit(gates.wait, thing, soon(chance.choice([0.001, 60.0]))) for thing in round_]
        # When all is settled in any order, some of it just at the deadline
        for thing in chance.sample(round_, len(round_)):
            thing.settle(gates)
        wait(waiting, 10)
        told += waiting
        things += round_

    # Then each one goes on, and what it was told is what happened unless its time was up
    assert all(each.done() for each in told)
    assert sum(each.result() for each in told) >= len(told) // 2
    assert not gates._shut
