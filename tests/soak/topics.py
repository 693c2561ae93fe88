"""The topics of the soak: how each is configured, what its jobs do, and to what end they come."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The exit code of a process that a poisonous job ended.
POISONED = 66

#: The variable that names the file which exists as long as the service that `moody` needs is down.
OUTAGE = "HOPD_SOAK_OUTAGE"

#: The header in which a delayed job carries its delay. Seconds, as text.
DELAY = "soak-delay"

#: What a job that came before its time has before its id in the ledger, where nobody expects it then.
EARLY = "early-"

#: Longer than any soak. Seconds.
FOR_EVER = 86_400

HANDLED, BURIED = "handled", "buried"


@dataclass(frozen=True, slots=True)
class SoakTopic:
    """A topic: its name is that of its handler. `share` is its part of the load; 0 for jobs that only faults put."""

    name: str
    share: int
    concurrency: int = 10
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prefetch(self) -> int:
        """How many of its jobs one daemon can hold."""
        return 3 * self.concurrency

    @property
    def configured(self) -> dict[str, Any]:
        """Its part of the config."""
        return {"handler": f"tests.soak.handlers:{self.name}", "concurrency": self.concurrency, "prefetch": self.prefetch, **self.options}


_SOON = {"first": "100ms", "max": "500ms"}

TOPICS = (
    SoakTopic("quick", 40, 20),
    SoakTopic("sleeper", 20, 40),
    SoakTopic("quorum", 10, 10, {"queue_type": "quorum"}),
    SoakTopic("flaky", 8, 20, {"retry": {"max_attempts": 8, **_SOON}}),
    SoakTopic("requeued", 3, 10, {"on_failure": "requeue"}),
    SoakTopic("doomed", 4, 10, {"retry": {"max_attempts": 2, **_SOON}}),
    SoakTopic("settler", 8, 10, {"retry": {"max_attempts": 8, **_SOON}}),
    SoakTopic("moody", 6, 10, {"retry": {"max_attempts": 1000, **_SOON}, "breaker": {"failures": 10, "within": "2s", "pause": "1s"}}),
    SoakTopic("threaded", 4, 2, {"executor": "thread"}),
    SoakTopic("hanging", 2, 10, {"timeout": "1s", "kill_after": "1s", "retry": {"max_attempts": 8, **_SOON}}),
    SoakTopic("delayed", 5, 10),
    SoakTopic("poison", 0, 2, {"max_crashes": 2}),
)


def config(broker: str, control: str, halved: str = "") -> str:
    """The config of all daemons, as JSON (which is YAML): `broker` is the URL or a variable that holds it. The topic `halved` has half
    the concurrency."""
    return json.dumps(
        {
            # Short times, so that a minute holds many recoveries.
            "broker": {"url": broker, "heartbeat": 3, "connect_timeout": "2s", "recovery_max": "1s"},
            "control": {"socket": control},
            "shutdown": {"grace": "10s"},
            "topics": {topic.name: {**topic.configured, **_half(topic, halved)} for topic in TOPICS},
        },
        indent=1,
    )


def _half(topic: SoakTopic, halved: str) -> dict[str, Any]:
    return {"concurrency": topic.concurrency // 2} if topic.name == halved else {}


def dice(message_id: str, sides: int) -> int:
    """A number below `sides` that belongs to the job: what it does is the same in every process and every run."""
    return zlib.crc32(message_id.encode()) % sides


def end_of(message_id: str) -> str:
    """To what end the job must come: handled (its handler says so in the ledger) or buried."""
    topic = message_id.partition("-")[0]
    if topic in ("doomed", "poison"):
        return BURIED
    if topic == "settler" and dice(message_id, 10) == 0:
        return BURIED
    return HANDLED
