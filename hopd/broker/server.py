"""The embedded broker, to start and stop: its own thread, or under gevent's monkey-patching a greenlet of the hub that is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TypeVar

from gevent.hub import get_hub
from gevent.monkey import is_module_patched

from hopd.amqp.fork import stays_with_parent
from hopd.broker.alarms import Bounds
from hopd.broker.clock import Clock, WallClock
from hopd.broker.commits import Commits
from hopd.broker.desk import Desk
from hopd.broker.listener import Listener, listen, listen_unix, parse_address
from hopd.broker.model import ChannelInfo, Limits, QueueInfo
from hopd.broker.state import State
from hopd.broker.store import Store
from hopd.broker.switchboard import Switchboard
from hopd.errors import CannotListen, HopError

_T = TypeVar("_T")

#: RabbitMQ's own.
USERS: Mapping[str, str] = {"guest": "guest"}

#: For clients to leave when the broker stops. Seconds.
STOP_TIMEOUT = 2.0


class Broker:
    """An AMQP 0-9-1 broker in this process. Its methods may be called from any thread.

    `listen` is a loopback address (``127.0.0.1:0``: any free port), `unix` the path of a socket; one of the two may be None.
    `store` is the path of the file in which durable queues and persistent messages are kept; with None everything is in memory.
    """

    def __init__(
        self,
        *,
        listen: str | None = "127.0.0.1:0",
        unix: str | None = None,
        store: str | None = None,
        users: Mapping[str, str] = USERS,
        bounds: Bounds | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        if listen is None and unix is None:
            raise CannotListen("a broker has to listen somewhere: on an address, a Unix socket, or both")
        self._address = None if listen is None else parse_address(listen)
        self._unix = unix
        self._store_path = store
        self._users = dict(users)
        self._bounds = bounds or Bounds()
        self._limits = limits or Limits()
        self._clock = clock or WallClock()
        self._switchboard: Switchboard | None = None
        self._thread: threading.Thread | None = None
        stays_with_parent(self)

    # --- start and stop -----------------------------------------------------------------------

    def start(self) -> None:
        """Serve; returns when clients can connect. `CannotListen` or `StoreError` say why that cannot be."""
        started: Future[Switchboard] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="hopd-broker", daemon=True)
        self._thread.start()
        try:
            self._switchboard = started.result()
        except BaseException:
            self._thread.join()
            raise

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Make everything durable, confirm it, tell clients (320), and end. Clients have `timeout` seconds to leave. Again does nothing."""
        switchboard, self._switchboard = self._switchboard, None
        if switchboard is not None and self._thread is not None:
            switchboard.call(partial(switchboard.stop, timeout))
            self._thread.join()

    def leave_to_parent(self) -> None:
        """In a forked child: the broker, and what it has on the disk, are the parent's."""
        self._switchboard = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, started: Future[Switchboard]) -> None:
        with ExitStack() as stack:
            try:
                switchboard = self._open(stack)
            except BaseException as error:  # noqa: BLE001 - for whoever waits for the start, whatever it is
                started.set_exception(error)
                return
            started.set_result(switchboard)
            switchboard.run()

    def _open(self, stack: ExitStack) -> Switchboard:
        """Everything that can be wrong is found before the first client comes in."""
        if not is_module_patched("threading"):
            stack.callback(get_hub().destroy)  # it is our thread, and our hub
        state = State(paging=self._store_path is not None, limits=self._limits)
        store = None
        if self._store_path is not None:
            store = Store(self._store_path)
            stack.callback(store.close)
            state.restore(store.load(), self._clock.now())
        desk = Desk(state, self._users, store)
        return Switchboard(desk, self._clock, self._bounds, self._listen(), partial(Commits, store) if store else None)

    def _listen(self) -> list[Listener]:
        listeners = []
        if self._address is not None:
            listeners.append(listen(self._address))
            # The same one when it is started again.
            self._address = replace(self._address, port=listeners[0].port)
        if self._unix is not None:
            try:
                listeners.append(listen_unix(self._unix))
            except CannotListen:
                for listener in listeners:
                    listener.close()
                raise
        return listeners

    # --- where it is, and what is in it ---------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port it listens on; 0 before the first start, and for one with a Unix socket alone."""
        return self._address.port if self._address else 0

    @property
    def url(self) -> str:
        """What clients connect to; `CannotListen` when it is on a Unix socket alone."""
        if self._address is None:
            raise CannotListen("a broker on a Unix socket alone has no URL")
        user, password = next(iter(self._users.items()))
        return f"amqp://{user}:{password}@{self._address}/"

    @property
    def addresses(self) -> list[str]:
        """Where it listens, for people: URLs without a password, which is hopd's default, and paths."""
        return [*([f"amqp://{self._address}"] if self._address else []), *([self._unix] if self._unix else [])]

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._switchboard is not None and self._thread is not None and self._thread.is_alive()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._ask(lambda switchboard: switchboard.connections)

    def queues(self) -> list[QueueInfo]:
        """All queues, by name."""
        return self._ask(lambda switchboard: switchboard.queues())

    def channels(self) -> list[ChannelInfo]:
        """All open channels."""
        return self._ask(lambda switchboard: switchboard.channels())

    # --- what a test, or an operator, may do to it ----------------------------------------------

    def freeze(self) -> None:
        """Have it do nothing any more, as a process that was stopped, until `thaw`."""
        self._ask(lambda switchboard: switchboard.freeze())

    def thaw(self) -> None:
        """Have it go on."""
        self._ask(lambda switchboard: switchboard.thaw())

    def block(self, reason: str = "low on memory") -> None:
        """Read clients that publish no further, as under an alarm, until `unblock`. At most 255 bytes of text."""
        self._ask(lambda switchboard: switchboard.set_alarm(reason))

    def unblock(self) -> None:
        """End what `block` began."""
        self._ask(lambda switchboard: switchboard.set_alarm(None))

    def close_connections(self, reason: str = "closed by the operator") -> None:
        """Close every connection (320), as an operator does."""
        self._ask(lambda switchboard: switchboard.close_clients(reason))

    def close_channel(self, serial: int, reason: str = "closed on request") -> None:
        """Close one of `channels` (406), as the broker does by itself when a delivery is not settled in time. Its client's others stay."""
        self._ask(lambda switchboard: switchboard.close_channel(serial, reason))

    def cut_connections(self) -> None:
        """Drop every connection without a word, as a broken network does."""
        self._ask(lambda switchboard: switchboard.cut_clients())

    def look_at_clock(self) -> None:
        """The clock was turned: let happen what is due now. Returns when it has."""
        self._ask(lambda switchboard: switchboard.keep_time())

    def _ask(self, question: Callable[[Switchboard], _T]) -> _T:
        """Have the greenlet that serves answer, which alone may touch the broker's state."""
        switchboard = self._switchboard
        if switchboard is None:
            raise HopError("the embedded broker is not running")
        answer: Future[_T] = Future()

        def ask() -> None:
            try:
                answer.set_result(question(switchboard))
            except Exception as error:  # noqa: BLE001 - for whoever waits for the answer
                answer.set_exception(error)

        switchboard.call(ask)
        return answer.result()
