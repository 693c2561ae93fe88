"""Child processes of handlers in threads.

gevent hears of a child's end from libev, and that hears of it in the main thread's loop only: it takes from the system whatever
has ended, and what nobody has asked for by then is gone. So while a thread forks and asks, the main thread stands still; and a
thread waits for its child by having the main thread wait, whose other greenlets go on. Where nothing of that is done, gevent
raises a TypeError in a thread once the child is there, and os.system says -1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent.os
from gevent import monkey, subprocess
from gevent.hub import Hub, get_hub

from hopd.engine import forked
from hopd.engine.threads import Errand

# Those of the operating system, whatever is patched.
_allocate_lock = monkey.get_original("_thread", "allocate_lock")
_current_thread = monkey.get_original("_thread", "get_ident")

# gevent's own.
_fork_and_watch: Callable[..., int] = gevent.os.fork_and_watch
_waitpid: Callable[[int, int], tuple[int, int]] = gevent.os.waitpid
_wait: Callable[..., int | None] = subprocess.Popen.wait


@contextmanager
def of_threads() -> Iterator[None]:
    """In this block threads can have children. In the main thread, with everything patched."""
    home = get_hub()

    def elsewhere() -> bool:
        return bool(_current_thread() != home.thread_ident) and not forked.in_child

    def fork_and_watch(callback: Any = None, loop: Any = None, ref: bool = False, fork: Callable[[], int] = gevent.os.fork_gevent) -> int:
        if not elsewhere():
            return _fork_and_watch(callback, loop, ref, fork)
        with _standing_still(home):
            # Nobody is in the main thread's loop now, so it may be touched from here.
            return _fork_and_watch(callback, home.loop, ref, fork)

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        return Errand(lambda: _waitpid(pid, options)).run_at(home) if elsewhere() else _waitpid(pid, options)

    def wait(child: subprocess.Popen[Any], *arguments: Any, **options: Any) -> int | None:
        return Errand(lambda: _wait(child, *arguments, **options)).run_at(home) if elsewhere() else _wait(child, *arguments, **options)

    ours: list[tuple[Any, str, Callable[..., Any]]] = [
        (gevent.os, "fork_and_watch", fork_and_watch),  # for os.fork
        (subprocess, "fork_and_watch", fork_and_watch),
        (subprocess.Popen, "wait", wait),
        (os, "waitpid", waitpid),
        (os, "system", _system),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _function in ours]
    for place, name, function in ours:
        setattr(place, name, function)
    try:
        yield
    finally:
        for place, name, function in before:
            setattr(place, name, function)


def _system(command: Any) -> int:
    """os.system, which in C waits for a child whose end it may not be told."""
    code: int = subprocess.call(command, shell=True)
    return code << 8 if code >= 0 else -code


@contextmanager
def _standing_still(home: Hub) -> Iterator[None]:
    """In a thread: while the main thread does nothing at all."""
    stands, goes_on = _allocate_lock(), _allocate_lock()
    stands.acquire()
    goes_on.acquire()

    def stand_still() -> None:
        stands.release()
        goes_on.acquire()

    home.loop.run_callback_threadsafe(stand_still)
    stands.acquire()
    try:
        yield
    finally:
        goes_on.release()
