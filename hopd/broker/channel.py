"""One channel as the state sees it."""

from __future__ import annotations


class Channel:
    """One open channel. `owner` is the session it belongs to, as given to `State.open_channel`; `number` its number there."""

    def __init__(self, owner: object, number: int) -> None:
        self.owner = owner
        self.number = number
