"""A loopback TCP proxy that behaves like the networks people really have.

    with Proxy(node.port) as proxy:
        connect(proxy.through(node.url))
        proxy.down.slice = 1                # whatever the broker sends arrives byte by byte
        proxy.cut("up", after=1000)         # a connection is reset in the middle of what the client sends
        proxy.black_hole(); proxy.heal()

`up` is what clients send, `down` what they receive. One thread owns every socket, so that no fault races with another; each
method has taken effect when it returns.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.private_node import free_port

#: How much one direction of a connection keeps before the proxy stops reading; the kernel's buffers come on top.
BUFFER = 256 * 1024

#: How long the loop sleeps at most while it keeps bytes back, seconds: they leave within this of their time.
TICK = 0.005

#: How long it sleeps when it keeps none, seconds. Orders wake it.
REST = 0.2

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s: close() sends RST


@dataclass
class Weather:
    """What happens to the bytes of one direction. Change it at any time."""

    slice: int = 65536  #: bytes per write
    delay: float = 0.0  #: seconds that what arrives is held
    rate: float = 0.0  #: bytes per second; 0 is no limit
    held: bool = False  #: nothing moves, nothing is refused: a black hole
    cut_after: int | None = None  #: bytes after which a connection is reset
    cuts: int = 0  #: how many connections that will happen to

    def clear(self) -> None:
        """Fair weather again."""
        for each in fields(self):
            setattr(self, each.name, each.default)


class Flow:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, weather: Weather) -> None:
        self.source = source
        self.sink = sink
        self.weather = weather
        self.waiting = bytearray()
        self.moved = 0
        self.due = 0.0
        self.ended = False
        self.passed_end = False

    @property
    def wants_more(self) -> bool:
        return not self.ended and not self.weather.held and len(self.waiting) < BUFFER

    def can_move(self, now: float) -> bool:
        return (bool(self.waiting) or (self.ended and not self.passed_end)) and not self.weather.held and now >= self.due

    def take(self, now: float) -> None:
        data = self.source.recv(65536)
        if not self.waiting:
            self.due = max(self.due, now + self.weather.delay)
        self.waiting += data
        self.ended = not data

    def move(self, now: float) -> None:
        """Pass on what the weather allows; ConnectionResetError when that was the byte to cut at."""
        if not self.waiting:
            self.sink.shutdown(socket.SHUT_WR)
            self.passed_end = True
            return
        limit = self.weather.slice
        if self.weather.rate:
            limit = min(limit, max(1, int(self.weather.rate * TICK)))
        if self.weather.cuts and self.weather.cut_after is not None:
            limit = min(limit, self.weather.cut_after - self.moved)
        sent = self.sink.send(self.waiting[: max(limit, 0)]) if limit > 0 else 0
        del self.waiting[:sent]
        self.moved += sent
        if self.weather.rate:
            self.due = now + sent / self.weather.rate
        if self.weather.cuts and self.weather.cut_after is not None and self.moved >= self.weather.cut_after:
            self.weather.cuts -= 1
            raise ConnectionResetError("cut")


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes connections on to `target`, as the weather is."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.up = Weather()
        self.down = Weather()
        self.accepted = 0
        self._silent = False
        self._pairs: list[tuple[Flow, Flow]] = []
        self._mute: list[socket.socket] = []
        self._listener: socket.socket | None = self._listen()
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def through(self, url: str) -> str:
        """`url` with this proxy's port instead of its own."""
        port = urlsplit(url).port
        return url.replace(f":{port}", f":{self.port}", 1)

    @property
    def connections(self) -> int:
        """How many connections pass through at the moment."""
        return len(self._pairs)

    # --- faults ---------------------------------------------------------------------------------

    def refuse(self) -> None:
        """New connections are refused; the present ones go on."""
        self._order(self._stop_listening)

    def stay_silent(self) -> None:
        """New connections are accepted, and nothing ever answers on them."""

        def fall_silent() -> None:
            self._silent = True

        self._order(fall_silent)

    def black_hole(self) -> None:
        """Nothing arrives any more, in either direction, and nobody is told."""

        def hold() -> None:
            self.up.held = self.down.held = True

        self._order(hold)

    def reset(self) -> None:
        """Every present connection is reset (RST), on both sides."""
        self._order(self._reset_all)

    def cut(self, direction: str, after: int, times: int = 1) -> None:
        """Reset a connection after `after` more bytes of `direction` ("up" or "down"); this happens to `times` connections."""

        def prepare() -> None:
            weather = {"up": self.up, "down": self.down}[direction]
            for pair in self._pairs:
                for flow in pair:
                    flow.moved = 0
            weather.cut_after, weather.cuts = after, times

        self._order(prepare)

    def heal(self) -> None:
        """Fair weather: what was held moves again, new connections are welcome. Those that met silence are reset."""
        self._order(self._welcome)

    def close(self) -> None:
        """Reset everything and stop."""
        if self._thread.is_alive():
            self._order(self._finish)
            self._thread.join()
        self._wake_reader.close()
        self._wake_writer.close()

    # --- the loop: only its thread touches sockets ----------------------------------------------

    def _order(self, action: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((action, done))
        self._wake_writer.send(b"!")
        if not done.wait(10.0):
            raise AssertionError("the proxy's loop does not answer")

    def _run(self) -> None:
        while self._running:
            ready = self._wait()
            while self._orders:
                action, done = self._orders.popleft()
                action()
                done.set()
            if self._running:
                self._serve(ready)

    def _wait(self) -> dict[int, int]:
        now = time.monotonic()
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        if self._listener is not None:
            poller.register(self._listener, select.POLLIN)
        interest: dict[int, int] = {}
        for flow in self._flows():
            interest[flow.source.fileno()] = interest.get(flow.source.fileno(), 0) | (select.POLLIN if flow.wants_more else 0)
            interest[flow.sink.fileno()] = interest.get(flow.sink.fileno(), 0) | (select.POLLOUT if flow.can_move(now) else 0)
        for number, events in interest.items():
            if events:  # poll reports errors and hang-ups unasked, and would spin on a connection that is held
                poller.register(number, events)
        patience = TICK if any(flow.waiting for flow in self._flows()) else REST
        return dict(poller.poll(patience * 1000))

    def _serve(self, ready: dict[int, int]) -> None:
        if self._wake_reader.fileno() in ready:
            self._wake_reader.recv(4096)
        if self._listener is not None and self._listener.fileno() in ready:
            self._accept(self._listener)
        now = time.monotonic()
        for pair in list(self._pairs):
            try:
                for flow in pair:
                    if flow.wants_more and ready.get(flow.source.fileno(), 0) & ~select.POLLOUT:
                        flow.take(now)
                    if flow.can_move(now) and ready.get(flow.sink.fileno(), 0) & ~select.POLLIN:
                        flow.move(now)
            except BlockingIOError:
                continue  # a hang-up looked like readiness of the other direction; the next turn tells
            except OSError:
                self._end(pair, reset=True)
                continue
            if all(flow.passed_end for flow in pair):
                self._end(pair, reset=False)

    def _flows(self) -> list[Flow]:
        return [flow for pair in self._pairs for flow in pair]

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        self.accepted += 1
        if self._silent:
            self._mute.append(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5.0)
        except OSError:
            _close(client, reset=True)
            return
        for side in (client, server):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append((Flow(client, server, self.up), Flow(server, client, self.down)))

    def _end(self, pair: tuple[Flow, Flow], *, reset: bool) -> None:
        self._pairs.remove(pair)
        for flow in pair:
            _close(flow.source, reset=reset)

    # --- orders ---------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        return listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _welcome(self) -> None:
        for weather in (self.up, self.down):
            weather.clear()
        self._silent = False
        self._reset_mute()
        if self._listener is None:
            self._listener = self._listen()

    def _reset_mute(self) -> None:
        while self._mute:
            _close(self._mute.pop(), reset=True)

    def _reset_all(self) -> None:
        for pair in list(self._pairs):
            self._end(pair, reset=True)

    def _finish(self) -> None:
        self._reset_all()
        self._reset_mute()
        self._stop_listening()
        self._running = False


def _close(side: socket.socket, *, reset: bool) -> None:
    if reset:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    side.close()
