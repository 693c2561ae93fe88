"""Looking through a queue whose broker does what the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hopd import browse as browse_module
from hopd.amqp import frames
from hopd.amqp.settlement import Settlement
from hopd.amqp.wire import Delivery
from hopd.browse import Browser
from hopd.errors import BrokerError, BrokerTimeout, ChannelLost, PutRefused

#: Patience that no test needs, and none. Seconds.
TIMEOUT, NO_TIME = 30.0, 0.0


class FakeBroker:
    """A connection with one channel to one queue: messages 1 to `count`, `hidden` of them in other hands."""

    def __init__(self, count: int, hidden: int = 0) -> None:
        self.lock = threading.RLock()
        self.messages = list(range(1, count + 1))
        self.hidden = hidden
        self.stale = 0  # how many answers are older than what was put back
        self.stale_at_close = 0
        self.calls: list[str] = []
        self.lost: BrokerError | None = None
        self.settlement = Settlement(1, lambda settlement: None, ack_window=0.0)
        self.trouble: BrokerError | None = None
        self._prefetch = 0
        self._on_lost: Callable[[BrokerError], None] = lambda reason: None

    # A connection.

    def channel(self, deadline: float, *, ack_window: float) -> Any:
        return Question(self) if "close" in self.calls else self

    # A channel.

    def on_lost(self, callback: Callable[[BrokerError], None]) -> None:
        self._on_lost = callback

    def qos(self, prefetch: int, deadline: float) -> None:
        self._prefetch = prefetch

    def declare_queue(self, name: str, deadline: float, **options: Any) -> int:
        if self.trouble is not None:
            raise self.trouble
        if self.stale:
            self.stale -= 1
            return 0
        return len(self.messages) - min(self.hidden, len(self.messages))

    def consume(self, queue: str, tag: str, on_delivery: Callable[[Delivery], None], deadline: float) -> None:
        self.calls.append("consume")
        free = len(self.messages) - self.hidden
        for number in self.messages[self.hidden : self.hidden + min(self._prefetch, free)]:
            one = Delivery(1, number, False, b"", b"", b"")
            one.settlement = self.settlement
            self.settlement.opened(number)
            on_delivery(one)
            self.hidden += 1

    def cancel(self, tag: str, deadline: float) -> None:
        self.calls.append("cancel")

    def close(self, deadline: float) -> None:
        self.calls.append("close")
        self.hidden = 0
        self.stale, self.stale_at_close = self.stale_at_close, 0

    def lose(self) -> None:
        self.lost = ChannelLost()
        self.settlement.close()
        self._on_lost(self.lost)


class Question:
    """A channel for one question to the broker, after the one that looked is closed."""

    def __init__(self, broker: FakeBroker) -> None:
        self.declare_queue = broker.declare_queue

    def close(self, deadline: float) -> None:
        """Nothing depends on it."""


def browse(broker: FakeBroker, timeout: float = TIMEOUT) -> Browser:
    return Browser(broker, "emails.buried", timeout)  # type: ignore[arg-type]


def tags(page: list[Delivery]) -> list[int]:
    return [one.tag for one in page]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse_module, "LOOK_INTERVAL", 0.001)


def test_pages_follow_each_other_until_there_are_no_more() -> None:
    broker = FakeBroker(5)

    with browse(broker) as browser:
        pages = [tags(browser.page(2)) for _ in range(4)]

    assert pages == [[1, 2], [3, 4], [5], []]


def test_nothing_is_settled_but_what_was_asked_for() -> None:
    broker = FakeBroker(4)

    with browse(broker) as browser:
        page = browser.page(4)
        browser.settle(page[1])
        assert browser.left == 3

    assert broker.settlement.take(0.0) == frames.ack(1, 2, False)
    assert broker.calls == ["consume", "cancel", "close"]


def test_nothing_is_asked_of_an_empty_queue_but_whether_it_is() -> None:
    broker = FakeBroker(0)

    with browse(broker) as browser:
        assert browser.page(10) == []

    assert broker.calls == ["close"]


def test_messages_in_other_hands_are_not_waited_for() -> None:
    broker = FakeBroker(5, hidden=3)
    declare, answers = broker.declare_queue, [5]
    broker.declare_queue = lambda *a, **o: answers.pop() if answers else declare(*a, **o)  # type: ignore[method-assign]

    with browse(broker) as browser:
        assert tags(browser.page(5)) == [4, 5]


def test_a_broker_that_says_there_are_messages_and_sends_none_is_not_waited_for_for_ever() -> None:
    broker = FakeBroker(5, hidden=5)
    broker.declare_queue = lambda *a, **o: 5  # type: ignore[method-assign]

    with pytest.raises(BrokerTimeout, match=r"emails\.buried"), browse(broker, NO_TIME) as browser:
        browser.page(5)

    assert broker.calls[-1] == "close"


def test_a_channel_that_is_lost_ends_the_wait() -> None:
    broker = FakeBroker(5, hidden=5)
    broker.declare_queue = lambda *a, **o: 5  # type: ignore[method-assign]
    timer = threading.Timer(0.01, broker.lose)
    timer.start()

    with pytest.raises(ChannelLost), browse(broker) as browser:
        browser.page(5)
    timer.join()


def test_putting_back_is_over_when_the_broker_says_so_not_before() -> None:
    broker = FakeBroker(2)

    with browse(broker) as browser:
        browser.page(2)
        broker.stale_at_close = 3

    assert (broker.stale, broker.stale_at_close) == (0, 0)


def test_putting_back_that_never_shows_is_waited_for_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse_module, "RETURN_TIMEOUT", 0.01)
    broker = FakeBroker(2)

    with browse(broker) as browser:
        browser.page(2)
        broker.stale_at_close = 1_000_000

    assert broker.calls[-1] == "close"


def look_and_fail(broker: FakeBroker, error: Exception | None, trouble: BrokerError | None = None) -> None:
    """Look at two messages, then let the broker have trouble, then fail."""
    with browse(broker) as browser:
        browser.page(2)
        broker.trouble = trouble
        if error is not None:
            raise error


def test_after_an_error_the_rest_is_waited_for_all_the_same() -> None:
    broker = FakeBroker(2)
    broker.stale_at_close = 3

    with pytest.raises(PutRefused):
        look_and_fail(broker, PutRefused())

    assert (broker.stale, broker.stale_at_close) == (0, 0)


def test_the_first_error_is_the_one_that_is_told() -> None:
    broker = FakeBroker(2)

    with pytest.raises(PutRefused):
        look_and_fail(broker, PutRefused(), ChannelLost())

    assert broker.calls[-1] == "close"


def test_putting_back_that_fails_is_an_error() -> None:
    broker = FakeBroker(2)

    with pytest.raises(ChannelLost):
        look_and_fail(broker, None, ChannelLost())

    assert broker.calls[-1] == "close"
