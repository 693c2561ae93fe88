"""The publisher against a broker that confirms, returns, refuses, blocks and vanishes when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from hopd.amqp import confirms, frames
from hopd.amqp.confirms import ConfirmChannel
from hopd.amqp.gates import Gates
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, encode
from hopd.amqp.publisher import SHARE, SHARE_OF_MANY, WINDOW, Publisher
from hopd.amqp.wire import Confirm, Returned
from hopd.errors import (
    BrokerBlocked,
    BrokerError,
    BrokerRefused,
    BrokerTimeout,
    BrokerUnreachable,
    ConnectionLost,
    PutError,
    PutRefused,
    PutTimeout,
    PutUncertain,
    Unroutable,
    WorkQueueClosed,
)
from tests.support.waiting import wait_until


class FakeChannel:
    """A channel with confirms."""

    number = 1

    def __init__(self) -> None:
        self.lost: BrokerError | None = None
        self.abandoned = False
        self.on_event: Callable[[Confirm | Returned], None]
        self._on_lost: Callable[[BrokerError], None] = lambda _reason: None

    def select_confirms(self, on_event: Callable[[Confirm | Returned], None], deadline: float) -> None:
        if deadline <= monotonic():
            raise BrokerTimeout
        self.on_event = on_event

    def on_lost(self, callback: Callable[[BrokerError], None]) -> None:
        self._on_lost = callback

    def abandon(self) -> None:
        self.abandoned = True

    def lose(self, reason: BrokerError) -> None:
        self.lost = reason
        self._on_lost(reason)


class FakeConnection:
    """A connection that keeps the messages it is given and answers them with what `answer` does."""

    frame_max = 131_072

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_open = True
        self.blocked: str | None = None
        self.unblocked = threading.Event()
        self.unblocked.set()
        self.channels: list[FakeChannel] = []
        self.sent: list[Any] = []
        self.hurried: list[int] = []
        self.answer: Callable[[int], None] = lambda _number: None
        self.writer = self

    def channel(self, _deadline: float, *, ack_window: float) -> FakeChannel:
        self.channels.append(FakeChannel())
        return self.channels[-1]

    def queue(self, data: bytes) -> None:
        self.sent.append(pika.frame.decode_frame(data)[1].method)
        self.answer(len(self.sent))

    def hurry(self, share: int) -> None:
        self.hurried.append(share)

    # --- the broker's side --------------------------------------------------------------------

    def confirm(self, tag: int, *, multiple: bool = False, accepted: bool = True) -> None:
        with self.lock:
            self.channels[-1].on_event(Confirm(1, tag, multiple, accepted))

    def give_back(self, message: Outgoing) -> None:
        with self.lock:
            self.channels[-1].on_event(Returned(1, 312, "NO_ROUTE", message.exchange, message.routing_key, message.properties))

    def lose(self, reason: BrokerError) -> None:
        with self.lock:
            self.channels[-1].lose(reason)

    def block(self, reason: str | None) -> None:
        self.blocked = reason
        if reason is None:
            self.unblocked.set()
        else:
            self.unblocked.clear()


class Link:
    """Where the publisher gets its connection; or why there is none."""

    def __init__(self) -> None:
        self.now = FakeConnection()
        self.error: Exception | None = None
        self.there = threading.Event()
        self.there.set()

    def connection(self, deadline: float) -> Any:
        self.there.wait(max(0.0, deadline - monotonic()))
        if self.error is not None:
            raise self.error
        return self.now


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def publisher(link: Link) -> Iterator[Publisher]:
    publisher = Publisher(link)
    yield publisher
    publisher.close()


@pytest.fixture
def broker(link: Link) -> FakeConnection:
    return link.now


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def message(message_id: str | None = "7", exchange: str = "hop.exchange", key: str = "emails") -> Outgoing:
    return Outgoing(exchange, key, encode(Properties(message_id=message_id)), b"body", message_id)


def soon(seconds: float = 10.0) -> float:
    return monotonic() + seconds


def under_way(pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection, *messages: Outgoing) -> list[Future[None]]:
    """Publish each in a thread of its own; returns when all were sent, in their order."""
    futures = []
    before = len(broker.sent)
    for each in messages:
        futures.append(pool.submit(publisher.publish, each, soon()))
        wait_until(lambda: len(broker.sent) == before + len(futures))
    return futures


# --- confirms -----------------------------------------------------------------------------------


def test_a_message_is_published_when_the_broker_confirms_it(publisher: Publisher, broker: FakeConnection) -> None:
    broker.answer = broker.confirm

    publisher.publish(message(), soon())

    (sent,) = broker.sent
    assert (type(sent), sent.exchange, sent.routing_key, sent.mandatory) == (spec.Basic.Publish, "hop.exchange", "emails", True)


def test_a_message_is_not_published_before_it_is_confirmed(pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection) -> None:
    first, second = under_way(pool, publisher, broker, message("1"), message("2"))

    broker.confirm(2)
    second.result(10)
    still_waiting = not first.done()
    broker.confirm(1)

    assert first.result(10) is None
    assert still_waiting


def test_one_confirm_may_speak_for_many(pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection) -> None:
    futures = under_way(pool, publisher, broker, message("1"), message("2"), message("3"), message("4"))

    broker.confirm(2)
    broker.confirm(3, multiple=True)
    done = [future.result(10) for future in futures[:3]]

    assert done == [None] * 3
    assert not futures[3].done()
    broker.confirm(4)


def test_who_is_alone_waits_for_nobody_and_others_share_their_writes(
    pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection
) -> None:
    # Given one that publishes, and another one meanwhile
    first, second = under_way(pool, publisher, broker, message("1"), message("2"))
    broker.confirm(2, multiple=True)
    first.result(10)
    second.result(10)

    # When many are published
    many = pool.submit(publisher.publish_many, [message("3")], 10.0)
    wait_until(lambda: len(broker.sent) == 3)
    broker.confirm(3)
    many.result(10)

    # Then each says how many are to share its write
    assert broker.hurried == [1, SHARE, SHARE_OF_MANY]


@given(st.integers(1, 12).flatmap(lambda count: st.tuples(st.just(count), st.lists(st.tuples(st.integers(1, count), st.booleans())))))
def test_whatever_the_order_of_confirms_each_message_is_settled_with_the_first_that_speaks_for_it(
    told: tuple[int, list[tuple[int, bool]]],
) -> None:
    # Given messages under way, and what the broker says of them
    count, confirms = told
    broker = FakeConnection()
    channel = ConfirmChannel(broker, Gates(), soon())  # type: ignore[arg-type]
    pending = [channel.send(message(str(number)), 16) for number in range(1, count + 1)]

    # When it says so, then after each word those are settled of which it was said, and no others
    confirmed: set[int] = set()
    for tag, multiple in confirms:
        broker.confirm(tag, multiple=multiple)
        confirmed.update(range(1, tag + 1) if multiple else (tag,))
        assert [number for number, each in enumerate(pending, 1) if each.wait(0.0)] == sorted(confirmed)


def test_a_message_the_broker_does_not_take_is_refused(publisher: Publisher, broker: FakeConnection) -> None:
    broker.answer = lambda number: broker.confirm(number, accepted=False)

    with pytest.raises(PutRefused):
        publisher.publish(message(), soon())


def refuse(broker: FakeConnection) -> Callable[[int], None]:
    return lambda number: broker.confirm(number, accepted=False)


def test_a_channel_that_refused_is_replaced(publisher: Publisher, broker: FakeConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ may refuse for ever on a channel what it takes on the next."""
    monkeypatch.setattr(confirms, "RENEW_AFTER", -1.0)
    broker.answer = refuse(broker)
    with pytest.raises(PutRefused):
        publisher.publish(message(), soon())

    broker.answer = lambda _number: broker.confirm(1)
    publisher.publish(message(), soon())

    assert [channel.abandoned for channel in broker.channels] == [True, False]


