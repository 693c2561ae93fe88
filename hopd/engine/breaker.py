"""A breaker: a topic whose handler keeps failing rests a while, tries one job, and goes on or rests again. Pure: time is passed in.

closed  –enough failures within the time→ open  –its pause is over→ probing  –success→ closed | –failure→ open
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

CLOSED, OPEN, PROBING = "closed", "open", "probing"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Rest for `pause` seconds after `failures` failed jobs within `within` seconds."""

    failures: int
    within: float
    pause: float


class Breaker:
    """Where one topic's breaker stands. Successes cost nothing but while it probes; `now` is monotonic seconds."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = CLOSED
        self.probes_at = 0.0
        self._failed_at: deque[float] = deque(maxlen=policy.failures)

    def failed(self, now: float) -> bool:
        """A job failed. True when that opens the breaker: the topic has to rest until `probes_at`."""
        if self.state == OPEN:
            return False  # jobs that were running when it opened
        if self.state == PROBING:
            return self._open(now)
        self._failed_at.append(now)
        if len(self._failed_at) < self.policy.failures or now - self._failed_at[0] > self.policy.within:
            return False
        return self._open(now)

    def succeeded(self) -> bool:
        """A job succeeded. True when it was the probe, and the topic goes on."""
        if self.state != PROBING:
            return False
        self.close()
        return True

    def probe(self, now: float) -> bool:
        """Whether the rest is over: then one job may be tried."""
        if self.state == OPEN and now >= self.probes_at:
            self.state = PROBING
        return self.state == PROBING

    def close(self) -> None:
        """Go on as if nothing had happened: the probe succeeded, or an operator said so."""
        self.state = CLOSED
        self._failed_at.clear()

    def reason(self, now: float) -> str:
        """Why the topic rests, for `status`."""
        policy = self.policy
        if self.state == PROBING:
            return "breaker: trying one job"
        left = max(0.0, self.probes_at - now)
        return f"breaker: {policy.failures} jobs failed within {policy.within:g} s; one is tried in {left:.0f} s"

    def _open(self, now: float) -> bool:
        self.state = OPEN
        self.probes_at = now + self.policy.pause
        return True
