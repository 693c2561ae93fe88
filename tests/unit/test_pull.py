"""Pulling against a broker whose deliveries come when the test says so."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from hopd import pull as pull_module
from hopd.amqp.settlement import Settlement
from hopd.amqp.wire import Delivery
from hopd.errors import (
    BrokerError,
    BrokerRefused,
    BrokerTimeout,
    BrokerUnreachable,
    ChannelLost,
    ConnectionLost,
    PullTimeout,
    WorkQueueClosed,
)
from hopd.pull import AHEAD, Puller
from tests.support.waiting import wait_until


class FakeChannel:
    """A channel with consumers of a prefetch of 1."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.settlement = Settlement(1, lambda _settlement: None, ack_window=0.0)
        self.lost: BrokerError | None = None
        self.abandoned = False
        self.tags: list[str] = []
        self.refusal: BrokerError | None = None
        self._number = 0
        self._on_delivery: Callable[[Delivery], None]
        self._on_lost: Callable[[BrokerError], None] = lambda _reason: None

    def qos(self, prefetch: int, _deadline: float) -> None:
        assert prefetch == 1

    def consume(self, _queue: str, tag: str, on_delivery: Callable[[Delivery], None], _deadline: float) -> None:
        if self.refusal is not None:
            raise self.refusal
        self._on_delivery = on_delivery
        self.tags.append(tag)

    def consume_soon(self, _queue: str, tag: str) -> None:
        self.tags.append(tag)

    def cancel_soon(self, tag: str) -> None:
        self.tags.remove(tag)

    def on_lost(self, callback: Callable[[BrokerError], None]) -> None:
        self._on_lost = callback

    def abandon(self) -> None:
        self.abandoned = True
        self.settlement.close()

    # --- the broker's side --------------------------------------------------------------------

    def deliver(self, body: bytes, tag: str | None = None) -> Delivery:
        """A delivery to the consumer, the first one unless said otherwise."""
        name = (tag or self.tags[0]).encode()
        with self._lock:
            self._number += 1
            method = bytes((len(name),)) + name + struct.pack(">QB", self._number, 0) + b"\x00\x01q"
            delivery = Delivery(1, self._number, False, method, b"\x00\x00", body)
            delivery.settlement = self.settlement
            self.settlement.opened(self._number)
            self._on_delivery(delivery)
        return delivery

    def lose(self, reason: BrokerError) -> None:
        with self._lock:
            self.lost = reason
            self.settlement.close()
            self._on_lost(reason)


class FakeConnection:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.channels: list[FakeChannel] = []
        self.prepare: Callable[[FakeChannel], None] = lambda _channel: None
        self.asked: list[Any] = []  # by the writer

    def wake(self, speaker: Any) -> None:
        self.asked.append(speaker)

    def channel(self, _deadline: float, *, ack_window: float) -> FakeChannel:
        channel = FakeChannel(self.lock)
        self.prepare(channel)
        self.channels.append(channel)
        return channel


class Bench:
    """A puller, its link and what was declared."""

    def __init__(self, *, ahead: bool = True) -> None:
        self.connection = FakeConnection()
        self.error: BrokerError | WorkQueueClosed | None = None
        self.there = threading.Event()
        self.there.set()
        self.declared = 0
        self.puller = Puller("emails", Link(self), self._declare, ahead=ahead)  # type: ignore[arg-type]

    def _declare(self, _connection: object, _deadline: float) -> None:
        self.declared += 1

    @property
    def channel(self) -> FakeChannel:
        return self.connection.channels[-1]


class Link:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def connection(self, deadline: float) -> Any:
        if not self._bench.there.wait(max(0.0, deadline - monotonic())):
            raise BrokerUnreachable("no connection to amqp://one: Connection refused")
        if self._bench.error is not None:
            raise self._bench.error
        return self._bench.connection


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def pool(bench: Bench) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool
        bench.puller.close()
        bench.error = WorkQueueClosed()
        bench.there.set()


def waiting(pool: ThreadPoolExecutor, bench: Bench, count: int = 1, timeout: float | None = 10.0) -> list[Future[Delivery]]:
    """So many pulls that wait, each with a consumer."""
    futures = [pool.submit(bench.puller.pull, timeout) for _ in range(count)]
    wait_until(lambda: bench.connection.channels and len(bench.channel.tags) >= count)
    return futures


def bodies(futures: list[Future[Delivery]]) -> list[bytes]:
    return sorted(future.result(10).body for future in futures)


def sent_back(channel: FakeChannel) -> int:
    """How many deliveries went back to the broker."""
    return channel.settlement.take(monotonic()).count(struct.pack(">HH", 60, 120))


