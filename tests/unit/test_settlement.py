"""What is told to the broker about settled deliveries: everything that was settled, once, nothing else, in few frames."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Sized

import pika.frame
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pika import spec

from hopd.amqp.settlement import FEW_UNSETTLED, Settlement
from hopd.errors import AlreadySettled

CHANNEL = 7
MANY = 3 * FEW_UNSETTLED
WINDOW = 0.05


class Broker:
    """The broker's side of one channel. It closes the channel, here: fails, where RabbitMQ answers 406."""

    def __init__(self) -> None:
        self.unsettled: set[int] = set()
        self.settled: dict[int, str] = {}
        self.frames: list[tuple[str, int, bool]] = []
        self._last = 0

    def deliver(self, count: int) -> range:
        """The tags of the next `count` deliveries."""
        tags = range(self._last + 1, self._last + count + 1)
        self._last += count
        self.unsettled.update(tags)
        return tags

    def receive(self, data: bytes) -> None:
        while data:
            size, frame = pika.frame.decode_frame(data)
            data = data[size:]
            assert frame.channel_number == CHANNEL
            self._settle(frame.method)

    def _settle(self, method: spec.Basic.Ack | spec.Basic.Reject | spec.Basic.Nack) -> None:
        tag, multiple = method.delivery_tag, getattr(method, "multiple", False)
        assert tag in self.unsettled, f"406 PRECONDITION_FAILED - unknown delivery tag {tag}"
        how = {"Basic.Ack": "ack", "Basic.Reject": "reject", "Basic.Nack": "nack"}[method.NAME]
        if how != "ack":
            how += " requeue" if method.requeue else ""
        tags = {one for one in self.unsettled if one <= tag} if multiple else {tag}
        self.unsettled -= tags
        self.settled.update(dict.fromkeys(tags, how))
        self.frames.append((how, tag, multiple))


class Channel:
    """A settlement and the broker it speaks to."""

    def __init__(self, ack_window: float = WINDOW) -> None:
        self.broker = Broker()
        self.woken = 0
        self.settlement = Settlement(CHANNEL, self._wake, ack_window=ack_window)

    def _wake(self, _settlement: Settlement) -> None:
        self.woken += 1

    def deliver(self, count: int) -> range:
        tags = self.broker.deliver(count)
        for tag in tags:
            self.settlement.opened(tag)
        return tags

    def ack(self, tags: Iterable[int]) -> None:
        for tag in tags:
            assert self.settlement.ack(tag)

    def take(self, now: float = 0.0) -> list[tuple[str, int, bool]]:
        """What is sent now."""
        sent = len(self.broker.frames)
        self.broker.receive(self.settlement.take(now))
        return self.broker.frames[sent:]


# --- any order ----------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Deliveries, settlements and sends in any order, against a broker that refuses every double, unknown or stale tag."""

    @initialize(ack_window=st.sampled_from([0.0, WINDOW]))
    def open(self, ack_window: float) -> None:
        self.channel = Channel(ack_window)
        self.window = ack_window
        self.now = 1000.0
        self.running: list[int] = []
        self.claimed: list[int] = []
        self.finished: dict[int, str] = {}
        self.seen_at: dict[int, float] = {}  # when the first take after a tag was finished took place

    @rule(count=st.integers(1, 100))
    def deliver(self, count: int) -> None:
        self.running += self.channel.deliver(count)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["ack", "ack", "ack", "reject", "reject requeue", "nack requeue", "claim"]))
    def settle_some(self, data: st.DataObject, how: str) -> None:
        start = data.draw(st.integers(0, len(self.running) - 1))
        step = data.draw(st.sampled_from([1, 1, 2, 7]))
        tags = self.running[start :: step if how == "ack" else 40]
        for tag in tags:
            self.settle(tag, how)
        self.running = [tag for tag in self.running if tag not in set(tags)]

    def settle(self, tag: int, how: str) -> None:
        settlement = self.channel.settlement
        if how == "claim":
            assert settlement.claim(tag)
            self.claimed.append(tag)
            return
        if how == "ack":
            assert settlement.ack(tag)
        elif how == "nack requeue":
            assert settlement.nack(tag)
        else:
            assert settlement.reject(tag, requeue=how == "reject requeue")
        self.finished[tag] = how

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), succeeds=st.booleans())
    def end_a_claim(self, data: st.DataObject, succeeds: bool) -> None:
        tag = self.claimed.pop(data.draw(st.integers(0, len(self.claimed) - 1)))
        if succeeds:
            assert self.channel.settlement.ack_claimed(tag)
            self.finished[tag] = "ack"
        else:
            self.channel.settlement.unclaim(tag)
            self.running.append(tag)

    @precondition(lambda self: self.finished or self.claimed)
    @rule(data=st.data())
    def settle_twice(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.finished) + self.claimed))
        with pytest.raises(AlreadySettled):
            self.channel.settlement.ack(tag)

    @rule(seconds=st.sampled_from([0.0, 0.001, WINDOW / 2, WINDOW]))
    def send(self, seconds: float) -> None:
        self.now += seconds
        for tag in self.finished:
            self.seen_at.setdefault(tag, self.now)
        self.channel.take(self.now)

    @precondition(lambda self: self.channel.settlement.due is not None)
    @rule()
    def send_what_is_due(self) -> None:
        due = self.channel.settlement.due
        assert due is not None
        self.now = max(self.now, due)
        self.send(0.0)

    @invariant()
    def nothing_is_settled_that_is_not_finished(self) -> None:
        settled = self.channel.broker.settled if hasattr(self, "channel") else {}
        assert settled.items() <= self.finished.items() if settled else True

    @invariant()
    def nothing_is_held_for_longer_than_the_window(self) -> None:
        if hasattr(self, "channel"):
            held = [self.seen_at[tag] for tag in self.finished.keys() & self.seen_at.keys() if tag in self.channel.broker.unsettled]
            due = self.channel.settlement.due
            assert not held or (due is not None and due <= min(held) + self.window)

    def teardown(self) -> None:
        if hasattr(self, "channel"):
            self.channel.settlement.hurry()
            self.channel.take(self.now)
            assert self.channel.broker.settled == self.finished
            assert self.channel.broker.unsettled == {*self.running, *self.claimed}
            assert self.channel.settlement.unsettled == len(self.running) + len(self.claimed)


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
test_any_order_of_settlements_tells_the_broker_each_of_them_once = AnyOrder.TestCase


