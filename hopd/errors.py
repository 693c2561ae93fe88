"""Every error hopd raises, by whose fault it is.

A foreign exception (pika, ssl, yaml, pydantic) never crosses a floor: it is translated here and kept as
``__cause__``. The docstring is the default message; the type says who has to act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hopd.units import format_duration, parse_retry_delay


class HopError(Exception):
    """Something in hopd went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or _summary(type(self)))


def _summary(kind: type[BaseException]) -> str:
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0]


# --- the operator's: configuration and handlers -------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a config file. `line` and `column` count from 1; 0 means the file as a whole."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line == 0 else f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(HopError):
    """The configuration cannot be used."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class HandlerError(HopError):
    """A topic's handler cannot be resolved to a callable that takes a job."""


class IllegalMove(HopError):
    """A life cycle was asked for a move that its table does not have."""


class CannotListen(HopError):
    """The embedded broker cannot listen there."""


class StoreError(HopError):
    """The file in which the embedded broker keeps its messages cannot be used."""


# --- the broker's and the network's -------------------------------------------------------------


class BrokerError(HopError):
    """The broker or the way to it failed."""


class BrokerUnreachable(BrokerError):
    """No connection to the broker could be made."""


class BrokerRefused(BrokerError):
    """The broker refused what was asked of it.

    `code` is the AMQP reply code (403 access refused, 404 not found, 405 locked, 406 precondition failed, 530 not allowed …).
    """

    def __init__(self, message: str | None = None, *, code: int = 0) -> None:
        self.code = code
        super().__init__(message)


class ConnectionLost(BrokerError):
    """The connection to the broker was lost."""


class ChannelLost(BrokerError):
    """The channel was closed; its unsettled jobs return to their topic."""


class BrokerTimeout(BrokerError):
    """The broker did not answer in time."""


# --- the caller's: the work queue ---------------------------------------------------------------


class WorkQueueClosed(HopError):
    """The work queue is closed."""


class ForkedProcess(HopError):
    """A WorkQueue cannot be used across fork(): open one of its own in the child process."""


class PutError(HopError):
    """A job was not put, or it is not known whether it was."""


class Unroutable(PutError):
    """The broker found no topic for the job: its queue was deleted or was never declared."""


class PutTimeout(PutError):
    """The broker did not confirm the job before the deadline.

    `sent` tells whether the job had left for the broker: then it may have been put all the same.
    """

    def __init__(self, message: str | None = None, *, sent: bool = False) -> None:
        self.sent = sent
        super().__init__(message)


class BrokerBlocked(PutError):
    """The broker takes no jobs at the moment (a memory or disk alarm)."""


class PutUncertain(PutError):
    """The connection was lost before the broker confirmed: the job may have been put, or may not."""


class PutRefused(PutError):
    """The broker refused the job (negative confirm, for example a full queue with overflow: reject-publish)."""


class PutTooLarge(PutRefused):
    """The job's headers and other properties are larger than the broker takes."""


class PutManyFailed(PutError):
    """Some jobs of a put_many were not confirmed.

    `confirmed` counts those that were; `failures` maps the index of each other job to its error.
    """

    def __init__(self, confirmed: int, failures: dict[int, PutError]) -> None:
        self.confirmed = confirmed
        self.failures = failures
        first = min(failures)
        super().__init__(
            f"{len(failures)} jobs were not put, {confirmed} were; the first that was not is number {first}: {failures[first]}"
        )


class NotBuried(HopError):
    """Some of the jobs to kick are not among the buried ones.

    `missing` are their ids; `kicked` counts the others, which were kicked.
    """

    def __init__(self, message: str | None = None, *, kicked: int = 0, missing: tuple[str, ...] = ()) -> None:
        self.kicked = kicked
        self.missing = missing
        super().__init__(message)


class PullTimeout(HopError, TimeoutError):
    """No job arrived before the timeout."""


class JobError(HopError):
    """A job was used wrongly."""


class AlreadySettled(JobError):
    """The job is settled already: done, fail, retry and bury settle a job once."""


class UndecodableJob(JobError):
    """The properties of the job's message cannot be decoded."""


# --- the handler's: what it raises, and what is raised in it ------------------------------------


class JobTimeout(HopError):
    """The job ran longer than its topic's timeout.

    Not a TimeoutError, which is an OSError: handlers catch those to try their own calls again.
    """


class Decision(HopError):
    """A handler decided about its job. Raised in place of the call that settles it, from however deep inside."""


class Retry(Decision):
    """The handler wants its job tried again later.

    `after` is in seconds, or text like ``"10m"``, up to 30 days; None leaves the delay to the topic's `retry`. ValueError for others.
    """

    def __init__(self, after: float | str | None = None) -> None:
        self.after = None if after is None else parse_retry_delay(after)
        super().__init__(None if self.after is None else f"the handler wants its job tried again after {format_duration(self.after)}")


class Bury(Decision):
    """The handler wants its job set aside for a person."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = str(self)


class Drop(Decision):
    """The handler wants its job thrown away: nobody needs it any more."""


# --- control ------------------------------------------------------------------------------------


class ControlError(HopError):
    """A control command failed. `code` is a stable word for scripts, `details` what else is known."""

    def __init__(self, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.details = details or {}
        super().__init__(message)


class NotRunning(HopError):
    """No hopd answers on the control socket."""


class ControlTimeout(HopError):
    """hopd did not answer in time."""


class SocketUnusable(HopError):
    """The control socket cannot be created at that path."""
