"""What a failed job tells about its failures: headers that travel with it, through restarts and from broker to broker.

Nobody else keeps count: a counter in a process's memory forgets, and a job that is forgotten is tried for ever.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from hopd import names
from hopd.config.retry import describe
from hopd.errors import Decision

#: The end of a traceback says most, and headers have to fit one frame (usually 128 KiB). Characters.
MAX_TRACEBACK = 8000


def failure_headers(before: Mapping[str, Any], attempt: int, error: BaseException | None, instance: str | None) -> dict[str, Any]:
    """What to add to the headers of a job whose `attempt` (1 is the first) failed, with `error` if it is known.

    `before` are the headers it came with: the time of its first failure is kept.
    """
    first = before.get(names.FIRST_FAILED_AT)
    return {
        names.ATTEMPTS: attempt,
        names.FIRST_FAILED_AT: first if isinstance(first, str) else now(),
        names.HOST: socket.gethostname(),
        **({} if instance is None else {names.INSTANCE: instance}),
        **({} if error is None else error_headers(error)),
    }


def error_headers(error: BaseException) -> dict[str, str]:
    """Type, message and the end of the traceback of an error."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {
        names.ERROR_TYPE: f"{type(error).__module__}.{type(error).__qualname__}",
        names.ERROR_MESSAGE: one_line(error),
        names.ERROR_TRACEBACK: printable(trace[-MAX_TRACEBACK:]),
    }


def error_behind(error: BaseException) -> BaseException | None:
    """The error behind what a handler raised: itself, but for a decision the error that led to it, if there was one."""
    if not isinstance(error, Decision):
        return error
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def one_line(error: BaseException) -> str:
    """An error on one line, cut to a bearable length."""
    return " ".join(describe(error).split())


def printable(text: str) -> str:
    """`text` as UTF-8 can spell it: half a surrogate pair would not pass the wire."""
    return text.encode("utf-8", "backslashreplace").decode()


def now() -> str:
    """The time as headers have it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
