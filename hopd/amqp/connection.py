"""One connection to a broker, from its socket to its end: our adapter for pika's protocol state machine.

pika's own adapters are slow, run callbacks where blocking is illegal under gevent, or are on their way out. This one is
a reader and a writer over a standard library socket. It hands deliveries and confirms on without pika, and gives pika
every other method frame. Heartbeats need no timers here: the writer sends one when it had nothing else to say for half
the interval, and the reader's receive gives up after the whole of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pika
import pika.connection
import pika.exceptions
import pika.frame

from hopd.amqp import transport, wire
from hopd.amqp.channel import Channel
from hopd.amqp.endpoint import Endpoint, Options
from hopd.amqp.fork import stays_with_parent
from hopd.amqp.protocol import Protocol, refusal
from hopd.amqp.writer import Speaker, Writer
from hopd.errors import BrokerError, BrokerRefused, BrokerTimeout, ConnectionLost

LOGGER = logging.getLogger(__name__)

#: What the reader grants beyond the negotiated heartbeat before it calls the peer dead; two of its heartbeats are missing by then. Seconds.
HEARTBEAT_GRACE = 2.0

#: How long a closed socket may take to be noticed by the reader. Seconds.
ABORT_TIMEOUT = 1.0


class Connection:
    """An AMQP connection. Its duties, in the order of `run`:

    1. connect the stream and start the writer;
    2. read: hand deliveries, confirms and returns to their channels, the rest to pika;
    3. at the end, whoever caused it: close every channel with the reason, stop the writer, give the socket back.

    `lock` guards pika's state and the writer's queue. Whoever holds it only computes; nobody waits under it.
    """

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self.endpoint = endpoint
        self.lock = threading.RLock()
        self.writer = Writer(self.lock)
        self.blocked: str | None = None
        self.unblocked = threading.Event()
        self.unblocked.set()
        self.on_blocked: Callable[[str | None], None] = lambda _reason: None
        self._options = options
        self._transport: transport.Transport | None = None
        self._protocol: Protocol | None = None
        self._decoder = wire.Decoder()
        self._channels: dict[int, Channel] = {}
        self._ended = threading.Event()
        self._closing = False
        self._heartbeat = options.heartbeat
        stays_with_parent(self)

    # --- the reader ---------------------------------------------------------------------------

    def run(self, on_open: Callable[[Connection], None]) -> BrokerError:
        """Connect and read until the end; returns why it ended. `on_open` runs on the reader and must not block."""
        reason: BrokerError = ConnectionLost("the connection was closed by us")
        writer: threading.Thread | None = None
        try:
            self._transport = stream = transport.connect(self.endpoint, self._options.connect_timeout)
            writer = threading.Thread(target=self.writer.run, args=(stream,), name=f"{self._options.name}-writer", daemon=True)
            writer.start()
            self._read_until_end(stream, on_open)
        except BrokerError as error:
            reason = error
        except Exception as error:
            # Whatever is wrong with us: a connection that ends without telling anybody is worse, and a new one may fare better.
            LOGGER.exception("The connection's reader failed", extra={"event": "reader_failed"})
            reason = ConnectionLost(f"the connection's reader failed: {error!r}")
        finally:
            self._end(reason, writer)
        return reason

    def _read_until_end(self, stream: transport.Transport, on_open: Callable[[Connection], None]) -> None:
        deadline = monotonic() + self._options.connect_timeout
        protocol = self._start_protocol()
        while True:
            timeout = self._heartbeat + HEARTBEAT_GRACE if protocol.opened else deadline - monotonic()
            if timeout <= 0:
                raise BrokerTimeout(f"the broker did not finish the handshake within {self._options.connect_timeout:.0f} s")
            was_open = protocol.opened
            data = stream.receive(timeout)
            if not data:
                raise self._explain_end(protocol)
            with self.lock:
                self._dispatch(data, protocol)
            if protocol.finished:
                raise self._explain_end(protocol)
            if protocol.opened and not was_open:
                self._heartbeat = float(protocol.params.heartbeat or self._options.heartbeat)
                self.writer.beat(self._heartbeat)
                self._decoder.frame_max = protocol.params.frame_max
                on_open(self)

    def _start_protocol(self) -> Protocol:
        with self.lock:
            if self._closing:
                raise ConnectionLost("the connection was closed by us")
            self._protocol = Protocol(self.endpoint, self._options, self.send, self._set_blocked)
            self._protocol._on_stream_connected()
            return self._protocol

    def _dispatch(self, data: bytes, protocol: Protocol) -> None:
        try:
            events = self._decoder.feed(data)
        except wire.FrameError as error:
            raise ConnectionLost(f"the broker's bytes make no sense: {error}") from error
        channels = self._channels
        for event in events:
            if isinstance(event, wire.MethodFrame):
                self._hand_to_pika(event, protocol)
                continue
            channel = channels.get(event.channel)
            if channel is None:
                continue
            if isinstance(event, wire.Delivery):
                channel.on_delivery(event)
            else:
                channel.on_publishing_event(event)

    def _hand_to_pika(self, event: wire.MethodFrame, protocol: Protocol) -> None:
        try:
            frame = pika.frame.decode_frame(event.data)[1]
            protocol._process_frame(frame)
        except Exception as error:
            # pika lets KeyError, struct.error and more through for bytes it does not know.
            raise ConnectionLost(f"the protocol broke down: {error!r}") from error

    def _explain_end(self, protocol: Protocol) -> BrokerError:
        if protocol.refusal is not None:
            code, text = protocol.refusal
            return refusal(code, text)
        if protocol.failure is not None:
            return ConnectionLost(f"the protocol broke down: {protocol.failure!r}")
        if self._closing:
            return ConnectionLost("the connection was closed by us")
        if not protocol.opened:
            return ConnectionLost("the broker hung up during the handshake")
        return ConnectionLost("the broker hung up")

    def _end(self, reason: BrokerError, writer: threading.Thread | None) -> None:
        with self.lock:
            self._closing = True
            channels, self._channels = list(self._channels.values()), {}
            for channel in channels:
                channel.on_end(reason)
            if self._protocol is not None and self._protocol.opened:
                self._protocol.lose()
        self.unblocked.set()
        self.writer.stop()
        if self._transport is not None:
            self._transport.shutdown()
        if writer is not None:
            writer.join()
        self.writer.leave()
        if self._transport is not None:
            self._transport.close()
        self._ended.set()

    def _set_blocked(self, reason: str | None) -> None:
        self.blocked = reason
        if reason is None:
            self.unblocked.set()
        else:
            self.unblocked.clear()
        self.on_blocked(reason)

    # --- for everybody else -------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened now."""
        return self._protocol is not None and self._protocol.opened and not self._closing

    @property
    def frame_max(self) -> int:
        """The largest frame both sides agreed on, in bytes."""
        return self._decoder.frame_max

    @property
    def server_version(self) -> tuple[int, ...]:
        """The broker's version, for what differs by version; empty when it does not say."""
        properties: dict[str, Any] = (self._protocol.server_properties if self._protocol else None) or {}
        numbers = str(properties.get("version", "")).split("-")[0].split(".")
        return tuple(int(number) for number in numbers if number.isdigit())

    def channel(self, deadline: float, *, ack_window: float) -> Channel:
        """Open a channel before `deadline` (monotonic seconds); `ConnectionLost` or `BrokerTimeout` otherwise."""
        with self.lock:
            if self._protocol is None or not self.is_open:
                raise ConnectionLost("the connection is not open")
            try:
                channel = Channel(self, self._protocol, ack_window=ack_window)
            except pika.exceptions.NoFreeChannels as error:
                raise BrokerRefused("the connection has no free channel left", code=504) from error
            self._channels[channel.number] = channel
        try:
            channel.wait_open(deadline)
        except BaseException:  # also what ends a greenlet
            channel.abandon()
            raise
        return channel

    def forget(self, channel: Channel) -> None:
        """The channel is closed; its number may be used again. Under the lock."""
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]

    def wake(self, speaker: Speaker) -> None:
        """The writer asks it for its frames. From any thread; the channels' settlements call it."""
        self.writer.ask(speaker)

    def flush_settlements(self) -> None:
        """Queue every settlement so far, ahead of what is sent next. Under the lock."""
        self.writer.ask_all()

    def send(self, frames: bytes) -> None:
        """Have frames sent that are encoded already. Under the lock, where their order matters."""
        self.writer.queue(frames)
        self.writer.wake()

    def close(self, deadline: float) -> None:
        """Leave in order (settlements, channels, connection) and return when all is released, at the latest soon after `deadline`."""
        with self.lock:
            self._closing = True
            self.writer.ask_all()
            polite = self._protocol is not None and self._protocol.leave()
        if not polite or not self._ended.wait(max(0.0, deadline - monotonic())):
            self.abort()
            self._ended.wait(ABORT_TIMEOUT)

    def leave_to_parent(self) -> None:
        """In a forked child: the connection is not ours. What of its threads is here ends by itself."""
        self._closing = True
        if self._transport is not None:
            self._transport.leave_to_parent()
        for channel in self._channels.values():
            channel.settlement.leave_to_parent()

    def abort(self) -> None:
        """End the stream at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.shutdown()
