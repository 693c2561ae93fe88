"""The whole broker as pure code: no I/O, no clock. Sessions call it, the store and other sessions hear of it.

A call changes the state at once. What it means for clients gathers in `effects`, what it means for the disk in the journal;
both are taken by whoever owns the state, the journal first when it has a store. Times are seconds since 1970 and never go back.
"""

from __future__ import annotations

from collections.abc import Iterable

from hopd.broker.channel import Channel
from hopd.broker.model import (
    Arguments,
    DeclareOk,
    Deliver,
    Effect,
    Limits,
    Message,
    Op,
    Published,
    QueueInfo,
    Restored,
    Stored,
)


class State:
    """Exchanges, queues, consumers and what is between them. Its methods raise `Refused` and then have changed nothing.

    Deliveries of earlier calls are in `effects` until they are taken; a session that answers a method itself (cancel-ok, get-ok)
    takes them first, so that nothing overtakes. `memory` is the bytes of message content held, `messages` the number of all
    messages, on disk or not.
    """

    def __init__(self, *, paging: bool, limits: Limits | None = None, server_name: str = "hopd") -> None:
        self.effects: list[Effect] = []
        self._paging = paging
        self._limits = limits or Limits()
        self._server_name = server_name

    @property
    def memory(self) -> int:
        """Bytes of message content held."""
        raise NotImplementedError

    @property
    def messages(self) -> int:
        """Messages in all queues, ready and unsettled, in memory or not."""
        raise NotImplementedError

    def take_effects(self) -> list[Effect]:
        """What sessions are to be told since the last time, in order."""
        raise NotImplementedError

    def take_journal(self) -> list[Op]:
        """What the store has to make durable since the last time, in order. Empty when it all cancelled out: then it is durable."""
        raise NotImplementedError

    def restore(self, restored: Restored, now: float) -> None:
        """Take over what the store found at start. Call once, before anything else."""
        raise NotImplementedError

    # --- clients ------------------------------------------------------------------------------------------------------

    def connected(self, owner: object) -> None:
        """A client is there. `owner` is whatever stands for it; exclusive queues are its own."""
        raise NotImplementedError

    def disconnected(self, owner: object, now: float) -> None:
        """A client is gone: its channels are closed, its exclusive queues deleted."""
        raise NotImplementedError

    def wrote(self, owner: object, now: float) -> None:
        """The client's deliveries so far are written: it may get the next `Limits.max_unwritten` bytes.

        A client that does not read is not told so, and then gets no more.
        """
        raise NotImplementedError

    def open_channel(self, owner: object, number: int) -> Channel:
        """A channel of a connected client."""
        raise NotImplementedError

    def close_channel(self, channel: Channel, now: float) -> None:
        """End a channel; what is unsettled on it goes back to its places. Again does nothing."""
        raise NotImplementedError

    # --- topology -----------------------------------------------------------------------------------------------------

    def exchange_declare(
        self, name: str, kind: str, *, passive: bool, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments
    ) -> None:
        """Make an exchange, or see that it is there (`passive`) or that the one that is there is the same."""
        raise NotImplementedError

    def exchange_delete(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange, if there is one, and the bindings from and to it."""
        raise NotImplementedError

    def exchange_bind(self, destination: str, source: str, key: str, arguments: Arguments) -> None:
        """What reaches `source` with that key goes on to `destination`."""
        raise NotImplementedError

    def exchange_unbind(self, destination: str, source: str, key: str, arguments: Arguments) -> None:
        """End a binding, if there is one."""
        raise NotImplementedError

    def queue_declare(
        self,
        owner: object,
        name: str,
        *,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Arguments,
        now: float,
    ) -> DeclareOk:
        """An empty name asks for one made up by the broker; it is in the answer.

        That an empty name elsewhere means the queue last declared on the channel is for the session to know.
        """
        raise NotImplementedError

    def queue_bind(self, owner: object, queue: str, exchange: str, key: str, arguments: Arguments) -> None:
        """What reaches `exchange` with that key goes into `queue`."""
        raise NotImplementedError

    def queue_unbind(self, owner: object, queue: str, exchange: str, key: str, arguments: Arguments) -> None:
        """End a binding, if there is one."""
        raise NotImplementedError

    def queue_purge(self, owner: object, queue: str, now: float) -> int:
        """Drop what is ready; how much it was."""
        raise NotImplementedError

    def queue_delete(self, owner: object, queue: str, *, if_unused: bool, if_empty: bool, now: float) -> int:
        """Delete a queue, if there is one; how many ready messages it held."""
        raise NotImplementedError

    # --- messages -----------------------------------------------------------------------------------------------------

    def publish(self, message: Message, now: float) -> Published:
        """Route a message to its queues."""
        raise NotImplementedError

    def qos(self, channel: Channel, prefetch_count: int, global_: bool) -> None:
        """Bound what is unsettled: for each consumer from now on, or (`global_`) for the channel as a whole. 0: no bound."""
        raise NotImplementedError

    def consume(self, channel: Channel, queue: str, tag: str, *, no_ack: bool, exclusive: bool, arguments: Arguments, now: float) -> str:
        """Start a consumer; its tag, made up when it is empty. Its first deliveries are effects: send consume-ok before them."""
        raise NotImplementedError

    def cancel(self, channel: Channel, tag: str, now: float) -> None:
        """End a consumer, if there is one; its deliveries stay the client's to settle."""
        raise NotImplementedError

    def get(self, channel: Channel, queue: str, *, no_ack: bool, now: float) -> tuple[Deliver, int] | None:
        """The queue's next message and how many are ready behind it, or None.

        None also while the queue `awaits_content`: then answer its `Load` and ask again.
        """
        raise NotImplementedError

    def awaits_content(self, queue: str) -> bool:
        """The queue's next message is on disk, and a `Load` for it is or was among the effects."""
        raise NotImplementedError

    def ack(self, channel: Channel, tag: int, multiple: bool, now: float) -> None:
        """A delivery is done, or (`multiple`) all up to it; with tag 0 all there are."""
        raise NotImplementedError

    def nack(self, channel: Channel, tag: int, multiple: bool, requeue: bool, now: float) -> None:
        """As `ack`, but back to its place or (not `requeue`) dead-lettered."""
        raise NotImplementedError

    def reject(self, channel: Channel, tag: int, requeue: bool, now: float) -> None:
        """As `nack` for one delivery."""
        raise NotImplementedError

    def recover(self, channel: Channel, requeue: bool, now: float) -> None:
        """Everything unsettled goes back to its place. Without `requeue`: 540, as RabbitMQ answers."""
        raise NotImplementedError

    def loaded(self, queue: str, rows: Iterable[tuple[int, Stored | None]], now: float) -> None:
        """The answer to a `Load`; None for a message that the store does not have any more."""
        raise NotImplementedError

    # --- time and looks -----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due: messages and queues expire, clients that keep a delivery too long lose their channel."""
        raise NotImplementedError

    def due(self) -> float | None:
        """When `tick` has something to do, or None."""
        raise NotImplementedError

    def queues(self) -> list[QueueInfo]:
        """All queues, by name."""
        raise NotImplementedError
