"""The life cycles, as tables.

Each table maps a state to the events it knows and the state each leads to. A move that is not in the table is
a bug and raises an error that names state and event; nothing else in hopd decides whether a move is legal.

    connection  closed → connecting → open ;  open –lost→ recovering → open ;  open ↔ blocked ;  any –close→ closing → closed
    consumer    idle → consuming ↔ paused ;  either –drain→ draining → stopped ;  consuming –lost→ recovering → consuming
    job         ready → running –done→ done | –requeue→ ready | –retry→ delayed | –bury→ buried | –drop→ dropped | –lost→ lost
    daemon      starting → running ↔ reloading ;  running → draining → stopped
"""

from __future__ import annotations

from collections.abc import Mapping

from hopd.errors import IllegalMove

Table = Mapping[str, Mapping[str, str]]

CONNECTION: Table = {
    "closed": {"connect": "connecting", "close": "closed"},
    "connecting": {"opened": "open", "lost": "recovering", "gave_up": "closed", "close": "closing"},
    "open": {"lost": "recovering", "blocked": "blocked", "close": "closing"},
    "blocked": {"unblocked": "open", "blocked": "blocked", "lost": "recovering", "close": "closing"},
    "recovering": {"opened": "open", "lost": "recovering", "gave_up": "closed", "close": "closing"},
    "closing": {"closed": "closed", "lost": "closed", "close": "closing"},
}

# `failed` is a topic the broker refuses (403, 405 …): it is tried again slowly while the others run.
# A paused topic keeps that word while its channel is away: what the operator asked for is the state.
CONSUMER: Table = {
    "idle": {"consume": "consuming", "pause": "paused", "refused": "failed", "lost": "recovering", "drain": "draining"},
    "consuming": {"pause": "paused", "lost": "recovering", "refused": "failed", "drain": "draining"},
    "paused": {"resume": "recovering", "drain": "draining"},
    "recovering": {"consume": "consuming", "pause": "paused", "lost": "recovering", "refused": "failed", "drain": "draining"},
    "failed": {"consume": "consuming", "pause": "paused", "lost": "recovering", "refused": "failed", "drain": "draining"},
    "draining": {"stopped": "stopped", "drain": "draining"},
    "stopped": {},
}

JOB: Table = {
    "ready": {"start": "running"},
    "running": {"done": "done", "requeue": "ready", "retry": "delayed", "bury": "buried", "drop": "dropped", "lost": "lost"},
    "delayed": {"due": "ready"},
    "buried": {"kick": "ready"},
    "done": {},
    "dropped": {},
    "lost": {},
}

DAEMON: Table = {
    "starting": {"started": "running", "shutdown": "draining"},
    "running": {"reload": "reloading", "shutdown": "draining"},
    "reloading": {"reloaded": "running", "shutdown": "draining"},
    "draining": {"shutdown": "draining", "stopped": "stopped"},
    "stopped": {},
}


class LifeCycle:
    """Where one thing stands in its table."""

    __slots__ = ("_name", "_table", "state")

    def __init__(self, name: str, table: Table, state: str) -> None:
        self._name = name
        self._table = table
        self.state = state

    def move(self, event: str) -> str:
        """Follow `event` and return the new state; `IllegalMove` when the table has no such move."""
        target = self._table[self.state].get(event)
        if target is None:
            known = ", ".join(sorted(self._table[self.state])) or "nothing"
            raise IllegalMove(f"{self._name} is {self.state} and cannot {event}: from here it can {known}")
        self.state = target
        return target

    def can(self, event: str) -> bool:
        """Whether the table has `event` in the present state."""
        return event in self._table[self.state]
