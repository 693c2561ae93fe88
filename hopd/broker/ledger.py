"""What has come of the calls so far and somebody outside has to hear: effects, operations for the disk, dead letters; and what is held."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hopd.broker.channel import Copy
from hopd.broker.model import Counted, DeliveredUpTo, Effect, Gone, Message, Op, PutMessage


class DeadLetter(NamedTuple):
    """A message that left a queue for the dead-letter exchange and with the key (None: its own) that the queue has."""

    message: Message
    queue: str
    reason: str
    exchange: str
    key: str | None


class Ledger:
    """One for the whole broker.

    A message that comes and goes between two looks at the journal leaves no trace in it. How far a queue has delivered is noted
    once, not for each delivery.
    """

    __slots__ = ("_delivered", "_ops", "_puts", "dead", "effects", "memory", "messages", "next_id")

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        #: To be published to the exchanges of their queues before the call that caused it ends.
        self.dead: deque[DeadLetter] = deque()
        #: Bytes of content held, and messages in queues or unsettled, wherever their content is.
        self.memory = 0
        self.messages = 0
        #: Of the next message in any queue: ids are the order in which they came.
        self.next_id = 1
        self._ops: list[Op | None] = []
        #: Where in `_ops` a message was put.
        self._puts: dict[int, int] = {}
        self._delivered: dict[str, int] = {}

    def note(self, op: Op) -> None:
        """Something about queues, exchanges or bindings."""
        self._ops.append(op)

    def came(self, copy: Copy) -> None:
        """A message has arrived in a queue."""
        self.messages += 1
        self.memory += copy.message.size
        if copy.stored:
            self._puts[copy.id] = len(self._ops)
            self._ops.append(PutMessage(copy.queue.name, copy.id, copy.message, copy.expires_at, copy.delivery_count))

    def went(self, copy: Copy) -> None:
        """A message has left its queue for good."""
        self.messages -= 1
        self.memory -= copy.message.size
        if copy.stored:
            put = self._puts.pop(copy.id, None)
            if put is None:
                self._ops.append(Gone(copy.queue.name, copy.id))
            else:
                self._ops[put] = None

    def delivered(self, queue: str, number: int) -> None:
        """A stored message of a higher id than any before was given to a client that may keep it."""
        self._delivered[queue] = number

    def counted(self, copy: Copy) -> None:
        """A stored message came back once more."""
        self._ops.append(Counted(copy.queue.name, copy.id, copy.delivery_count))

    def forget(self, queue: str) -> None:
        """A queue is gone: how far it has delivered does not matter, even if one of that name follows."""
        self._delivered.pop(queue, None)

    def take_effects(self) -> list[Effect]:
        """The effects since the last time."""
        effects, self.effects = self.effects, []
        return effects

    def take_journal(self) -> list[Op]:
        """The operations since the last time."""
        ops = [op for op in self._ops if op is not None]
        ops += [DeliveredUpTo(queue, number) for queue, number in self._delivered.items()]
        self._ops = []
        self._puts.clear()
        self._delivered.clear()
        return ops
