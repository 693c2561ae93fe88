"""Signals that are hopd's, whatever handlers do: a job that sets its own handler for SIGTERM must not take the drain away.

They are received by handlers of Python's own kind, because these can be looked after. `gevent.signal_handler` cannot: libev
installs its handler once, any `signal.signal` replaces it for good, and installing it again means a moment without one.
Two things keep them: `signal.signal` leaves them alone as long as hopd runs, and now and then they are set again (`arm`), in
case that C code has changed them behind Python's back.

In a forked child they have their default effect: there multiprocessing's `terminate` has to end it.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import gevent
from gevent.hub import get_hub

LOGGER = logging.getLogger(__name__)

#: Without this a write to a connection that the broker has closed would end the process. It is Python's default, too.
_IGNORED = (signal.SIGPIPE,)

_set_handler = signal.signal


class Signals:
    """Calls `actions[number]` for each signal received, in a greenlet of its own, from `start` to `stop`."""

    def __init__(self, actions: Mapping[signal.Signals, Callable[[], object]]) -> None:
        self._actions = actions
        self._loop: Any = None
        self._kept = False
        self._complained: set[int] = set()

    def start(self) -> None:
        """Receive them from now on. In the main thread."""
        self._loop = get_hub().loop
        self._kept = True
        self.arm()
        signal.signal = self._refuse  # type: ignore[assignment]
        os.register_at_fork(before=self._block, after_in_parent=self._unblock, after_in_child=self._release)

    def stop(self) -> None:
        """Look after them no more. What comes from now on is received and does nothing: the process is about to end."""
        self._kept = False
        signal.signal = _set_handler

    def arm(self) -> None:
        """Set our handlers, again."""
        for number in self._actions:
            _set_handler(number, self._note)
        for number in _IGNORED:
            _set_handler(number, signal.SIG_IGN)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        """At any point of any greenlet, the hub included: only have it acted on."""
        self._loop.run_callback_threadsafe(gevent.spawn, self._actions[signal.Signals(number)])

    def _refuse(self, number: Any, handler: Any) -> Any:
        """Stands in for `signal.signal`: it changes all but our own, for which it says what was there, and nothing else."""
        if number not in self._actions and number not in _IGNORED:
            return _set_handler(number, handler)
        if number not in self._complained:
            self._complained.add(number)
            text = "%s stays hopd's: a job wanted another handler for it"
            LOGGER.warning(text, signal.Signals(number).name, extra={"event": "signal_kept", "signal": signal.Signals(number).name})
        return signal.getsignal(number)

    # A child can be sent SIGTERM before it has even begun to run. It must find it waiting, with its default effect.

    def _block(self) -> None:
        if self._kept:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._actions)

    def _unblock(self) -> None:
        if self._kept:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._actions)

    def _release(self) -> None:
        """In a forked child, whose main thread is the one that forked."""
        if self._kept:
            signal.signal = _set_handler
            for number in self._actions:
                _set_handler(number, signal.SIG_DFL)
            self._unblock()
            self._kept = False
