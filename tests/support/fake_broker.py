"""A broker for one topic, as far as its consumer sees it: a link, its connection, their channels, without a wire.

Everything it answers can be held, refused or made to fail, one call at a time. It waits as gevent waits.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from hopd.amqp import frames
from hopd.amqp.settlement import Settlement
from hopd.amqp.wire import Delivery
from hopd.aside import COUNTED
from hopd.errors import BrokerError, BrokerTimeout, BrokerUnreachable, ChannelLost, ConnectionLost

#: Far longer than anything here takes. Seconds.
LONG = 60.0


class Script:
    """What happens to each kind of call: it takes `turns` of the loop, then what is set for it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, list[BaseException]] = {}
        self.held: dict[str, Event] = {}
        self.turns = 0

    def hold(self, call: str) -> Event:
        """Let the broker be silent about `call` until the event is set."""
        self.held[call] = Event()
        return self.held[call]

    def fail(self, call: str, *errors: BaseException) -> None:
        """Answer the next calls of that kind with these errors."""
        self.errors.setdefault(call, []).extend(errors)

    def run(self, call: str, deadline: float) -> None:
        self.calls.append(call)
        for _ in range(self.turns):
            gevent.sleep(0)
        if call in self.held and not self.held[call].wait(max(0.0, deadline - monotonic())):
            raise BrokerTimeout
        if self.errors.get(call):
            raise self.errors[call].pop(0)


class FakeChannel:
    """A channel. `sent` is what was settled on it, `delivered` counts what it delivered."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.lost: BrokerError | None = None
        self.closed = False
        self.consuming = False
        self.delivered = 0
        self.settlement = Settlement(1, lambda settlement: None)
        self._on_lost: Callable[[BrokerError], None] = lambda error: None
        self._on_delivery: Callable[[Delivery], None] = lambda delivery: None

    def qos(self, prefetch: int, deadline: float) -> None:
        self._ask("qos", deadline)

    def consume(self, queue: str, tag: str, on_delivery: Callable[[Delivery], None], deadline: float) -> None:
        self._on_delivery = on_delivery
        self._ask("consume", deadline)
        self.consuming = True

    def cancel(self, tag: str, deadline: float) -> None:
        self._ask("cancel", deadline)
        self.consuming = False

    def close(self, deadline: float) -> None:
        if self.lost is not None:
            return
        self._on_lost = lambda error: None
        self.broker.script.run("close", deadline)
        self.closed = True
        self.consuming = False
        self.settlement.close()

    def abandon(self) -> None:
        if self.lost is None:
            self._on_lost = lambda error: None
            self.closed = True
            self.consuming = False
            self.settlement.close()

    def on_lost(self, callback: Callable[[BrokerError], None]) -> None:
        self._on_lost = callback
        if self.lost is not None:
            callback(self.lost)

    def _ask(self, call: str, deadline: float) -> None:
        if self.lost is not None:
            raise self.lost
        self.broker.script.run(call, deadline)
        if self.lost is not None:
            raise self.lost

    # --- what the test makes happen -----------------------------------------------------------

    def deliver(self, count: int = 1, *, redelivered: bool = False) -> None:
        """Deliver jobs whose bodies are their tags."""
        for _ in range(count):
            self.delivered += 1
            one = Delivery(1, self.delivered, redelivered, b"", b"\0\0", str(self.delivered).encode())
            one.settlement = self.settlement
            self.settlement.opened(one.tag)
            self._on_delivery(one)

    def lose(self, error: BrokerError | None = None) -> None:
        """The broker closes it."""
        if self.lost is None and not self.closed:
            self.lost = error or ChannelLost("closed for a test")
            self.consuming = False
            self.settlement.close()
            self._on_lost(self.lost)

    def nacked(self) -> list[int]:
        """The tags that went back unharmed. Takes what is to be sent."""
        sent = self.settlement.take(0.0)
        return [tag for tag in range(1, self.delivered + 1) if frames.nack(1, tag, True) in sent]


class FakeAside:
    """What became of a topic's jobs."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.counts = dict.fromkeys(COUNTED, 0)


class FakeBroker:
    """The link, its connection and the topic's declaration in one."""

    def __init__(self, topic: str = "emails") -> None:
        self.name = topic
        self.aside: Any = FakeAside(topic)
        self.script = Script()
        self.channels: list[FakeChannel] = []
        self.reachable = Event()
        self.reachable.set()

    # As the link, the connection and the topic, in this order.

    def connection(self, deadline: float) -> FakeBroker:
        if not self.reachable.wait(max(0.0, deadline - monotonic())):
            raise BrokerUnreachable("connection refused")
        self.script.run("connection", deadline)
        return self

    def channel(self, deadline: float, *, ack_window: float) -> FakeChannel:
        self.script.run("channel", deadline)
        self.channels.append(FakeChannel(self))
        return self.channels[-1]

    def declare_on(self, connection: FakeBroker, deadline: float) -> None:
        assert connection is self
        self.script.run("declare", deadline)

    # What the test makes happen.

    @property
    def present(self) -> FakeChannel:
        """The channel that was opened last."""
        return self.channels[-1]

    def go_away(self) -> None:
        """Lose the connection, and refuse new ones."""
        self.reachable.clear()
        for channel in self.channels:
            channel.lose(ConnectionLost("the broker hung up"))

    def come_back(self) -> None:
        """Take connections again."""
        self.reachable.set()