def test_threads_may_settle_while_another_sends() -> None:
    # Given many deliveries, dealt out to threads that settle them in an order of their own
    channel = Channel()
    tags = list(channel.deliver(20_000))
    random.Random(7).shuffle(tags)
    hows = {tag: random.Random(tag).choice(["ack", "ack", "ack", "reject"]) for tag in tags}

    def settle(mine: list[int]) -> None:
        for tag in mine:
            assert channel.settlement.ack(tag) if hows[tag] == "ack" else channel.settlement.reject(tag, requeue=False)

    threads = [threading.Thread(target=settle, args=(tags[part::4],)) for part in range(4)]

    # When all of them run while this one sends what it finds
    for thread in threads:
        thread.start()
    clock = 0.0
    while any(thread.is_alive() for thread in threads):
        clock += 0.01
        channel.take(clock)
    for thread in threads:
        thread.join()
    channel.settlement.hurry()
    channel.take(clock)

    # Then the broker has been told each of them, as it was settled
    assert channel.broker.settled == hows


def test_of_many_threads_that_settle_one_delivery_one_wins() -> None:
    # Given deliveries that every thread wants to settle
    channel = Channel()
    tags = channel.deliver(2_000)
    won: list[int] = []
    start = threading.Barrier(4)

    def settle() -> None:
        start.wait()
        for tag in tags:
            try:
                channel.settlement.ack(tag)
                won.append(tag)
            except AlreadySettled:
                continue

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == list(tags)


# --- few frames ---------------------------------------------------------------------------------


def test_deliveries_finished_in_order_cost_one_frame() -> None:
    channel = Channel()

    channel.ack(channel.deliver(MANY))

    assert channel.take() == [("ack", MANY, True)]


def test_one_delivery_is_acked_alone() -> None:
    channel = Channel()

    channel.ack(channel.deliver(1))

    assert channel.take() == [("ack", 1, False)]


def test_nothing_settled_sends_nothing() -> None:
    channel = Channel()
    channel.deliver(3)

    assert channel.take() == []


def test_where_little_is_unsettled_a_finished_delivery_waits_for_nobody() -> None:
    channel = Channel()
    channel.deliver(5)

    channel.ack([5, 3])

    assert channel.take() == [("ack", 3, False), ("ack", 5, False)]


def test_where_much_is_unsettled_finished_deliveries_wait_for_their_predecessors() -> None:
    # Given much that is unsettled, and all but the first finished
    channel = Channel()
    channel.deliver(MANY)
    channel.ack(range(2, 100))
    held = channel.take()

    # When the first finishes too
    channel.ack([1])

    # Then one frame tells all of them
    assert (held, channel.take()) == ([], [("ack", 99, True)])


def test_a_held_delivery_leaves_when_its_time_is_up() -> None:
    # Given a delivery that waits for its predecessor
    channel = Channel()
    channel.deliver(MANY)
    channel.ack([2])
    channel.take(now=10.0)

    # When its time is up
    due = channel.settlement.due

    # Then it is acked alone
    assert due == 10.0 + WINDOW
    assert channel.take(now=due) == [("ack", 2, False)]
    assert channel.settlement.due is None


