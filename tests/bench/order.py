"""What a contender is told: one value in its environment, the same for all of them. Needs only the standard library."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

#: The variable that holds it, as JSON.
VARIABLE = "HOPD_BENCH"


@dataclass(frozen=True, slots=True)
class Order:
    """Times are in seconds. The contender reports to the Unix datagram socket `report` when it has done `first` and `last` jobs."""

    url: str
    queue: str
    report: str
    #: In the queue.
    jobs: int
    first: int
    last: int
    concurrency: int = 1
    #: Unsettled jobs at most; hopd has a default of its own.
    prefetch: int = 1
    #: A job waits for a random time between these two.
    shortest: float = 0.0
    longest: float = 0.0
    #: Every so many jobs one takes `long`; 0: none does.
    long_every: int = 0
    long: float = 0.0
    #: Whether bodies begin with the time of their put (nanoseconds since 1970, 8 bytes), and the report is to say how old they were.
    timed: bool = False

    @property
    def idle(self) -> bool:
        """Whether jobs do nothing at all."""
        return not (self.longest or self.long_every or self.timed)

    def environment(self) -> dict[str, str]:
        """For the contender's process."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Order:
        """In the contender's process."""
        return cls(**json.loads(os.environ[VARIABLE]))
