"""Handlers that do to their process what no handler should. A job's body says what, in JSON: ``{"do": "segfault", "after": 0.5}``."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support.ledger import VARIABLE, record

if TYPE_CHECKING:
    from hopd import Job


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def run_out_of_memory() -> None:
    """As the kernel does it to a process that has taken too much."""
    os.kill(os.getpid(), signal.SIGKILL)


KILLERS: dict[str, Callable[[], None]] = {"segfault": segfault, "leave": leave, "run_out_of_memory": run_out_of_memory}


def obey(job: Job) -> None:
    """Note the job's start and end in the ledger, and in between do what its body says."""
    wish: dict[str, Any] = job.json()
    record(f"{os.environ[VARIABLE]}.begun", job.message_id or "")
    time.sleep(wish.get("after", 0.0))
    if "do" in wish:
        KILLERS[wish["do"]]()
    record(os.environ[VARIABLE], job.message_id or "")


def need(job: Job) -> None:
    """Fail as long as the file $SERVICE is missing."""
    record(f"{os.environ[VARIABLE]}.begun", job.message_id or "")
    time.sleep(job.json().get("after", 0.0))
    if not os.path.exists(os.environ["SERVICE"]):
        raise ConnectionRefusedError("the service is down")
    record(os.environ[VARIABLE], job.message_id or "")
