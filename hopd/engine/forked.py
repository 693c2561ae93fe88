"""A child process that a handler forks, while it is still this program: before exec, in multiprocessing, or after a bare os.fork().

It has a copy of everything, all other jobs in the middle of what they do included: under gevent whoever waits first in the
child would let them go on there, and run everything twice. So the child gets an event loop of its own, in which nothing of
the parent's ever comes to its turn. (The connections to the broker and the control sockets leave it by themselves.)

A handler that returns or raises in the child comes back to a worker that is not there; then the process ends. It is the
handler's own business to end it sooner, as multiprocessing does.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

from gevent._hub_local import get_hub_if_exists
from gevent.hub import set_hub

#: Whether this process is such a child.
in_child = False

_prepared = False


def prepare() -> None:
    """From now on, let every forked child be one of its own."""
    global _prepared
    if not _prepared:
        os.register_at_fork(after_in_child=_begin_anew)
    _prepared = True


def _begin_anew() -> None:
    """In the child. Nothing may wait here: to wait is to run the loop."""
    global in_child
    in_child = True
    hub = get_hub_if_exists()
    if hub is not None:
        # Not Hub.destroy: that would end the hub's greenlet, and hand over to the parent's main one.
        set_hub(None)
        hub.loop.destroy()


def leave(error: BaseException | None) -> NoReturn:
    """End the child as Python would: 0, or what a SystemExit says, or 1 and a traceback."""
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = error.code or 0
    elif isinstance(error, SystemExit):
        sys.stderr.write(f"{error.code}\n")
        code = 1
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    else:
        code = 0
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(code & 0xFF)
