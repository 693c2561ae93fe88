"""What becomes of a job after its handler ended, as plain values; and the policy that decides it when the handler failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Characters of an error's message in a reason: reasons travel in a header, and a header fits a frame.
MAX_REASON = 500


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
class FailurePolicy:
    """What a topic does with a job whose handler raised."""

    on_failure: Literal["bury", "requeue", "drop"] = "bury"

    def decide(self, attempt: int, error: BaseException) -> Outcome:
        """The outcome of a failed `attempt` (1 is the first). Pure: the caller performs it."""
        if self.on_failure == "requeue":
            return Requeue()
        if self.on_failure == "drop":
            return Drop()
        return Bury(f"attempt {attempt} failed: {describe(error)}")


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
