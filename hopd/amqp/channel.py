"""One channel: calls that wait for the broker's answer, one consumer or one publisher, and the end of it.

A channel is never opened again; a new one takes its place, with a settlement of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Protocol, TypeAlias

import pika.exceptions
import pika.frame
from pika import spec
from pika.channel import Channel as PikaChannel
from pika.connection import Connection as PikaConnection

from hopd.amqp.settlement import Settlement
from hopd.amqp.wire import Confirm, Delivery, Returned
from hopd.errors import BrokerError, BrokerRefused, BrokerTimeout, ChannelLost

#: Runs on the connection's reader, under its lock: it must neither block nor raise.
OnDelivery: TypeAlias = Callable[[Delivery], None]
OnEvent: TypeAlias = Callable[[Confirm | Returned], None]
OnLost: TypeAlias = Callable[[BrokerError], None]


class Home(Protocol):
    """What a channel needs of its connection."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Guards pika's state and the order of what is sent."""

    def wake(self, settlement: Settlement) -> None:
        """Something was settled."""

    def flush_settlements(self) -> None:
        """Queue every settlement so far, ahead of what is sent next."""

    def forget(self, channel: Channel) -> None:
        """The channel is closed."""

    def send(self, frames: bytes) -> None:
        """Queue frames. Under the lock."""