def test_in_a_hurry_nothing_is_held() -> None:
    channel = Channel()
    channel.deliver(MANY)
    channel.ack([2])
    channel.take()

    channel.settlement.hurry()

    assert channel.take() == [("ack", 2, False)]


def test_a_multiple_names_a_tag_that_is_unsettled_itself() -> None:
    # Given a third delivery that the broker has been told of alone, because its time was up
    channel = Channel()
    channel.deliver(MANY)
    channel.ack([3])
    channel.take(now=0.0)
    channel.take(now=WINDOW)

    # When the two before it finish
    channel.ack([1, 2])

    # Then the frame for them names the second
    assert channel.take(now=WINDOW) == [("ack", 2, True)]


@pytest.mark.parametrize("how", ["reject", "nack"])
def test_a_delivery_that_goes_back_stands_in_nobodys_way(how: str) -> None:
    # Given a delivery that goes back, between finished ones
    channel = Channel()
    channel.deliver(MANY)
    channel.settlement.nack(2) if how == "nack" else channel.settlement.reject(2, requeue=True)
    channel.ack([1, *range(3, 101)])

    # When they are sent, then one frame tells all the others
    assert channel.take() == [(f"{how} requeue", 2, False), ("ack", 100, True)]


def test_what_is_claimed_is_not_acked_along_with_its_neighbours() -> None:
    # Given a claimed delivery between finished ones
    channel = Channel()
    channel.deliver(3)
    channel.settlement.claim(2)
    channel.ack([1, 3])

    # When they are sent
    channel.take()

    # Then it is still the broker's to redeliver
    assert channel.broker.unsettled == {2}


def test_a_claim_that_was_given_back_can_be_settled() -> None:
    channel = Channel()
    channel.deliver(1)
    channel.settlement.claim(1)

    channel.settlement.unclaim(1)

    assert channel.settlement.reject(1, requeue=True)
    assert channel.take() == [("reject requeue", 1, False)]


def test_many_settlements_between_two_sends_wake_the_writer_once() -> None:
    channel = Channel()

    channel.ack(channel.deliver(100))

    assert channel.woken == 1


def test_a_settlement_after_a_send_wakes_the_writer_again() -> None:
    channel = Channel()
    channel.deliver(2)
    channel.ack([1])
    channel.take()

    channel.ack([2])

    assert channel.woken == 2


# --- the end of the channel ---------------------------------------------------------------------


def test_what_is_settled_after_the_channel_went_is_not_sent() -> None:
    channel = Channel()
    channel.deliver(2)

    channel.settlement.close()

    assert (channel.settlement.ack(1), channel.settlement.reject(2, requeue=True)) == (False, False)
    assert (channel.take(), channel.settlement.stale) == ([], 2)


def test_a_delivery_of_a_channel_that_went_is_settled_once_as_well() -> None:
    channel = Channel()
    channel.deliver(1)
    channel.settlement.close()
    channel.settlement.ack(1)

    with pytest.raises(AlreadySettled):
        channel.settlement.ack(1)


def test_a_claim_whose_channel_went_is_stale() -> None:
    channel = Channel()
    channel.deliver(1)
    channel.settlement.claim(1)

    channel.settlement.close()

    assert not channel.settlement.ack_claimed(1)
    assert channel.settlement.stale == 1


def test_a_channel_that_went_has_nothing_due() -> None:
    # Given a delivery that is held back
    channel = Channel()
    channel.deliver(MANY)
    channel.ack([2])
    channel.take()

    # When the channel goes, then nobody has to look after it any more
    channel.settlement.close()
    assert channel.settlement.due is None


# --- bounds -------------------------------------------------------------------------------------


def test_a_delivery_that_hangs_while_others_come_and_go_costs_no_memory() -> None:
    # Given a first delivery that never finishes
    channel = Channel()
    channel.deliver(1)

    # When very many others are finished meanwhile
    for turn in range(200):
        channel.ack(channel.deliver(100))
        channel.take(now=turn * WINDOW)
    channel.settlement.hurry()
    channel.take()

    # Then nothing is kept of them
    assert channel.broker.unsettled == {1}
    assert sum(len(kept) for kept in vars(channel.settlement).values() if isinstance(kept, Sized)) < 10


def test_a_delivery_that_hung_for_long_finishes_like_any_other() -> None:
    # Given a first delivery that hung while others came and went, and some that still run
    channel = Channel()
    channel.deliver(1)
    channel.ack(channel.deliver(10_000))
    channel.take(now=0.0)
    channel.take(now=WINDOW)
    channel.deliver(3)

    # When it and the next one finish, then they cost one frame
    channel.ack([1, 10_002])
    assert channel.take() == [("ack", 10_002, True)]
