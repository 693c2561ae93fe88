"""Where a broker takes clients in: its listeners, watched by gevent's loop."""

from __future__ import annotations

import _socket
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hopd.broker.listener import Listener

LOGGER = logging.getLogger(__name__)

#: Clients that one listener lets in in one go; others wait, but not those that are served.
_AT_ONCE = 64

_READ = 1


class Doors:
    """All listeners of a broker. `knocked()` is called in the hub, and must not block: somebody wants to come in."""

    def __init__(self, listeners: Sequence[Listener], loop: Any, knocked: Callable[[], None]) -> None:
        self._listeners = listeners
        self._watchers = [loop.io(listener.socket.fileno(), _READ) for listener in listeners]
        self._tell = knocked
        self._open = self._knocked = False

    def open(self) -> None:
        """Have those that come noticed."""
        if not self._open:
            self._open = True
            for watcher in self._watchers:
                watcher.start(self._on_knock)

    def shut(self) -> None:
        """Let nobody in; who comes waits."""
        self._open = False
        for watcher in self._watchers:
            watcher.stop()

    def _on_knock(self) -> None:
        self._knocked = True
        self._tell()

    def visitors(self) -> Iterator[tuple[_socket.socket, str]]:
        """Those that have come, and where from. Shuts itself when the process can have no more files open."""
        if not self._knocked:
            return
        self._knocked = False
        for listener in self._listeners:
            for _ in range(_AT_ONCE):
                try:
                    visitor = listener.accept()
                except OSError as error:
                    LOGGER.error("Cannot take in clients for now: %s", error.strerror, extra={"event": "broker_accept_failed"})
                    self.shut()
                    return
                if visitor is None:
                    break
                yield visitor

    def close(self) -> None:
        """Stop listening."""
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        for listener in self._listeners:
            listener.close()

    def leave_to_parent(self, nowhere: int) -> None:
        """In a forked child: have the sockets' numbers mean the open file `nowhere`."""
        for listener in self._listeners:
            listener.leave_to_parent(nowhere)