class Channel:
    """A channel of a connection. Methods that take a `deadline` (monotonic seconds) wait for the broker's answer until then and raise
    `BrokerTimeout`, `BrokerRefused` (the broker closed the channel because of it) or `ChannelLost`."""

    def __init__(self, connection: Home, protocol: PikaConnection, *, ack_window: float) -> None:
        self._connection = connection
        self._answers: set[Future[Any]] = set()
        self._opened: Future[Any] = self._expect()
        self._on_delivery: OnDelivery = _drop
        self._on_event: OnEvent = _drop
        self._on_lost: OnLost = _drop
        self._pika: PikaChannel = protocol.channel(on_open_callback=_answering(self._opened))
        self._pika.add_on_close_callback(self._on_close)
        self._pika.add_on_cancel_callback(self._on_cancelled)
        self.number: int = self._pika.channel_number
        self.settlement = Settlement(self.number, connection.wake, ack_window=ack_window)
        self.lost: BrokerError | None = None

    # --- calls --------------------------------------------------------------------------------

    def wait_open(self, deadline: float) -> None:
        """Wait until the broker has opened it."""
        self._wait(self._opened, deadline)

    def qos(self, prefetch: int, deadline: float) -> None:
        """Let each consumer opened from now on have at most `prefetch` unsettled deliveries."""
        self._call(deadline, self._pika.basic_qos, prefetch_count=prefetch)

    def consume(self, queue: str, tag: str, on_delivery: OnDelivery, deadline: float) -> None:
        """Start a consumer; `on_delivery` is called for each delivery of the channel from now on."""
        self._on_delivery = on_delivery
        self._call(deadline, self._pika.basic_consume, queue=queue, on_message_callback=_unused, consumer_tag=tag)

    def consume_soon(self, queue: str, tag: str) -> None:
        """Start one more consumer without waiting; deliveries go where the first one's go. Under the connection's lock."""
        # Not through pika, which sends the next one only when this one is answered.
        self._send(spec.Basic.Consume(queue=queue, consumer_tag=tag, nowait=True))

    def cancel(self, tag: str, deadline: float) -> None:
        """Stop a consumer. When this returns no further delivery of it comes; those that came stay unsettled."""
        self._call(deadline, self._pika.basic_cancel, consumer_tag=tag)

    def cancel_soon(self, tag: str) -> None:
        """Stop a consumer without waiting. Under the connection's lock."""
        self._send(spec.Basic.Cancel(consumer_tag=tag, nowait=True))

    def _send(self, method: Any) -> None:
        if self.lost is None and self._pika.is_open:  # else its consumers have ended with it, or will
            self._connection.send(pika.frame.Method(self.number, method).marshal())

    def select_confirms(self, on_event: OnEvent, deadline: float) -> None:
        """Let the broker confirm what is published here; confirms and returns go to `on_event`."""
        self._on_event = on_event
        self._call(deadline, self._pika.confirm_delivery, ack_nack_callback=_unused)

    def declare_exchange(
        self, name: str, deadline: float, *, passive: bool, durable: bool = True, kind: str = "direct", **more: Any
    ) -> None:
        """Declare an exchange, or check that it is there; `more` is pika's: auto_delete, internal, arguments."""
        self._call(deadline, self._pika.exchange_declare, exchange=name, exchange_type=kind, passive=passive, durable=durable, **more)

    def declare_queue(
        self, name: str, deadline: float, *, passive: bool, durable: bool = True, arguments: Mapping[str, Any] | None = None, **more: Any
    ) -> int:
        """Declare a queue, or check that it is there; returns how many messages are ready in it. `more` is pika's: auto_delete."""
        answer = self._call(
            deadline,
            self._pika.queue_declare,
            queue=name,
            passive=passive,
            durable=durable,
            arguments=dict(arguments or {}) or None,
            **more,
        )
        return int(answer.method.message_count)

    def bind_queue(self, queue: str, exchange: str, routing_key: str, deadline: float, arguments: Mapping[str, Any] | None = None) -> None:
        """Bind a queue to an exchange."""
        arguments = dict(arguments or {}) or None
        self._call(deadline, self._pika.queue_bind, queue=queue, exchange=exchange, routing_key=routing_key, arguments=arguments)

    def bind_exchange(
        self, destination: str, source: str, routing_key: str, deadline: float, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Have what reaches one exchange reach another."""
        arguments = dict(arguments or {}) or None
        bind = self._pika.exchange_bind
        self._call(deadline, bind, destination=destination, source=source, routing_key=routing_key, arguments=arguments)

    def delete_queue(self, queue: str, deadline: float) -> int:
        """Delete a queue with all that is in it; returns how many messages that were."""
        return int(self._call(deadline, self._pika.queue_delete, queue=queue).method.message_count)

    def on_lost(self, callback: OnLost) -> None:
        """Have `callback` called, once and on the reader, when the channel ends other than by our own `close`; at once if it has."""
        with self._connection.lock:
            self._on_lost = callback
            if self.lost is not None:
                callback(self.lost)

    def close(self, deadline: float) -> None:
        """Send every settlement, then close the channel and wait for the broker's word: then it has taken them all.

        Whatever is still unsettled returns to its queue.
        """
        with self._connection.lock:
            if self.lost is not None:
                return
            closed = self._expect()
            self.settlement.hurry()
            self._connection.flush_settlements()
            self._end()
        try:
            self._wait(closed, deadline)
        except ChannelLost:
            # Its end is what was asked for, whichever way it came.
            return

    def abandon(self) -> None:
        """Close the channel without waiting for the broker's word."""
        with self._connection.lock:
            if self.lost is None:
                self._end()

    def _end(self) -> None:
        """Tell the broker, unless somebody has."""
        self._on_lost = _drop
        self.settlement.close()
        if not self._pika.is_closing:
            self._pika.close()

    def _call(self, deadline: float, method: Callable[..., Any], **arguments: Any) -> Any:
        with self._connection.lock:
            if self.lost is not None:
                raise self.lost
            answer = self._expect()
            try:
                method(callback=_answering(answer), **arguments)
            except pika.exceptions.AMQPError as error:
                self._answers.discard(answer)
                raise self._unusable(error) from error
        return self._wait(answer, deadline)

    def _unusable(self, error: Exception) -> BrokerError:
        return self.lost or ChannelLost(f"the channel cannot be used: {error!r}")

    def _expect(self) -> Future[Any]:
        answer: Future[Any] = Future()
        self._answers.add(answer)
        return answer

    def _wait(self, answer: Future[Any], deadline: float) -> Any:
        try:
            return answer.result(max(0.0, deadline - monotonic()))
        except FutureTimeout:
            raise BrokerTimeout("the broker did not answer in time") from None
        finally:
            self._answers.discard(answer)

    # --- on the reader ------------------------------------------------------------------------

    def on_delivery(self, delivery: Delivery) -> None:
        """A message for this channel's consumer."""
        settlement = self.settlement
        delivery.settlement = settlement
        settlement.opened(delivery.tag)
        self._on_delivery(delivery)

    def on_publishing_event(self, event: Confirm | Returned) -> None:
        """A confirm or a return for this channel's publisher."""
        self._on_event(event)

    def on_end(self, reason: BrokerError) -> None:
        """The channel is no more."""
        if self.lost is not None:
            return
        self.lost = reason
        self.settlement.close()
        self._connection.forget(self)
        for answer in list(self._answers):
            if not answer.done():
                answer.set_exception(reason)
        self._on_lost(reason)

    def _on_close(self, _channel: object, error: BaseException) -> None:
        if isinstance(error, pika.exceptions.ChannelClosedByBroker):
            self.on_end(BrokerRefused(f"{error.reply_text} ({error.reply_code})", code=error.reply_code))
        else:
            self.on_end(ChannelLost("the channel was closed"))

    def _on_cancelled(self, frame: Any) -> None:
        # pika sends no cancel-ok and a cancelled consumer can mean a queue that is gone: this channel ends, a new one takes its place.
        self.on_end(ChannelLost(f"the broker cancelled the consumer {frame.method.consumer_tag}"))
        if self._pika.is_open:
            self._pika.close()


def _answering(answer: Future[Any]) -> Callable[[Any], None]:
    """For pika to call with the broker's answer. The end of the channel may have been the answer already."""

    def set_result(value: Any) -> None:
        if not answer.done():
            answer.set_result(value)

    return set_result


def _unused(*_arguments: object) -> None:
    """Where pika wants a callback for what never reaches it."""


def _drop(*_arguments: object) -> None:
    """Nobody listens."""
