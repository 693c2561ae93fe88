"""The broker's state, whatever clients do to it in whatever order, held against a model that a page holds.

The model knows for each message of one queue where it is: ready, in order, or with a client. Persistent messages of a durable
queue that were saved have to be there after a restart; everything else may be gone then.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hopd.broker.model import Deliver, Limits
from tests.support.pure_broker import Hand, PureBroker

CLIENTS = st.integers(0, 2)


@dataclass
class Expected:
    """One message, as the model knows it."""

    number: int
    persistent: bool
    #: It was given to somebody before, as far as a client may know.
    redelivered: bool = False


class AnyOrder(RuleBasedStateMachine):
    """Three clients, one durable queue, a store; pages of five messages."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = PureBroker(paging=True, limits=Limits(page_messages=5))
        self.clients: list[Hand] = []
        self.ready: list[Expected] = []
        self.with_clients: dict[tuple[int, int], Expected] = {}
        self.consuming: dict[int, int] = {}
        self.published = 0

    @initialize(prefetch=st.integers(1, 7))
    def begin(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.clients = [self.broker.channel() for _ in range(3)]
        for client in self.clients:
            client.prefetch(prefetch)
        self.clients[0].declare(durable=True)

    # --- what clients do ----------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 12), persistent=st.booleans())
    def publish(self, count: int, persistent: bool) -> None:
        for _ in range(count):
            self.published += 1
            self.ready.append(Expected(self.published, persistent))
            self.clients[0].publish(b"%d" % self.published, persistent=persistent)
        self.observe()

    @rule(who=CLIENTS)
    def consume(self, who: int) -> None:
        if not self.clients[who].channel.consumers:
            self.clients[who].consume(tag="c")
        self.observe()

    @rule(who=CLIENTS)
    def cancel(self, who: int) -> None:
        self.clients[who].cancel("c")
        self.observe()

    @rule(who=CLIENTS, no_ack=st.booleans())
    def get(self, who: int, no_ack: bool) -> None:
        delivery = self.clients[who].get(no_ack=no_ack)
        assert (delivery is None) is (not self.ready)
        if delivery is not None:
            self.arrived(who, delivery)
            if no_ack:
                del self.with_clients[who, delivery.tag]
        self.observe()

    @rule(who=CLIENTS, data=st.data(), multiple=st.booleans(), how=st.sampled_from(["ack", "requeue", "reject"]))
    def settle(self, who: int, data: st.DataObject, multiple: bool, how: str) -> None:
        tags = sorted(tag for owner, tag in self.with_clients if owner == who)
        if not tags:
            return
        tag = data.draw(st.sampled_from(tags))
        settled = [each for each in tags if each <= tag] if multiple else [tag]
        gone = [self.with_clients.pop((who, each)) for each in settled]
        client = self.clients[who]
        if how == "requeue":
            self.returned(gone)
            client.nack(tag, multiple=multiple)
        elif how == "reject":
            client.nack(tag, multiple=multiple, requeue=False)
        else:
            client.ack(tag, multiple=multiple)
        self.observe()

    @rule(who=CLIENTS)
    def recover(self, who: int) -> None:
        self.lost(who)
        self.clients[who].recover()
        self.observe()

    @rule(who=CLIENTS, politely=st.booleans())
    def leave(self, who: int, politely: bool) -> None:
        self.lost(who)
        if politely:
            self.clients[who].close()
        self.clients[who].leave()
        self.clients[who] = self.broker.channel()
        self.clients[who].prefetch(self.prefetch)
        self.observe()

    @rule()
    def purge(self) -> None:
        assert self.clients[0].purge() == len(self.ready)
        self.ready.clear()

    @rule()
    def restart(self) -> None:
        for who in range(3):
            self.lost(who)
        self.ready = [message for message in self.ready if message.persistent]
        self.broker.restart()
        self.clients = [self.broker.channel() for _ in range(3)]
        for client in self.clients:
            client.prefetch(self.prefetch)

    # --- the model ----------------------------------------------------------------------------------------------------

    def observe(self) -> None:
        """Take note of what was delivered meanwhile, in the order in which it was: one is given what another gave back."""
        for who, client in enumerate(self.clients):
            for delivery in client.deliveries():
                self.arrived(who, delivery)

    def arrived(self, who: int, delivery: Deliver) -> None:
        number = int(delivery.message.body)
        index, message = next((index, each) for index, each in enumerate(self.ready) if each.number == number)
        assert delivery.redelivered or not message.redelivered
        del self.ready[index]
        self.with_clients[who, delivery.tag] = message

    def returned(self, messages: list[Expected]) -> None:
        for message in messages:
            message.redelivered = True
        self.ready = sorted([*self.ready, *messages], key=lambda message: message.number)

    def lost(self, who: int) -> None:
        tags = [tag for owner, tag in self.with_clients if owner == who]
        self.returned([self.with_clients.pop((who, tag)) for tag in tags])

    # --- what always holds --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.clients)
    @invariant()
    def everything_is_where_it_should_be(self) -> None:
        (info,) = self.broker.state.queues()
        assert (info.ready, info.unsettled) == (len(self.ready), len(self.with_clients))
        assert self.broker.state.messages == len(self.ready) + len(self.with_clients)
        # What was handed out came before what is ready, except for what was given back since.
        fresh = [message.number for message in self.ready if not message.redelivered]
        assert all(message.number < min(fresh, default=self.published + 1) for message in self.with_clients.values())

    @precondition(lambda self: self.clients)
    @invariant()
    def nobody_waits_for_what_is_ready(self) -> None:
        for client in self.clients:
            (consumer,) = client.channel.consumers.values() or (None,)
            assert consumer is None or not self.ready or consumer.unsettled >= self.prefetch

    @precondition(lambda self: self.clients)
    @invariant()
    def the_store_has_what_is_persistent(self) -> None:
        persistent = [message for message in [*self.ready, *self.with_clients.values()] if message.persistent]
        stored = self.broker.shelf.queues["q"].messages.values()
        assert sorted(int(each.message.body) for each in stored) == sorted(message.number for message in persistent)

    def teardown(self) -> None:
        """What is ready comes out in order, and with it gone nothing is left."""
        if not self.clients:
            return
        for who, client in enumerate(self.clients):
            client.cancel("c")
            self.lost(who)
        for client in self.clients:
            client.recover()
        expected = [b"%d" % message.number for message in self.ready]
        assert self.broker.channel().drain() == expected
        assert (self.broker.state.messages, self.broker.state.memory) == (0, 0)
        assert self.broker.shelf.queues["q"].messages == {}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
