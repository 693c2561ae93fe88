"""The whole process: topics, connections, signals, and the order in which they come and go."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event

from hopd.amqp.endpoint import Tls
from hopd.amqp.recovery import LinkStatus
from hopd.config.broker import BrokerSettings, TlsSettings
from hopd.config.fields import MEMORY
from hopd.config.load import Loaded
from hopd.engine.embedded import Embedded
from hopd.engine.reload import Reload
from hopd.engine.shelter import sheltered
from hopd.engine.suspects import Suspects
from hopd.engine.topics import Topics
from hopd.engine.watchdog import Watchdog
from hopd.errors import ControlError, HopError
from hopd.lifecycle import DAEMON, LifeCycle
from hopd.version import __version__
from hopd.workqueue import WorkQueue

LOGGER = logging.getLogger(__name__)

STOPPED_AS_ASKED, FORCED = 0, 1

#: How long `pause` waits for the broker to stop delivering, and the end for the last words on each connection. Seconds.
SETTLE_TIMEOUT = 5.0
CLOSE_TIMEOUT = 2.0

#: How long a topic that cannot be consumed keeps the daemon from taking what it has by then for all that it will have. Seconds.
SETTLE_IN_TIMEOUT = 60.0


class Control(Protocol):
    """The control server, which lives on a higher floor."""

    def start(self) -> None:
        """Listen."""

    def stop(self) -> None:
        """Stop listening."""


@dataclass
class _Leaving:
    """What is known about the end: when running jobs must be over (monotonic seconds), and whether somebody forced it."""

    deadline: float
    forced: bool = False


class Daemon:
    """A hopd process. `run` is its life; everything else may be called meanwhile, from any greenlet.

    `state` is how the paths of the files begin in which it keeps what the next process has to know; None for no such files.
    `leave` ends the process when the event loop is stuck, and is called in another thread; None for no watchdog. `embedded` is the
    broker when it is in this process, and serves already.
    """

    def __init__(
        self,
        loaded: Loaded,
        instance: str | None = None,
        state: str | None = None,
        leave: Callable[[], object] | None = None,
        embedded: Embedded | None = None,
    ) -> None:
        self._path = loaded.path
        self._instance = instance
        self._embedded = embedded
        self._life = LifeCycle("hopd", DAEMON, "starting")
        self._started = monotonic()
        self._started_at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._wake = Event()
        self._leaving: _Leaving | None = None
        self._signalled = False
        self._queue = self._work_queue(loaded.settings.broker)
        self._suspects = Suspects(state)
        self._signal_actions: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: partial(self._on_signal, signal.SIGTERM),
            signal.SIGINT: partial(self._on_signal, signal.SIGINT),
            signal.SIGHUP: self._on_hangup,
        }
        self._watchdog = None if leave is None else Watchdog(loaded.settings.watchdog, leave)
        self._topics = Topics(self._queue, self._suspects, instance, loaded)
        self._reload = Reload(loaded, self._topics)
        self._hung_up = False

    # --- its life -----------------------------------------------------------------------------

    def run(self, control: Control) -> int:
        """Live until asked to leave; returns the exit code. `SocketUnusable` when the control socket cannot be made."""
        control.start()
        with sheltered(self._signal_actions):
            self._suspects.begin()
            if self._watchdog is not None:
                self._watchdog.start()
            self._start_topics()
            self._settle_in()
            self._wait_for_the_end()
            self._drain()
            self._disconnect()
            self._wait_until(lambda: not self._reload.busy, monotonic() + CLOSE_TIMEOUT)  # who asked for it is to be told
            self._suspects.end()  # as long as the socket is ours, so that no other hopd has begun with the same files
            control.stop()
            if self._watchdog is not None:
                self._watchdog.stop()
        self._life.move("stopped")
        forced = self._leaving is not None and self._leaving.forced
        LOGGER.info("hopd has stopped%s", ", forced" if forced else "", extra={"event": "stopped"})
        return FORCED if forced else STOPPED_AS_ASKED

    def _on_signal(self, number: signal.Signals) -> None:
        """Only records; the main greenlet acts."""
        LOGGER.info("Received %s", number.name, extra={"event": "signal", "signal": number.name})
        # After hopctl's shutdown the first signal is a first one: it brings the end closer and forces nothing.
        again, self._signalled = self._signalled, True
        self.shutdown(now=again, grace=None)

    def _on_hangup(self) -> None:
        """Only records; the main greenlet acts."""
        self._hung_up = True
        self._wake.set()

    def _start_topics(self) -> None:
        self._queue.consuming.start()
        self._topics.start()
        if self._life.can("started"):
            self._life.move("started")
        about = {"event": "started", "config": self._path, "topics": len(self._topics), "version": __version__}
        LOGGER.info("hopd %s runs %d topics of %s", __version__, len(self._topics), self._path, extra=about)

    def _settle_in(self) -> None:
        """Once every topic is under way, have what is there by then left out when garbage is looked for: it is there for good.

        With 1,000 topics it is 300,000 objects, and looking through them took a third of the CPU that their jobs cost.
        """
        self._wait_until(lambda: self._wanted or self._topics.under_way(), monotonic() + SETTLE_IN_TIMEOUT)
        gc.freeze()

    @property
    def _wanted(self) -> bool:
        """Whether the main greenlet has to do something."""
        return self._leaving is not None or self._hung_up

    def _wait_for_the_end(self) -> None:
        while self._leaving is None:
            self._wake.clear()
            if self._hung_up and self._life.can("reload"):
                self._hung_up = False
                self._reload_unasked()
            else:
                self._wake.wait()

    def _reload_unasked(self) -> None:
        """For a signal: nobody waits for the answer but the log. Whatever goes wrong, say no descriptor is left, hopd goes on as it was."""
        try:
            self.reload()
        except Exception as error:
            extra = {"event": "reload_failed", "config": self._path}
            LOGGER.error("The config is not taken up: %s", error, extra=extra, exc_info=not isinstance(error, HopError))

    def _drain(self) -> None:
        """All topics at once, against one deadline that a second signal brings closer."""
        leaving = self._leaving
        if leaving is None:
            return
        left = max(0.0, leaving.deadline - monotonic())
        LOGGER.info("Leaving: running jobs have %.1f s to finish", left, extra={"event": "draining", "grace": round(left, 3)})
        gone = gevent.spawn(self._topics.join)
        while not gone.ready():
            self._wake.clear()
            self._topics.stop(leaving.deadline)
            gevent.wait([gone, self._wake], count=1)

    def _disconnect(self) -> None:
        self._queue.close(CLOSE_TIMEOUT)

    @property
    def busy_threads(self) -> int:
        """How many threads run a handler. After the end these would keep the process: nobody can interrupt them."""
        return self._topics.busy_threads

    # --- steering -----------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """hopd's version."""
        return __version__

    def topic_names(self) -> list[str]:
        """The topics in the order of the config."""
        return self._topics.names()

    def pause(self, topics: Sequence[str]) -> None:
        """Stop taking jobs of the topics. Returns once their waiting jobs are back, or soon if the broker cannot be asked now."""
        self._pause(topics, monotonic() + SETTLE_TIMEOUT)

    def _pause(self, topics: Sequence[str], deadline: float) -> None:
        self._refuse_while_leaving()
        consumers = [self._topics[name] for name in topics]
        for consumer in consumers:
            consumer.pause()
        self._wait_until(lambda: all(consumer.settled for consumer in consumers), deadline)

    def resume(self, topics: Sequence[str]) -> None:
        """Take jobs of the topics again."""
        self._refuse_while_leaving()
        for name in topics:
            self._topics[name].resume()

    def drain(self, topics: Sequence[str], timeout: float) -> dict[str, int]:
        """Pause the topics and wait up to `timeout` seconds until none of their jobs runs; returns how many still do, by topic."""
        now = monotonic()
        self._pause(topics, now + min(timeout, SETTLE_TIMEOUT))
        self._wait_until(lambda: not any(self._topics.running(name) for name in topics), now + timeout)
        return {name: self._topics.running(name) for name in topics}

    def reload(self) -> dict[str, list[str]]:
        """Take up the config as it is now; returns what is different, once changed topics are consumed, or soon if the broker cannot be
        asked now. `ConfigError`: then nothing has changed."""
        self._refuse_while_leaving()
        if not self._life.can("reload"):
            raise ControlError("failed", f"hopd is {self._life.state}: ask again when it is running")
        self._life.move("reload")
        try:
            changes = self._reload.run()
            concerned = [*changes["added"], *changes["changed"]]
            self._wait_until(lambda: self._leaving is not None or self._topics.under_way(concerned), monotonic() + SETTLE_TIMEOUT)
        finally:
            if self._life.can("reloaded"):
                self._life.move("reloaded")
            self._wake.set()  # there may have been a signal meanwhile
        return changes

    def shutdown(self, now: bool, grace: float | None) -> None:
        """Ask the daemon to leave: within `grace` seconds (the config's by default), or at once. Returns immediately."""
        seconds = 0.0 if now else self._reload.loaded.settings.shutdown.grace if grace is None else grace
        deadline = monotonic() + seconds
        if self._leaving is None:
            self._leaving = _Leaving(deadline)
            self._life.move("shutdown")
        elif now:
            self._leaving.forced = True
        self._leaving.deadline = min(self._leaving.deadline, deadline)
        self._reload.give_up()
        self._wake.set()

    def put(
        self,
        topic: str,
        body: bytes,
        *,
        headers: Mapping[str, Any],
        message_id: str | None,
        content_type: str | None,
        delay: float | None,
        at: datetime | None,
        timeout: float,
    ) -> str:
        """Put a job and return its message id."""
        target = self._queue.topic(topic)
        about: dict[str, Any] = {"headers": headers, "message_id": message_id, "content_type": content_type, "delay": delay, "at": at}
        return target.put(body, **about, timeout=timeout)

    def status(self) -> dict[str, Any]:
        """The status contract."""
        links = self._queue.status()
        return {
            "state": self._life.state,
            "version": __version__,
            "instance": self._instance,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "uptime": round(monotonic() - self._started, 3),
            "started_at": self._started_at,
            "config": self._path,
            "broker": {**_link(links["consuming"]), "embedded": None if self._embedded is None else self._embedded.store or MEMORY},
            "publisher": _link(links["publishing"]),
            "topics": {name: {**topic, "blocked": self._blocked(name)} for name, topic in self._topics.status().items()},
        }

    def _blocked(self, topic: str) -> int:
        """How often one of its jobs kept the event loop from running."""
        return 0 if self._watchdog is None else self._watchdog.blocked.get(topic, 0)

    def _refuse_while_leaving(self) -> None:
        if self._leaving is not None:
            raise ControlError("shutting_down", "hopd is leaving; its topics cannot be changed any more")

    def _wait_until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Polls, so that no job pays for a wait that happens once a day."""
        while not condition() and monotonic() < deadline:
            gevent.sleep(0.01)

    # --- from settings to objects -------------------------------------------------------------

    def _work_queue(self, broker: BrokerSettings) -> WorkQueue:
        name = broker.connection_name if self._instance is None else f"{broker.connection_name}@{self._instance}"
        return WorkQueue(
            broker.urls if self._embedded is None else self._embedded.url,
            exchange=broker.exchange,
            max_connection_retry=None,
            recovery_max=broker.recovery_max,
            heartbeat=broker.heartbeat,
            connect_timeout=broker.connect_timeout,
            name=name,
            tls=_tls(broker.tls),
        )


def _tls(settings: TlsSettings | None) -> Tls | None:
    if settings is None:
        return None
    return Tls(settings.ca_file, settings.cert_file, settings.key_file, settings.server_name, settings.verify)


def _link(status: LinkStatus) -> dict[str, Any]:
    return {
        "state": status.state,
        "url": status.url,
        "attempt": status.attempt,
        "next_try": None if status.next_try is None else round(status.next_try, 3),
        "reason": status.reason,
    }
