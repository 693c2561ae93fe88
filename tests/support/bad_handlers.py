"""Handlers that do to their process what no handler should. A job's body says what, in JSON: ``{"do": "segfault", "after": 0.5}``."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support.ledger import VARIABLE, record

if TYPE_CHECKING:
    from hopd import Job


def obey(job: Job) -> None:
    """Note the job's start and end in the ledger, and in between do what its body says."""
    wish: dict[str, Any] = job.json()
    record(f"{os.environ[VARIABLE]}.begun", job.message_id or "")
    time.sleep(wish.get("after", 0.0))
    if "do" in wish and DEEDS[wish["do"]](job) == IN_CHILD:
        return
    record(os.environ[VARIABLE], job.message_id or "")


def need(job: Job) -> None:
    """Fail as long as the file $SERVICE is missing."""
    record(f"{os.environ[VARIABLE]}.begun", job.message_id or "")
    time.sleep(job.json().get("after", 0.0))
    if not os.path.exists(os.environ["SERVICE"]):
        raise ConnectionRefusedError("the service is down")
    record(os.environ[VARIABLE], job.message_id or "")


def chatter(job: Job) -> None:
    """Log and print as many lines as the body says, and open no file."""
    for _ in range(job.json()["lines"]):
        logging.getLogger("chatter").info("a line of the log %s", "." * 200)
        print("a printed line", "." * 200)


# --- to the process -----------------------------------------------------------------------------


def segfault(_job: Job) -> None:
    ctypes.string_at(0)


def leave(_job: Job) -> None:
    os._exit(3)


def run_out_of_memory(_job: Job) -> None:
    """As the kernel does it to a process that has taken too much."""
    os.kill(os.getpid(), signal.SIGKILL)


# --- to its signals -----------------------------------------------------------------------------

_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)


def ignore_signals(_job: Job) -> None:
    for number in _OURS:
        signal.signal(number, signal.SIG_IGN)


def default_signals(_job: Job) -> None:
    for number in _OURS:
        signal.signal(number, signal.SIG_DFL)


def own_signals(_job: Job) -> None:
    for number in _OURS:
        signal.signal(number, lambda *_: os._exit(4))


def asyncio_run(_job: Job) -> None:
    """asyncio takes SIGINT for itself as long as it runs."""
    asyncio.run(asyncio.sleep(0.01))


def ignore_signals_in_c(_job: Job) -> None:
    ctypes.CDLL(None).signal(int(signal.SIGTERM), 1)  # SIG_IGN


def count_usr1(_job: Job) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: print("caught SIGUSR1"))


# --- to its streams -----------------------------------------------------------------------------


def say_hello(_job: Job) -> None:
    print("Hello", "from a job")


def close_stdout(_job: Job) -> None:
    sys.stdout.close()


def close_stderr(_job: Job) -> None:
    sys.stderr.close()


def close_descriptors(_job: Job) -> None:
    os.closerange(0, 3)


#: What the rest of a handler is told that runs in a child.
IN_CHILD = "in a child"

#: A child stays for so long that whatever else it had of its parent would have ended there. Seconds.
LONGER = 1.0


# --- to its children ----------------------------------------------------------------------------


def leave_a_child(_job: Job) -> None:
    subprocess.Popen(["sleep", "60"])


def fork(_job: Job) -> None:
    """The child works a while, in ways that give way to others, and ends as it should."""
    if not (child := os.fork()):
        time.sleep(LONGER)
        subprocess.run(["true"], check=True)
        os._exit(7)
    _expect(child, 7)


def fork_and_exit(_job: Job) -> None:
    if not (child := os.fork()):
        time.sleep(LONGER)
        sys.exit(8)
    _expect(child, 8)


def fork_and_return(_job: Job) -> str | None:
    if not (child := os.fork()):
        time.sleep(LONGER)
        return IN_CHILD
    _expect(child, 0)
    return None


def fork_and_raise(_job: Job) -> None:
    if not (child := os.fork()):
        time.sleep(LONGER)
        raise ValueError("in a child")
    _expect(child, 1)


def fork_and_settle(job: Job) -> None:
    if not (child := os.fork()):
        job.done()
        os._exit(9)  # not reached: the job is the parent's
    _expect(child, 1)


def fork_for_long(_job: Job) -> None:
    if not os.fork():
        while True:
            time.sleep(60)


def multiprocess(_job: Job) -> None:
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    workers = [context.Process(target=_square, args=(number, results)) for number in range(3)]
    for worker in workers:
        worker.start()
    squares = sorted(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    assert squares == [0, 1, 4]
    sleeper = context.Process(target=time.sleep, args=(60,))
    sleeper.start()
    sleeper.terminate()
    sleeper.join()
    assert sleeper.exitcode == -signal.SIGTERM


def run(_job: Job) -> None:
    assert subprocess.run(["echo", "hello"], capture_output=True, check=True).stdout == b"hello\n"


def _square(number: int, results: Any) -> None:
    time.sleep(0.1)
    results.put(number * number)


def _expect(child: int, code: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == code, f"the child ended with {status}"


DEEDS: dict[str, Callable[[Job], object]] = {
    deed.__name__: deed
    for deed in (
        *(segfault, leave, run_out_of_memory),
        *(ignore_signals, default_signals, own_signals, asyncio_run, ignore_signals_in_c, count_usr1),
        *(say_hello, close_stdout, close_stderr, close_descriptors),
        *(leave_a_child, fork, fork_and_exit, fork_and_return, fork_and_raise, fork_and_settle, fork_for_long, multiprocess, run),
    )
}
