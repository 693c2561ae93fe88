"""What becomes of a job after its handler ended, as plain values; and the policy that decides it when the handler failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hopd import errors

#: Characters of an error's message in a reason: reasons travel in a header, and a header fits a frame.
MAX_REASON = 500

#: Doublings until any first delay is longer than any longest one; more would only leave the range of floats.
MAX_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class Done:
    """The job is finished."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """The job goes back to its topic at once."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The job comes back to its topic after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Bury:
    """The job is set aside for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """The job is thrown away."""


Outcome = Done | Requeue | RetryAfter | Bury | Drop


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed job is tried again, and after how many seconds.

    `backoff` doubles the delay each time (exponential), keeps it (fixed), or is the delays themselves, the last one repeated.
    Errors are tried again when they are of a class in `on` and of none in `never`.
    """

    max_attempts: int = 8
    backoff: Literal["exponential", "fixed"] | tuple[float, ...] = "exponential"
    first: float = 1.0
    max: float = 3600.0
    jitter: bool = True
    on: tuple[type[BaseException], ...] = (Exception,)
    never: tuple[type[BaseException], ...] = ()

    def covers(self, error: BaseException) -> bool:
        """Whether jobs that fail with `error` are tried again at all."""
        return isinstance(error, self.on) and not isinstance(error, self.never)

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds between failed `attempt` and the next. Jitter takes it from half to the whole of its length as `chance` goes from 1 to 0.

        Not from zero, as is common elsewhere: what overloads a service must also wait.
        """
        if isinstance(self.backoff, tuple):
            whole = self.backoff[min(attempt, len(self.backoff)) - 1]
        elif self.backoff == "fixed":
            whole = self.first
        else:
            whole = self.first * 2.0 ** min(attempt - 1, MAX_DOUBLINGS)
        whole = min(whole, self.max)
        return whole * (1.0 - chance / 2) if self.jitter else whole


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What a topic does with a job whose handler raised. Without `retry` a job is tried once."""

    on_failure: Literal["bury", "requeue", "drop"] = "bury"
    retry: RetryPolicy | None = None

    def decide(self, attempt: int, error: BaseException, chance: float) -> Outcome:
        """The outcome of a failed `attempt` (1 is the first); `chance`, from 0 to below 1, is the jitter. Pure: the caller performs it."""
        if isinstance(error, errors.Decision):
            decided = self._decided(error, attempt, chance)
            if decided is not None:
                return decided
        retry = self.retry
        if retry is not None and attempt < retry.max_attempts and retry.covers(error):
            return RetryAfter(retry.delay(attempt, chance))
        if self.on_failure == "requeue":
            return Requeue()
        if self.on_failure == "drop":
            return Drop()
        return Bury(f"{self._last(attempt, error)}: {describe(error)}")

    def _decided(self, decision: errors.Decision, attempt: int, chance: float) -> Outcome | None:
        """What the handler decided itself. That it wants one more attempt counts more than `max_attempts`: it knows its job."""
        if isinstance(decision, errors.Retry):
            after = decision.after
            return RetryAfter((self.retry or RetryPolicy()).delay(attempt, chance) if after is None else after)
        if isinstance(decision, errors.Bury):
            return Bury(decision.reason)
        return Drop() if isinstance(decision, errors.Drop) else None

    def _last(self, attempt: int, error: BaseException) -> str:
        if self.retry is None:
            return f"attempt {attempt} failed"
        if self.retry.covers(error):
            return f"attempt {attempt} of {self.retry.max_attempts} failed"
        return f"attempt {attempt} failed with an error that is not tried again"


def describe(error: BaseException) -> str:
    """``ValueError: no such user``, cut to `MAX_REASON` characters; never raises, whatever the error's own ``__str__`` does."""
    name = type(error).__name__
    try:
        message = str(error)
    except BaseException as broken:  # noqa: BLE001 - a handler's error must not bring its worker down; the reason says so
        message = f"(its message cannot be shown: {type(broken).__name__})"
    text = f"{name}: {message}" if message else name
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair would not pass the wire
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