# --- deliveries and consumers -------------------------------------------------------------------


def test_a_pull_gets_the_next_delivery(pool: ThreadPoolExecutor, bench: Bench) -> None:
    pulls = waiting(pool, bench)

    bench.channel.deliver(b"one")

    assert bodies(pulls) == [b"one"]


def test_every_pull_that_waits_has_a_consumer(pool: ThreadPoolExecutor, bench: Bench) -> None:
    pulls = waiting(pool, bench, 3)

    for tag in list(bench.channel.tags):
        bench.channel.deliver(b"one", tag)

    assert bodies(pulls) == [b"one"] * 3


def test_of_many_who_wait_only_some_have_consumers_and_all_are_served(
    pool: ThreadPoolExecutor, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more who wait than have consumers
    monkeypatch.setattr(pull_module, "AHEAD", 2)
    pulls = [pool.submit(bench.puller.pull, 10.0) for _ in range(6)]
    wait_until(lambda: bench.puller._waiting == 6)
    wait_until(lambda: len(bench.channel.tags) == 2)

    # When jobs arrive for the consumers there are
    delivered: list[Delivery] = []
    while len(delivered) < 6:
        wait_until(lambda: len(bench.channel.tags) > len(delivered))
        delivered.append(bench.channel.deliver(str(len(delivered)).encode(), bench.channel.tags[len(delivered)]))

    # Then there are more for those who still wait, until all have got one
    assert bodies(pulls) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_pull_beyond_an_unsettled_job_gets_a_consumer_of_its_own(pool: ThreadPoolExecutor, bench: Bench) -> None:
    pulls = waiting(pool, bench)
    bench.channel.deliver(b"one")
    bodies(pulls)

    pool.submit(bench.puller.pull, 10.0)

    wait_until(lambda: len(bench.channel.tags) == 2)


def test_a_job_that_is_being_moved_keeps_its_consumer_busy(pool: ThreadPoolExecutor, bench: Bench) -> None:
    # Given a job that somebody buries: claimed, and not yet settled at the broker
    pulls = waiting(pool, bench)
    delivery = bench.channel.deliver(b"one")
    bodies(pulls)
    delivery.settlement.claim(delivery.tag)

    # When another pulls, then it does not have to wait for that
    pool.submit(bench.puller.pull, 10.0)
    wait_until(lambda: len(bench.channel.tags) == 2)


def test_a_job_that_is_done_leaves_its_consumer_to_the_next_pull(
    pool: ThreadPoolExecutor, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "MOMENT", 0.0)
    pulls = waiting(pool, bench)
    delivery = bench.channel.deliver(b"one")
    bodies(pulls)
    delivery.settlement.ack(delivery.tag)

    next_pull = pool.submit(bench.puller.pull, 10.0)
    wait_until(next_pull.running)
    bench.channel.deliver(b"two")

    assert next_pull.result(10).body == b"two"
    assert len(bench.channel.tags) == 1


def test_nobody_hides_more_than_one_job(pool: ThreadPoolExecutor, bench: Bench) -> None:
    # Given consumers of pulls that have given up
    pulls = waiting(pool, bench, 4, timeout=0.2)
    for pull in pulls:
        with pytest.raises(PullTimeout):
            pull.result(10)

    # When each of them gets a job
    for tag in list(bench.channel.tags):
        bench.channel.deliver(b"one", tag)

    # Then all but one go back, and their consumers stop
    assert (sent_back(bench.channel), len(bench.channel.tags)) == (3, 1)


def test_one_who_waits_takes_one_and_hides_none(pool: ThreadPoolExecutor, bench: Bench) -> None:
    # Given many consumers, and one pull that still waits
    short = waiting(pool, bench, 4, timeout=0.2)
    for pull in short:
        with pytest.raises(PullTimeout):
            pull.result(10)
    patient = pool.submit(bench.puller.pull, 10.0)
    wait_until(patient.running)
    wait_until(lambda: bench.puller._waiting == 1)

    # When each consumer gets a job before it can take one
    with bench.connection.lock, bench.puller._condition:
        for tag in list(bench.channel.tags):
            bench.channel.deliver(b"one", tag)

    # Then the other three go back
    assert patient.result(10).body == b"one"
    assert sent_back(bench.channel) == 3


def test_a_stopped_consumer_is_started_again_when_it_is_wanted(pool: ThreadPoolExecutor, bench: Bench) -> None:
    # Given a consumer that was stopped because nobody waited
    pulls = waiting(pool, bench, 2, timeout=0.1)
    for pull in pulls:
        with pytest.raises(PullTimeout):
            pull.result(10)
    for tag in list(bench.channel.tags):
        bench.channel.deliver(b"one", tag)

    # When two pull again, then both are served
    first, second = (pool.submit(bench.puller.pull, 10.0) for _ in range(2))
    wait_until(lambda: len(bench.channel.tags) == 2)
    bench.channel.deliver(b"two", bench.channel.tags[1])
    assert bodies([first, second]) == [b"one", b"two"]


# --- ahead of who pulls job after job -----------------------------------------------------------


@pytest.fixture
def steady(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench with somebody who has just pulled five jobs, one after the other, and had them done."""
    monkeypatch.setattr(pull_module, "MOMENT", 60.0)  # however slow the machine
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)
    for _ in range(5):
        delivery = bench.channel.deliver(b"done")
        bench.puller.pull(0)
        delivery.settlement.ack(delivery.tag)
    return bench


def later(bench: Bench) -> float:
    """When a moment has passed since the last pull (monotonic seconds)."""
    return monotonic() + pull_module.MOMENT


def test_who_pulls_job_after_job_has_as_many_fetched_ahead(steady: Bench) -> None:
    # Given consumers for as many jobs as were just pulled, but for the first
    assert len(steady.channel.tags) == 1 + 4

    # When each of them gets a job
    delivered = [steady.channel.deliver(str(number).encode(), tag) for number, tag in enumerate(steady.channel.tags)]

    # Then they are there to be pulled, in their order
    assert [steady.puller.pull(0) for _ in range(4)] == delivered[:4]


def test_no_more_are_fetched_ahead_than_there_may_be_consumers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "MOMENT", 60.0)
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)

    for _ in range(3 * AHEAD):
        delivery = bench.channel.deliver(b"done")
        bench.puller.pull(0)
        delivery.settlement.ack(delivery.tag)

    assert len(bench.channel.tags) == AHEAD


def test_who_pulls_now_and_then_has_none_fetched_ahead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "MOMENT", 0.0)
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)

    for _ in range(5):
        delivery = bench.channel.deliver(b"done")
        bench.puller.pull(0)
        delivery.settlement.ack(delivery.tag)

    assert len(bench.channel.tags) == 1


def test_one_who_goes_quiet_gives_back_all_but_the_oldest(steady: Bench) -> None:
    # Given jobs that were fetched ahead, for which the writer looks after a while
    delivered = [steady.channel.deliver(str(number).encode(), tag) for number, tag in enumerate(list(steady.channel.tags)[:4])]
    assert steady.connection.asked == [steady.puller]
    assert steady.puller.due is not None

    # When a moment has passed without a pull
    steady.puller.take(later(steady))

    # Then one is left, and its consumer beside the one that had none; and nobody need look any more
    assert (sent_back(steady.channel), len(steady.channel.tags)) == (3, 2)
    assert steady.puller.due is None
    assert steady.puller.pull(0) is delivered[0]


def test_one_who_goes_on_keeps_what_was_fetched_ahead(steady: Bench) -> None:
    for tag in list(steady.channel.tags)[:4]:
        steady.channel.deliver(b"next", tag)

    steady.puller.take(monotonic())

    assert sent_back(steady.channel) == 0
    assert steady.puller.due is not None


def test_where_deliveries_are_counted_nothing_is_fetched_ahead() -> None:
    bench = Bench(ahead=False)
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)

    for _ in range(5):
        delivery = bench.channel.deliver(b"done")
        bench.puller.pull(0)
        delivery.settlement.ack(delivery.tag)

    assert len(bench.channel.tags) == 1


# --- time ---------------------------------------------------------------------------------------


def test_a_pull_without_a_job_ends_at_its_timeout(bench: Bench) -> None:
    with pytest.raises(PullTimeout, match=r"no job of 'emails' arrived within 0\.02 s"):
        bench.puller.pull(0.02)


def test_a_pull_that_cannot_wait_takes_what_is_there(bench: Bench) -> None:
    # Given a pull that set everything up, and a job that came since
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)
    bench.channel.deliver(b"one")

    # When one pulls that cannot wait, then it gets the job
    assert bench.puller.pull(0).body == b"one"


def test_a_pull_while_the_broker_is_away_ends_at_its_timeout(bench: Bench) -> None:
    bench.there.clear()

    with pytest.raises(PullTimeout, match="Connection refused"):
        bench.puller.pull(0.02)


def test_a_pull_fails_when_the_link_gives_up_before(bench: Bench) -> None:
    bench.error = BrokerUnreachable("no connection to amqp://one: Connection refused")

    with pytest.raises(BrokerUnreachable):
        bench.puller.pull(10.0)


def test_a_short_timeout_is_kept_while_another_waits_for_the_broker(pool: ThreadPoolExecutor, bench: Bench) -> None:
    # Given one who waits as long as it takes for a broker that is away
    bench.there.clear()
    patient = pool.submit(bench.puller.pull, None)
    wait_until(lambda: bench.puller._waiting == 1)

    # When another cannot wait as long, then it does not have to
    with pytest.raises(PullTimeout):
        bench.puller.pull(0.05)
    assert not patient.done()


def test_a_silent_broker_ends_a_pull_at_its_timeout(bench: Bench) -> None:
    def silent(channel: FakeChannel) -> None:
        channel.refusal = BrokerTimeout("the broker did not answer in time")

    bench.connection.prepare = silent

    with pytest.raises(PullTimeout, match="did not answer"):
        bench.puller.pull(0.02)
    assert bench.channel.abandoned


# --- losses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", [ConnectionLost("reset"), ChannelLost("the broker cancelled the consumer pull-1"), BrokerRefused("406", code=406)]
)
def test_a_pull_goes_on_when_its_channel_is_lost(pool: ThreadPoolExecutor, bench: Bench, reason: BrokerError) -> None:
    # Given a pull that waits
    pulls = waiting(pool, bench)

    # When its channel is lost, and another opened
    bench.channel.lose(reason)
    wait_until(lambda: len(bench.connection.channels) == 2 and bench.channel.tags)
    bench.channel.deliver(b"one")

    # Then it gets its job from there, and the topic was declared again
    assert bodies(pulls) == [b"one"]
    assert bench.declared == 2


def test_what_arrived_on_a_lost_channel_is_not_handed_out(bench: Bench) -> None:
    # Given a job that arrived, and the loss of its channel
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)
    bench.channel.deliver(b"stale")
    bench.channel.lose(ConnectionLost("reset"))

    # When somebody pulls, then it gets nothing of it
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)


def test_a_queue_that_vanishes_before_it_is_consumed_is_declared_again(bench: Bench) -> None:
    # Given a queue that somebody deletes just after it was declared, twice
    def vanish(channel: FakeChannel) -> None:
        if len(bench.connection.channels) < 2:
            channel.refusal = BrokerRefused("NOT_FOUND - no queue 'emails' (404)", code=404)

    bench.connection.prepare = vanish

    # When it is pulled from, then it is declared until it stays
    with pytest.raises(PullTimeout):
        bench.puller.pull(0.05)
    assert (bench.declared, len(bench.channel.tags)) == (3, 1)


def test_a_refusal_is_the_callers(bench: Bench) -> None:
    def refuse(channel: FakeChannel) -> None:
        channel.refusal = BrokerRefused("ACCESS_REFUSED (403)", code=403)

    bench.connection.prepare = refuse

    with pytest.raises(BrokerRefused, match="403"):
        bench.puller.pull(10.0)


# --- the end ------------------------------------------------------------------------------------


def test_closing_ends_all_who_wait(pool: ThreadPoolExecutor, bench: Bench) -> None:
    pulls = waiting(pool, bench, 3, timeout=None)

    bench.puller.close()

    assert [type(pull.exception(10)) for pull in pulls] == [WorkQueueClosed] * 3


def test_after_the_end_nothing_is_handed_out(bench: Bench) -> None:
    with pytest.raises(PullTimeout):
        bench.puller.pull(0)
    bench.channel.deliver(b"one")

    bench.puller.close()

    with pytest.raises(WorkQueueClosed):
        bench.puller.pull(10.0)


class Killed(BaseException):
    """As gevent raises into a greenlet that waits."""


class FirstIsKilled(threading.Condition):
    """A condition whose first waiter to be woken is killed as it wakes."""

    killed = False

    def wait(self, timeout: float | None = None) -> bool:
        woken = super().wait(timeout)
        if woken and not self.killed:
            self.killed = True
            raise Killed
        return woken


def test_a_wake_up_that_meets_one_who_is_killed_wakes_another(pool: ThreadPoolExecutor, bench: Bench) -> None:
    # Given two who wait
    bench.puller._condition = FirstIsKilled()
    pulls = waiting(pool, bench, 2)

    # When one job arrives, and the one it was meant for is killed
    bench.channel.deliver(b"one")

    # Then the other gets it
    assert {type(pull.exception(10)) for pull in pulls} == {Killed, type(None)}