def test_a_young_channel_is_not_replaced_for_a_refusal(
    publisher: Publisher, broker: FakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue refuses everything: that must not cost a channel each time."""
    monkeypatch.setattr(confirms, "RENEW_AFTER", 1000.0)
    broker.answer = refuse(broker)

    for _ in range(3):
        with pytest.raises(PutRefused):
            publisher.publish(message(), soon())

    assert len(broker.channels) == 1


def test_a_replaced_channel_stays_until_what_is_under_way_on_it_is_confirmed(
    pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirms, "RENEW_AFTER", -1.0)
    slow, refused = under_way(pool, publisher, broker, message("1"), message("2"))
    broker.confirm(2, accepted=False)
    (new,) = under_way(pool, publisher, broker, message("3"))
    old = broker.channels[0]
    stayed = not old.abandoned

    with broker.lock:
        old.on_event(Confirm(1, 1, False, True))
    broker.confirm(1)

    assert isinstance(refused.exception(10), PutRefused)
    assert (slow.result(10), new.result(10)) == (None, None)
    assert (stayed, old.abandoned) == (True, True)


def test_a_returned_message_is_unroutable(publisher: Publisher, broker: FakeConnection) -> None:
    # Given a broker that returns a message before it confirms it, as RabbitMQ does
    def answer(number: int) -> None:
        broker.give_back(message())
        broker.confirm(number)

    broker.answer = answer

    # When it is published, then it is known to be nowhere
    with pytest.raises(Unroutable, match=r"the job 7 for 'emails' on exchange 'hop\.exchange' was returned: NO_ROUTE"):
        publisher.publish(message(), soon())


def test_a_return_is_only_of_the_message_it_names(pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection) -> None:
    futures = under_way(pool, publisher, broker, message("1"), message("2"), message("1", key="images"))

    broker.give_back(message("2"))
    broker.confirm(3, multiple=True)

    assert [type(future.exception(10)) for future in futures] == [type(None), Unroutable, type(None)]


def test_a_message_without_an_id_can_be_returned(publisher: Publisher, broker: FakeConnection) -> None:
    def answer(number: int) -> None:
        broker.give_back(message(None))
        broker.confirm(number)

    broker.answer = answer

    with pytest.raises(Unroutable, match="a job for 'emails'"):
        publisher.publish(message(None), soon())


# --- deadlines ----------------------------------------------------------------------------------


def test_a_message_that_is_not_confirmed_in_time_may_have_been_put(publisher: Publisher) -> None:
    with pytest.raises(PutTimeout, match="may have been put") as caught:
        publisher.publish(message(), soon(0.02))

    assert caught.value.sent


def test_a_confirm_that_comes_too_late_is_no_error(publisher: Publisher, broker: FakeConnection) -> None:
    with pytest.raises(PutTimeout):
        publisher.publish(message(), soon(0.0))
    broker.answer = lambda number: broker.confirm(number, multiple=True)

    publisher.publish(message(), soon())


@pytest.mark.parametrize("reason", [BrokerUnreachable("refused"), BrokerTimeout("no answer")])
def test_a_message_for_a_broker_that_is_away_was_not_sent(publisher: Publisher, link: Link, reason: Exception) -> None:
    link.error = reason

    with pytest.raises(PutTimeout, match="was not sent") as caught:
        publisher.publish(message(), soon(0.02))

    assert not caught.value.sent
    assert caught.value.__cause__ is reason


def test_a_broker_that_refuses_us_refuses_the_message(publisher: Publisher, link: Link) -> None:
    link.error = BrokerRefused("ACCESS_REFUSED", code=403)

    with pytest.raises(PutRefused, match="ACCESS_REFUSED"):
        publisher.publish(message(), soon())


def test_a_closed_work_queue_says_so(publisher: Publisher, link: Link) -> None:
    link.error = WorkQueueClosed()

    with pytest.raises(WorkQueueClosed):
        publisher.publish(message(), soon())


def test_a_short_deadline_is_kept_while_others_wait_for_the_broker(pool: ThreadPoolExecutor, publisher: Publisher, link: Link) -> None:
    # Given a broker that is away, and one who waits for it for long
    link.there.clear()
    patient = pool.submit(publisher.publish, message("patient"), soon())
    wait_until(patient.running)

    # When another cannot wait
    with pytest.raises(PutTimeout):
        publisher.publish(message("hurried"), soon(0.05))
    waited_on = not patient.done()

    # Then it did not have to
    assert waited_on
    link.now.answer = link.now.confirm
    link.there.set()
    assert patient.result(10) is None


def test_a_channel_that_is_not_ready_in_time_is_given_up(publisher: Publisher, broker: FakeConnection) -> None:
    with pytest.raises(PutTimeout):
        publisher.publish(message(), monotonic())

    assert broker.channels[0].abandoned


# --- a broker that takes nothing ----------------------------------------------------------------


def test_a_blocked_broker_is_named_at_the_deadline(publisher: Publisher, broker: FakeConnection) -> None:
    broker.block("low on memory")

    with pytest.raises(BrokerBlocked, match="was not sent, the broker takes no jobs: low on memory"):
        publisher.publish(message(), soon(0.02))
    assert broker.sent == []


def test_a_broker_that_blocks_after_the_message_left_is_named_too(publisher: Publisher, broker: FakeConnection) -> None:
    broker.answer = lambda _number: broker.block("low on disk")

    with pytest.raises(BrokerBlocked, match="is not confirmed, the broker takes no jobs: low on disk"):
        publisher.publish(message(), soon(0.02))


def test_a_message_leaves_when_the_broker_takes_jobs_again(pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection) -> None:
    broker.block("low on memory")
    broker.answer = broker.confirm
    waiting = pool.submit(publisher.publish, message(), soon())

    broker.block(None)

    assert waiting.result(10) is None


# --- losses -------------------------------------------------------------------------------------


def test_a_connection_that_is_lost_on_the_way_leaves_the_message_uncertain(
    pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection
) -> None:
    futures = under_way(pool, publisher, broker, message("1"), message("2"))

    broker.lose(ConnectionLost("reset by peer"))

    assert [type(future.exception(10)) for future in futures] == [PutUncertain, PutUncertain]


def test_an_exchange_that_is_not_there_is_known_to_have_taken_nothing(
    pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection
) -> None:
    # Given a message to an exchange that is not there, and one that shares its channel
    guilty, innocent = under_way(pool, publisher, broker, message("1", exchange="nowhere"), message("2"))

    # When the broker closes the channel because of it
    broker.lose(BrokerRefused("NOT_FOUND - no exchange 'nowhere' in vhost '/' (404)", code=404))

    # Then the one was not put, and nobody knows about the other
    assert (type(guilty.exception(10)), type(innocent.exception(10))) == (Unroutable, PutUncertain)


def test_after_a_loss_the_next_message_has_a_channel_of_its_own(publisher: Publisher, broker: FakeConnection) -> None:
    broker.answer = lambda _number: broker.lose(ConnectionLost("reset"))
    with pytest.raises(PutUncertain):
        publisher.publish(message("1"), soon())

    broker.answer = lambda _number: broker.confirm(1)
    publisher.publish(message("2"), soon())

    assert len(broker.channels) == 2


def test_a_channel_that_goes_just_before_a_message_is_sent_costs_it_nothing(publisher: Publisher, broker: FakeConnection) -> None:
    # Given a channel that another's message closes, after it was found usable
    broker.answer = broker.confirm
    publisher.publish(message("1"), soon())
    broker.unblocked = GoesMeanwhile(broker)

    # When the next is published
    broker.answer = lambda _number: broker.confirm(1)
    publisher.publish(message("2"), soon())

    # Then it was sent on a new one
    assert (len(broker.channels), len(broker.sent)) == (2, 2)


class GoesMeanwhile(threading.Event):
    """The broker takes jobs, but while we look the channel goes."""

    def __init__(self, broker: FakeConnection) -> None:
        super().__init__()
        self._broker = broker

    def wait(self, timeout: float | None = None) -> bool:
        if len(self._broker.channels) == 1:
            self._broker.lose(BrokerRefused("NOT_FOUND - no exchange 'nowhere' in vhost '/' (404)", code=404))
        return True


# --- what no frame can hold ---------------------------------------------------------------------


def test_headers_that_fill_more_than_a_frame_are_refused_here(publisher: Publisher, broker: FakeConnection) -> None:
    # Given headers that fit, and some that do not: the broker would close the connection, and with it everybody's
    broker.answer = broker.confirm
    room = broker.frame_max - frames.FRAME_OVERHEAD - 12
    publisher.publish(Outgoing("", "q", bytes(room), b"", None), soon())

    with pytest.raises(PutRefused, match="headers"):
        publisher.publish(Outgoing("", "q", bytes(room + 1), b"", None), soon())
    assert len(broker.sent) == 1


@pytest.mark.parametrize("name", ["x" * 256, "\u00fc" * 128, "\ud800"], ids=["long", "long in bytes", "not utf-8"])
def test_a_name_that_no_frame_can_hold_is_refused_here(publisher: Publisher, broker: FakeConnection, name: str) -> None:
    with pytest.raises(PutRefused, match="255 bytes"):
        publisher.publish(message(key=name), soon())
    with pytest.raises(PutRefused, match="255 bytes"):
        publisher.publish(message(exchange=name), soon())
    assert broker.sent == []


# --- many ---------------------------------------------------------------------------------------


def test_many_are_published_without_waiting_for_each(publisher: Publisher, broker: FakeConnection) -> None:
    # Given a broker that confirms every tenth message, and with it those before
    broker.answer = lambda number: broker.confirm(number, multiple=True) if number % 10 == 0 else None

    # When many are published, then all of them are confirmed
    assert publisher.publish_many((message(str(number)) for number in range(3 * WINDOW)), 10.0) == (3 * WINDOW, {})


def test_of_many_those_that_failed_are_named(publisher: Publisher, broker: FakeConnection) -> None:
    def answer(number: int) -> None:
        if number == 2:
            broker.give_back(message("1"))
        broker.confirm(number, accepted=number != 3)

    broker.answer = answer

    confirmed, failures = publisher.publish_many((message(str(number)) for number in range(5)), 10.0)

    assert confirmed == 3
    assert {index: type(error) for index, error in failures.items()} == {1: Unroutable, 2: PutRefused}


def test_no_more_than_a_window_is_unconfirmed(publisher: Publisher, broker: FakeConnection) -> None:
    # Given a broker that begins to confirm when it has to
    def answer(number: int) -> None:
        unconfirmed = number - answered[0]
        most[0] = max(most[0], unconfirmed)
        if unconfirmed == WINDOW:
            answered[0] = number - WINDOW // 2
            broker.confirm(answered[0], multiple=True)
        if number == 3 * WINDOW:
            broker.confirm(number, multiple=True)

    answered, most = [0], [0]
    broker.answer = answer

    # When many are published
    publisher.publish_many((message(str(number)) for number in range(3 * WINDOW)), 10.0)

    # Then never more than a window was under way
    assert most == [WINDOW]


def test_many_wait_for_an_absent_broker_once_and_not_one_after_the_other(publisher: Publisher, link: Link) -> None:
    # Given a broker that is away
    waits: list[float] = []

    def connection(deadline: float) -> Any:
        waits.append(deadline)
        raise BrokerUnreachable("refused")

    link.connection = connection  # type: ignore[method-assign]

    # When many are published
    confirmed, failures = publisher.publish_many((message(str(number)) for number in range(1000)), 0.01)

    # Then all of them are known not to have been sent, and only one has tried
    assert (confirmed, len(failures), len(waits)) == (0, 1000, 1)
    assert all(isinstance(error, PutTimeout) and not error.sent for error in failures.values())
    assert "the job 999" in str(failures[999])


def test_many_to_a_blocked_broker_are_all_blocked(publisher: Publisher, broker: FakeConnection) -> None:
    broker.block("low on memory")

    _confirmed, failures = publisher.publish_many((message(str(number)) for number in range(3)), 0.01)

    assert [type(error) for error in failures.values()] == [BrokerBlocked] * 3


def test_a_source_of_messages_that_raises_is_not_caught(publisher: Publisher, broker: FakeConnection) -> None:
    def messages() -> Iterator[Outgoing]:
        yield message()
        raise LookupError("the caller's own")

    broker.answer = broker.confirm

    with pytest.raises(LookupError, match="the caller's own"):
        publisher.publish_many(messages(), 10.0)
    assert publisher.wait_idle(soon())


# --- the end ------------------------------------------------------------------------------------


def test_idle_means_that_nobody_waits_for_a_confirm(pool: ThreadPoolExecutor, publisher: Publisher, broker: FakeConnection) -> None:
    (waiting,) = under_way(pool, publisher, broker, message())
    busy = publisher.wait_idle(monotonic())

    broker.confirm(1)

    assert (busy, publisher.wait_idle(soon()), waiting.result(10)) == (False, True, None)


def test_every_error_of_a_message_is_a_put_error(publisher: Publisher, broker: FakeConnection) -> None:
    broker.answer = lambda _number: broker.lose(ConnectionLost("reset"))

    with pytest.raises(PutError):
        publisher.publish(message(), soon())
