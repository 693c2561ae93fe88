"""What the broker is short of. While it is short of anything it does not read clients that publish, as RabbitMQ does."""

from __future__ import annotations

from dataclasses import dataclass

#: An alarm ends when what raised it has fallen below this part of its limit, so that it does not come and go with every message.
_RELIEF = 0.8


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a broker may hold before publishers are blocked."""

    #: Bytes of messages in memory.
    memory: int = 256 << 20
    #: Messages, on disk or not: each costs some bytes of memory wherever it is.
    messages: int = 4_000_000
    #: Bytes of messages that the store has not written yet. Beyond it publishers are read no further for a moment, and not told.
    uncommitted: int = 64 << 20


class Alarms:
    """Which alarms are on, and the reason that blocked clients are told."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._on: dict[str, str] = {}

    @property
    def reason(self) -> str | None:
        """What to tell blocked clients; None when nobody is blocked."""
        return next(iter(self._on.values()), None)

    def rings(self, alarm: str) -> bool:
        """Whether that alarm is on."""
        return alarm in self._on

    def set(self, alarm: str, reason: str | None) -> None:
        """Turn an alarm on for a reason, or (None) off."""
        if reason is None:
            self._on.pop(alarm, None)
        else:
            self._on[alarm] = reason

    def watch(self, memory: int, messages: int) -> None:
        """Look at what the broker holds."""
        self._watch("memory", memory, self._bounds.memory, "low on memory")
        self._watch("messages", messages, self._bounds.messages, "too many messages")

    def _watch(self, alarm: str, held: int, bound: int, reason: str) -> None:
        if held > bound:
            self._on.setdefault(alarm, reason)
        elif alarm in self._on and held < bound * _RELIEF:
            del self._on[alarm]
