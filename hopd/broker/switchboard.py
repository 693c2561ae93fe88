"""Serves all clients of one broker, in one greenlet and one thread: reads, has it dealt with, writes, keeps time."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from gevent import getcurrent
from gevent.hub import get_hub

from hopd.amqp.fork import stays_with_parent
from hopd.broker.alarms import Alarms, Bounds
from hopd.broker.client import Client
from hopd.broker.clock import Clock
from hopd.broker.commits import Commits
from hopd.broker.desk import Desk, Party
from hopd.broker.doors import Doors
from hopd.broker.listener import Listener
from hopd.broker.model import ChannelInfo, QueueInfo
from hopd.broker.refusal import Code, Refused
from hopd.broker.session import Phase, Session

LOGGER = logging.getLogger(__name__)

#: How often what nobody wakes us for is looked at: heartbeats, handshakes and closings that take too long. Seconds.
SWEEP_INTERVAL = 0.5

#: For a client to come in, as RabbitMQ grants it. Seconds.
HANDSHAKE_TIMEOUT = 10.0

#: For a client whose connection is closed to take note of it. Seconds.
CLOSING_TIMEOUT = 5.0

#: Answers that a client does not read. A client that goes on asking then is not read either; deliveries end long before.
_MAX_UNSENT = 16 << 20


class Switchboard:
    """Its duties, in the order of a turn:

    1. do what other threads ask for;
    2. take in new clients, and receive from those that have sent something;
    3. let time do its work: what expires, clients that are silent, clients that do not leave;
    4. hand deliveries to their clients, and what has to be durable to the store;
    5. write to each client that has something to be told, once;
    6. block publishers while the broker is short of something.

    The callbacks of the loop only note what happened and wake it, so all of the broker's state is touched by one greenlet alone.
    """

    def __init__(
        self,
        desk: Desk,
        clock: Clock,
        bounds: Bounds,
        listeners: Sequence[Listener],
        commits: Callable[[Callable[[], None]], Commits] | None,
    ) -> None:
        self.alarms = Alarms(bounds)
        self._hub = get_hub()
        self._loop: Any = self._hub.loop
        self._desk = desk
        self._clock = clock
        self._bounds = bounds
        self._commits = commits(self.wake) if commits else None
        self._clients: dict[Party, Client] = {}
        self._changed: deque[Client] = deque()
        self._doors = Doors(listeners, self._loop, self.wake)
        self._calls: deque[Callable[[], object]] = deque()
        self._greenlet: Any = None
        self._waiting = self._woken = self._frozen = False
        #: We are in a forked child, where under gevent the greenlet is, too.
        self._left = False
        #: What clients that publish were last told, and whether they have to wait for the disk.
        self._shortage: tuple[str | None, bool] = (None, False)
        self._disk_failed = False
        self._stop_by: float | None = None
        self._swept = monotonic()
        self._sweeps = self._loop.timer(SWEEP_INTERVAL, SWEEP_INTERVAL)
        self._timer: Any = None
        self._duties = (
            self._accept,
            self._receive,
            self._keep_time,
            self._deliver,
            self._commit,
            self._write,
            self._regulate,
            self._set_timer,
        )
        stays_with_parent(self)

    # --- the greenlet -------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop` was called and the clients have gone."""
        self._greenlet = getcurrent()
        self._doors.open()
        self._sweeps.start(self.wake)
        try:
            while not self._stopped():
                self._wait()
                self._turn()
        finally:
            self._close()

    def call(self, function: Callable[[], object]) -> None:
        """Have `function` called by the greenlet that serves, soon. From any thread."""
        self._calls.append(function)
        self._loop.run_callback_threadsafe(self.wake)

    def wake(self) -> None:
        """Something happened. In the hub, or in the greenlet itself for one more turn."""
        self._woken = True
        if self._waiting:
            self._waiting = False
            self._loop.run_callback(self._greenlet.switch)

    def _wait(self) -> None:
        self._waiting = True
        if self._woken:
            self.wake()
        self._hub.switch()
        self._woken = False

    def _turn(self) -> None:
        if self._left:
            return
        self._desk.now = self._clock.now()
        self._do(self._answer_calls)
        if not self._frozen:
            for duty in self._duties:
                self._do(duty)

    def _do(self, duty: Callable[[], None]) -> None:
        try:
            duty()
        except Exception:
            # Whatever is wrong with us: what it has nothing to do with goes on.
            LOGGER.exception("An error in the broker", extra={"event": "broker_failed"})

    def _answer_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()

    # --- clients come, speak and go -----------------------------------------------------------

    def _accept(self) -> None:
        for sock, peer in self._doors.visitors():
            session = Session(self._desk, peer)
            self._clients[session] = Client(sock, session, self._loop, self._on_change)
            LOGGER.debug("A client has connected from %s", peer, extra={"event": "client_connected", "peer": peer})

    def _on_change(self, client: Client) -> None:
        self._changed.append(client)
        self.wake()

    def _receive(self) -> None:
        changed, self._changed = self._changed, deque()
        for client in changed:
            session = client.session
            if session not in self._clients:
                continue
            self._desk.touched[session] = None  # also one that is here because it has taken what it was sent
            data = client.receive() if client.readable else None
            if data:
                session.receive(data)
            elif data is not None:
                self._drop(client, "it hung up")

    def _drop(self, client: Client, why: str) -> None:
        """The client is gone, or has to be."""
        session = client.session
        del self._clients[session]
        if session.phase is Phase.OPEN:
            LOGGER.info("Lost the client %s: %s", session.label, why, extra={"event": "client_lost", "peer": session.peer})
        session.lost()
        client.close()

    # --- time ---------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        due = self._desk.state.due()
        if due is not None and due <= self._desk.now:
            self._desk.state.tick(self._desk.now)
        now = monotonic()
        if now - self._swept >= SWEEP_INTERVAL:
            self._swept = now
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        self._disk_failed = False
        if self._stop_by is None:
            self._doors.open()
        for client in list(self._clients.values()):
            session = client.session
            why = _overdue(client, now)
            if why is not None:
                self._drop(client, why)
            elif session.heartbeat and now - client.last_sent >= session.heartbeat / 2:
                session.beat()

    def _set_timer(self) -> None:
        """Wake when the next message expires, if that is before the next sweep."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        due = self._desk.state.due()
        if due is not None and (left := due - self._clock.now()) < SWEEP_INTERVAL:
            self._timer = self._loop.timer(max(0.0, left))
            self._timer.start(self.wake)

    # --- the disk, and what goes out ----------------------------------------------------------

    def _deliver(self) -> None:
        self._desk.load()

    def _commit(self) -> None:
        self._desk.submit()
        if self._commits is None:
            return
        outcome = self._commits.outcome()
        if isinstance(outcome, int):
            self._desk.written(outcome)
            self.alarms.set("disk", None)
        elif outcome is not None:
            if not self.alarms.rings("disk"):  # tried again and again, but told once
                LOGGER.error("Nothing can be confirmed: %s", outcome, extra={"event": "store_failed"})
            self.alarms.set("disk", "low on disk")
            self._disk_failed = True  # until the next sweep
        if self._desk.committed < self._desk.batch and not self._disk_failed:
            self._commits.start()

    def _write(self) -> None:
        touched, self._desk.touched = self._desk.touched, {}
        for party in touched:
            client = self._clients.get(party)
            if client is None:
                continue
            session = client.session
            data = session.take_output()
            if data:
                client.write(data)
            if client.idle:
                session.wrote()
                if session.over:
                    client.shut()
            self._steer(client)
        if self._desk.state.effects:
            self.wake()  # those that took what they were sent get more, after everybody had a turn

    def _regulate(self) -> None:
        """Block those that publish while the broker is short of something."""
        state = self._desk.state
        self.alarms.watch(state.memory, state.messages)
        _, lagging = self._shortage
        bound = self._bounds.uncommitted // 2 if lagging else self._bounds.uncommitted
        shortage = self.alarms.reason, self._desk.uncommitted > bound
        if shortage != self._shortage:
            self._shortage = shortage
            self._desk.shortage = self.alarms.reason
            for client in self._clients.values():
                self._steer(client)
            self.wake()

    def _steer(self, client: Client) -> None:
        """Read the client, or do not."""
        session = client.session
        if session.phase in (Phase.CLOSING, Phase.CLOSED):
            client.leaving = client.leaving or monotonic()
            client.read(True)
            return
        reason, lagging = self._shortage
        # As with RabbitMQ, who does not publish now is not blocked, even if it did before: it may have other things to say.
        if client.blocked is not (reason is not None and (client.blocked or session.kept_waiting)):
            client.blocked = not client.blocked
            session.block(reason)
            if reason is None:
                session.resume()
            self.wake()
        client.read(not client.blocked and not (lagging and session.publishes) and (client.idle or client.unsent <= _MAX_UNSENT))

    # --- what others ask for, through `call` --------------------------------------------------

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def queues(self) -> list[QueueInfo]:
        """All queues, by name."""
        return self._desk.state.queues()

    def channels(self) -> list[ChannelInfo]:
        """All open channels."""
        return [channel for client in self._clients.values() for channel in client.session.channels()]

    def close_channel(self, serial: int, reason: str) -> None:
        """Close a channel, as the broker's own checks do."""
        for client in self._clients.values():
            client.session.close_channel(serial, Refused(Code.PRECONDITION_FAILED, reason))

    def set_alarm(self, reason: str | None) -> None:
        """Block those that publish, for a reason, or (None) no longer for that one."""
        self.alarms.set("asked for", reason)
        self._regulate()  # who publishes after this is held up already

    def keep_time(self) -> None:
        """The clock was turned: do what is due."""
        self._desk.now = self._clock.now()
        self._keep_time()

    def close_clients(self, reason: str) -> None:
        """Close every connection, as an operator does."""
        for client in list(self._clients.values()):
            client.session.close(Refused(Code.CONNECTION_FORCED, reason))

    def cut_clients(self) -> None:
        """Drop every connection without a word."""
        for client in list(self._clients.values()):
            self._drop(client, "it was cut off")

    def freeze(self) -> None:
        """Do nothing any more, as a process that was stopped."""
        self._frozen = True
        self._doors.shut()
        for client in self._clients.values():
            client.read(False)

    def thaw(self) -> None:
        """Go on."""
        self._frozen = False
        self._doors.open()
        for client in self._clients.values():
            self._steer(client)

    def stop(self, timeout: float) -> None:
        """Take in nobody, make durable what is not, confirm it, and close every connection. `timeout`: for clients to leave, seconds."""
        self.thaw()
        self._doors.shut()
        self._stop_by = monotonic() + timeout
        self._finish()
        self.close_clients("broker forced connection closure with reason 'shutdown'")

    def _finish(self) -> None:
        self._desk.submit()
        if self._commits is not None:
            outcome = self._commits.last()
            if isinstance(outcome, int):
                self._desk.written(outcome)
            else:
                LOGGER.error("What was not confirmed is lost: %s", outcome, extra={"event": "store_failed"})

    # --- the end ------------------------------------------------------------------------------

    def _stopped(self) -> bool:
        return self._stop_by is not None and (not self._clients or monotonic() >= self._stop_by)

    def _close(self) -> None:
        self._do(self._answer_calls)  # somebody waits for them
        self.cut_clients()
        self._finish()
        for watcher in (self._sweeps, self._timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._doors.close()
        if self._commits is not None:
            self._commits.close()

    def leave_to_parent(self) -> None:
        """In a forked child: do nothing any more, and let go of all sockets, so that they close when the parent closes them."""
        self._left = True
        nowhere, _never_closed = os.pipe()
        self._doors.leave_to_parent(nowhere)
        for client in self._clients.values():
            client.leave_to_parent(nowhere)


def _overdue(client: Client, now: float) -> str | None:
    """Why a client has had all the time there is."""
    session = client.session
    if client.leaving is not None:
        return "it did not leave" if now - client.leaving > CLOSING_TIMEOUT else None
    if session.phase is not Phase.OPEN:
        return "it did not come in" if now - client.since > HANDSHAKE_TIMEOUT else None
    if session.heartbeat and client.reading and now - client.last_received > 2 * session.heartbeat:
        return f"it was silent for two heartbeats of {session.heartbeat} s"
    return None
