"""What belongs to the process and not to the handlers that run in it: kept, whatever these do to it.

Its signals (signals.py), its standard streams (streams.py), its children (forked.py, children.py), and its life: gevent would
raise a SystemExit or KeyboardInterrupt of any greenlet in the main one, which ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from signal import Signals as Number
from types import TracebackType

import gevent
from gevent.hub import get_hub

from hopd.engine import children, forked, streams
from hopd.engine.signals import Signals

LOGGER = logging.getLogger(__name__)

#: How often what can be taken away behind Python's back is put back. Seconds.
KEEP_INTERVAL = 1.0


@contextmanager
def sheltered(actions: Mapping[Number, Callable[[], object]]) -> Iterator[None]:
    """Keep it all in this block, and call `actions[number]` for each signal that arrives. In the main greenlet, once in a process."""
    signals = Signals(actions)
    signals.start()
    _contain_greenlets()
    forked.prepare()
    keeper = gevent.spawn(_keep, signals)
    try:
        with streams.printing_to_the_log(), children.of_threads():
            yield
    finally:
        keeper.kill()
        signals.stop()


def _keep(signals: Signals) -> None:
    while True:
        gevent.sleep(KEEP_INTERVAL)
        signals.arm()
        streams.occupy()


def _contain_greenlets() -> None:
    """Let no greenlet that a handler started end the daemon: gevent would raise its SystemExit in the main greenlet."""
    hub = get_hub()
    hub.SYSTEM_ERROR = ()
    hub.NOT_ERROR = (gevent.GreenletExit,)
    hub.print_exception = _log_failed_greenlet


def _log_failed_greenlet(context: object, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    extra = {"event": "greenlet_failed"}
    LOGGER.error("A greenlet that nobody waits for failed: %s", context, extra=extra, exc_info=(kind, error, trace))
