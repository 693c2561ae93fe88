"""The values that the parts of the broker hand to each other: messages, what clients are to be told, what the store is to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeAlias

from hopd.broker.refusal import Refused

#: The arguments of a queue, an exchange or a binding, as `amqp.table` decodes them.
Arguments: TypeAlias = Mapping[Any, Any]

#: Bytes that a message takes besides its content, in CPython on 64 bits: its own object, its names and its places in queues.
MESSAGE_OVERHEAD = 512


@dataclass(slots=True, eq=False)
class Message:
    """One published message, shared by the queues it is routed to. Nobody changes it.

    `properties` are raw: the flags and values behind the fixed 12 bytes of a content header. `expiration` is in seconds, None
    when the publisher set none. `size` is what the message counts for in memory: `size_of` its content.
    """

    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    persistent: bool
    priority: int
    expiration: float | None
    size: int

    def carrying(self, properties: bytes) -> Message:
        """The same message with other raw properties."""
        return replace(self, properties=properties, size=size_of(properties, self.body))


def size_of(properties: bytes, body: bytes) -> int:
    """The bytes that a message of this content takes in memory."""
    return len(properties) + len(body) + MESSAGE_OVERHEAD


@dataclass(frozen=True, slots=True)
class Limits:
    """What one broker allows."""

    #: Seconds that a client may keep a delivery unsettled; None: for ever. RabbitMQ's default.
    consumer_timeout: float | None = 1800.0
    #: Bytes of deliveries for one client that wait to be written (`State.wrote`) before it gets no more.
    max_unwritten: int = 1 << 20
    #: Ready content that a paging queue keeps in memory, in messages and bytes; what is behind that is on disk only.
    page_messages: int = 2000
    page_bytes: int = 8 << 20


class Published(NamedTuple):
    """What became of a published message."""

    #: It reached a queue; else a mandatory message is returned (312 NO_ROUTE).
    routed: bool
    #: No queue refused it; else its confirm is a nack.
    accepted: bool
    #: Something went into the journal for it: its confirm waits until the journal of this moment is committed.
    durable: bool


class DeclareOk(NamedTuple):
    """The answer to queue.declare."""

    name: str
    messages: int
    consumers: int


class QueueInfo(NamedTuple):
    """One queue as an onlooker sees it. Counts of messages and consumers."""

    name: str
    ready: int
    unsettled: int
    consumers: int


class ChannelInfo(NamedTuple):
    """One open channel as an onlooker sees it."""

    #: The name that its client gave itself; empty when it gave none.
    client: str
    #: Tells it from every other of this broker, also from one that had its number before.
    serial: int
    consumers: int


# --- effects: what sessions have to be told, in order --------------------------------------------------------------------


class ChannelId(Protocol):
    """The channel that an effect is for, as much as its session needs to know it by."""

    owner: object
    number: int


@dataclass(slots=True, eq=False)
class Deliver:
    """A message for a consumer, or the answer to basic.get (then `consumer_tag` is empty). Its properties are ready to be sent."""

    channel: ChannelId
    consumer_tag: str
    tag: int
    redelivered: bool
    message: Message


@dataclass(slots=True, eq=False)
class Cancelled:
    """The broker ended a consumer; clients with the capability consumer_cancel_notify are told."""

    channel: ChannelId
    consumer_tag: str


@dataclass(slots=True, eq=False)
class CloseChannel:
    """The broker closes a channel by itself. The state has closed it already; its client is to be told why."""

    channel: ChannelId
    refused: Refused


@dataclass(slots=True, eq=False)
class Load:
    """Content is wanted from the store, to be answered with `State.loaded` and the rows of the first of these ids, or of all.

    Those without a row are asked for again later, so an answer may stop where it gets large. The journal has to be submitted
    first: it may hold the very messages.
    """

    queue: str
    ids: list[int]


Effect: TypeAlias = Deliver | Cancelled | CloseChannel | Load


# --- journal: what the store has to make durable, in order ---------------------------------------------------------------


@dataclass(slots=True)
class PutMessage:
    """A persistent message arrived in a durable queue. `expires_at` is in seconds since 1970."""

    queue: str
    id: int
    message: Message
    expires_at: float | None
    delivery_count: int = 0


@dataclass(slots=True)
class Gone:
    """A message left its queue for good."""

    queue: str
    id: int


@dataclass(slots=True)
class DeliveredUpTo:
    """Every message up to `id` may have been delivered: after a restart it is told as redelivered. At most one a queue and batch."""

    queue: str
    id: int


@dataclass(slots=True)
class Counted:
    """The delivery count of a message in a quorum queue has changed."""

    queue: str
    id: int
    delivery_count: int


@dataclass(slots=True)
class QueueDeclared:
    """A durable queue that is not exclusive came to be."""

    name: str
    arguments: Arguments
    auto_delete: bool


@dataclass(slots=True)
class QueueDeleted:
    """A durable queue is gone, and with it its messages and the bindings to it."""

    name: str


@dataclass(slots=True)
class QueuePurged:
    """A durable queue lost all its messages except those in `kept`: the ones that clients have not settled."""

    name: str
    kept: Sequence[int]


@dataclass(slots=True)
class ExchangeDeclared:
    """A durable exchange came to be. The default exchange and the `amq.` ones are never in the journal."""

    name: str
    kind: str
    auto_delete: bool
    internal: bool
    arguments: Arguments


@dataclass(slots=True)
class ExchangeDeleted:
    """A durable exchange is gone, and with it the bindings from and to it."""

    name: str


@dataclass(slots=True)
class Bound:
    """A binding between durable ends. It is the same one as another when all its fields are equal."""

    source: str
    destination: str
    #: The destination is an exchange, not a queue.
    to_exchange: bool
    key: str
    arguments: Arguments


@dataclass(slots=True)
class Unbound:
    """A binding is gone; the fields are those of its `Bound`."""

    source: str
    destination: str
    to_exchange: bool
    key: str
    arguments: Arguments


Op: TypeAlias = (
    PutMessage
    | Gone
    | DeliveredUpTo
    | Counted
    | QueueDeclared
    | QueueDeleted
    | QueuePurged
    | ExchangeDeclared
    | ExchangeDeleted
    | Bound
    | Unbound
)


# --- what the store gives back -------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Stored:
    """The content of one message in one queue."""

    message: Message
    expires_at: float | None
    delivery_count: int


@dataclass(slots=True)
class RestoredQueue:
    """A queue as the store found it, its messages as bare ids in increasing order."""

    name: str
    arguments: Arguments
    auto_delete: bool
    ids: list[int]
    #: The priority of each id; only for queues that have the argument x-max-priority, else None.
    priorities: Sequence[int] | None = None
    #: From its last `DeliveredUpTo`; 0 when there was none.
    delivered_up_to: int = 0
    #: Bytes of all bodies; only for queues that have the argument x-max-length-bytes, else 0.
    body_bytes: int = 0


@dataclass(slots=True)
class Restored:
    """What the store found at start."""

    exchanges: list[ExchangeDeclared] = field(default_factory=list)
    queues: list[RestoredQueue] = field(default_factory=list)
    bindings: list[Bound] = field(default_factory=list)
    #: Above every message id that was ever in the store.
    next_id: int = 1
