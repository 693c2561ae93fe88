"""A broker's state, its clients and its store in one hand: no wire, no disk, and a clock that stands until it is turned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from hopd.amqp.properties import Properties, decode, encode
from hopd.broker.channel import Channel
from hopd.broker.model import Cancelled, CloseChannel, DeclareOk, Deliver, Limits, Load, Message, Published, size_of
from hopd.broker.state import State
from tests.support.journal import Shelf

_Result = TypeVar("_Result")

#: When every test begins, seconds since 1970.
START = 1_700_000_000.0


def message(
    body: bytes, exchange: str = "", key: str = "q", *, persistent: bool = False, ttl: float | None = None, **properties: Any
) -> Message:
    """A message as a session makes one. `ttl` is in seconds."""
    expiration = None if ttl is None else str(round(ttl * 1000))
    delivery_mode = 2 if persistent else 1
    raw = encode(Properties(delivery_mode=delivery_mode, expiration=expiration, **properties))
    return Message(exchange, key, raw, body, persistent, properties.get("priority", 0), ttl, size_of(raw, body))


def headers(delivery: Deliver) -> Mapping[str, Any]:
    """The headers of what was delivered."""
    return decode(delivery.message.properties).headers


class PureBroker:
    """The state, and whoever has to do with it. Loads are answered at once; every client reads what it is sent."""

    def __init__(self, *, paging: bool = False, limits: Limits | None = None) -> None:
        self.paging = paging
        self.limits = limits
        self.now = START
        self.shelf = Shelf()
        self.state = State(paging=paging, limits=limits)
        self.loads: list[Load] = []
        self.reading = True

    def channel(self) -> Hand:
        """A channel of a client of its own."""
        return Hand(self)

    def wait(self, seconds: float) -> None:
        """Let time pass, and what is due happen at its time."""
        end = self.now + seconds
        while (due := self.state.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.state.tick(self.now)
            self.pump()
        self.now = end

    def pump(self) -> None:
        """Have everybody told, and the store keep what it has to."""
        while effects := self.state.take_effects():
            self.save()
            told = set()
            for effect in effects:
                if isinstance(effect, Load):
                    self.loads.append(effect)
                    self.state.loaded(effect.queue, self.shelf.read(effect.queue, effect.ids), self.now)
                else:
                    hand = cast("Hand", effect.channel.owner)
                    hand.tell(effect)
                    told.add(hand)
            for hand in told:
                if self.reading and hand.connected:
                    self.state.wrote(hand, self.now)
        self.save()

    def save(self) -> None:
        """What is in the journal is durable from here on."""
        self.shelf.play(self.state.take_journal())

    def restart(self) -> None:
        """A new broker, of what the last one saved."""
        self.state = State(paging=self.paging, limits=self.limits)
        self.state.restore(self.shelf.restored(), self.now)
        self.pump()

    def ready(self, queue: str = "q") -> int:
        """How many messages are ready in a queue."""
        return next(info.ready for info in self.state.queues() if info.name == queue)

    def exists(self, queue: str) -> bool:
        """There is a queue of that name."""
        return any(info.name == queue for info in self.state.queues())


class Hand:
    """One client with one channel. What it is sent lies in `inbox` until somebody looks; it acks nothing by itself."""

    def __init__(self, broker: PureBroker) -> None:
        self.broker = broker
        self.inbox: list[Deliver] = []
        self.cancelled: list[str] = []
        self.closed: list[str] = []
        self.connected = True
        broker.state.connected(self)
        self.channel: Channel = broker.state.open_channel(self, 1)

    def tell(self, effect: Deliver | Cancelled | CloseChannel) -> None:
        """Something for this client."""
        if isinstance(effect, Deliver):
            self.inbox.append(effect)
        elif isinstance(effect, Cancelled):
            self.cancelled.append(effect.consumer_tag)
        else:
            self.closed.append(effect.refused.text)

    # --- what a client says ---------------------------------------------------------------------------------------------

    def declare(
        self, queue: str = "q", *, durable: bool = False, exclusive: bool = False, auto_delete: bool = False, **arguments: Any
    ) -> DeclareOk:
        """Arguments as keywords: `x_max_length=5`."""
        return self._after(
            self.broker.state.queue_declare(
                self,
                queue,
                passive=False,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=_arguments(arguments),
                now=self.broker.now,
            )
        )

    def passive(self, queue: str) -> DeclareOk:
        """Look whether a queue is there."""
        state, now = self.broker.state, self.broker.now
        return state.queue_declare(self, queue, passive=True, durable=False, exclusive=False, auto_delete=False, arguments={}, now=now)

    def exchange(
        self, name: str, kind: str = "direct", *, durable: bool = False, auto_delete: bool = False, internal: bool = False, **arguments: Any
    ) -> None:
        """Declare an exchange; arguments as keywords."""
        self.broker.state.exchange_declare(
            name, kind, passive=False, durable=durable, auto_delete=auto_delete, internal=internal, arguments=_arguments(arguments)
        )

    def bind(self, queue: str, exchange: str, key: str = "", **arguments: Any) -> None:
        """Bind a queue; arguments as keywords."""
        self.broker.state.queue_bind(self, queue, exchange, key, _arguments(arguments))

    def publish(self, *bodies: bytes, **rest: Any) -> list[Published]:
        """Publish messages of these bodies, `rest` as of `message`."""
        published = [self.broker.state.publish(message(body, **rest), self.broker.now) for body in bodies]
        return self._after(published)

    def prefetch(self, count: int, *, whole_channel: bool = False) -> None:
        """basic.qos"""
        self.broker.state.qos(self.channel, count, whole_channel, self.broker.now)
        self.broker.pump()

    def consume(self, queue: str = "q", tag: str = "", *, no_ack: bool = False, exclusive: bool = False, **arguments: Any) -> str:
        """Start a consumer; its tag. Arguments as keywords."""
        state, now = self.broker.state, self.broker.now
        options = {"no_ack": no_ack, "exclusive": exclusive}
        return self._after(state.consume(self.channel, queue, tag, **options, arguments=_arguments(arguments), now=now))

    def cancel(self, tag: str) -> None:
        """End a consumer."""
        self.broker.state.cancel(self.channel, tag, self.broker.now)
        self.broker.pump()

    def get(self, queue: str = "q", *, no_ack: bool = False) -> Deliver | None:
        """Ask for one message."""
        found = self._after(self.broker.state.get(self.channel, queue, no_ack=no_ack, now=self.broker.now))
        return None if found is None else found[0]

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """basic.ack"""
        self.broker.state.ack(self.channel, tag, multiple, self.broker.now)
        self.broker.pump()

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """basic.nack"""
        self.broker.state.nack(self.channel, tag, multiple, requeue, self.broker.now)
        self.broker.pump()

    def reject(self, tag: int, *, requeue: bool = False) -> None:
        """basic.reject"""
        self.broker.state.reject(self.channel, tag, requeue, self.broker.now)
        self.broker.pump()

    def recover(self) -> None:
        """basic.recover"""
        self.broker.state.recover(self.channel, True, self.broker.now)
        self.broker.pump()

    def purge(self, queue: str = "q") -> int:
        """Drop what is ready."""
        return self._after(self.broker.state.queue_purge(self, queue))

    def delete(self, queue: str = "q", *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue."""
        return self._after(self.broker.state.queue_delete(self, queue, if_unused=if_unused, if_empty=if_empty))

    def close(self) -> None:
        """Close the channel."""
        self.broker.state.close_channel(self.channel, self.broker.now)
        self.broker.pump()

    def leave(self) -> None:
        """Close the connection."""
        self.connected = False
        self.broker.state.disconnected(self, self.broker.now)
        self.broker.pump()

    # --- what it was sent -----------------------------------------------------------------------------------------------

    def deliveries(self) -> list[Deliver]:
        """What arrived since the last look."""
        arrived, self.inbox = self.inbox, []
        return arrived

    def bodies(self) -> list[bytes]:
        """The bodies of what arrived since the last look."""
        return [delivery.message.body for delivery in self.deliveries()]

    def drain(self, queue: str = "q") -> list[bytes]:
        """Everything that is ready in a queue, asked for and done with."""
        bodies = []
        while (delivery := self.get(queue, no_ack=True)) is not None:
            bodies.append(delivery.message.body)
        return bodies

    def _after(self, result: _Result) -> _Result:
        self.broker.pump()
        return result


def _arguments(keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in keywords.items()}
