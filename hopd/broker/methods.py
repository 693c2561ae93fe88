"""The methods of AMQP 0-9-1 as values: every one that a broker receives, and those it sends that carry more than their name.

Reserved fields (tickets, AMQP 0-8's leftovers) are not among them; `codec` has the layouts. publish, deliver, return and the
settling ones that a broker sends are encoded by `outbound`, which is made for speed.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from hopd.broker.model import Arguments

# --- connection ---------------------------------------------------------------------------------


class Start(NamedTuple):
    """The broker introduces itself."""

    version_major: int
    version_minor: int
    server_properties: Arguments
    mechanisms: bytes
    locales: bytes


class StartOk(NamedTuple):
    """The client introduces itself. `response` is what the mechanism asks for."""

    client_properties: Arguments
    mechanism: str
    response: bytes
    locale: str


class Tune(NamedTuple):
    """The broker's limits. `heartbeat` is in seconds."""

    channel_max: int
    frame_max: int
    heartbeat: int


class TuneOk(NamedTuple):
    """The limits that hold. `heartbeat` is in seconds, 0: none."""

    channel_max: int
    frame_max: int
    heartbeat: int


class Open(NamedTuple):
    """Enter a virtual host."""

    virtual_host: str


class OpenOk(NamedTuple):
    """The client is in."""


class Close(NamedTuple):
    """End the connection; either side may say it."""

    code: int
    text: str
    class_id: int
    method_id: int


class CloseOk(NamedTuple):
    """The connection's last word."""


class Blocked(NamedTuple):
    """The broker does not read this connection for now."""

    reason: str


class Unblocked(NamedTuple):
    """The broker reads again."""


class UpdateSecret(NamedTuple):
    """A new password, for credentials that expire."""

    secret: bytes
    reason: str


class UpdateSecretOk(NamedTuple):
    """It is taken."""


# --- channel ------------------------------------------------------------------------------------


class ChannelOpen(NamedTuple):
    """Open the channel."""


class ChannelOpenOk(NamedTuple):
    """The channel is open."""


class Flow(NamedTuple):
    """Stop or go on with deliveries."""

    active: bool


class FlowOk(NamedTuple):
    """It is as asked."""

    active: bool


class ChannelClose(NamedTuple):
    """End the channel; either side may say it."""

    code: int
    text: str
    class_id: int
    method_id: int


class ChannelCloseOk(NamedTuple):
    """The channel's last word."""


class AccessRequest(NamedTuple):
    """A leftover of AMQP 0-8 that some clients still send."""


class AccessRequestOk(NamedTuple):
    """Whatever was asked for is granted."""

    ticket: int


# --- exchanges and queues -----------------------------------------------------------------------


class ExchangeDeclare(NamedTuple):
    """Make an exchange, or make sure of it."""

    exchange: str
    kind: str
    passive: bool
    durable: bool
    auto_delete: bool
    internal: bool
    no_wait: bool
    arguments: Arguments


class ExchangeDelete(NamedTuple):
    """Delete an exchange."""

    exchange: str
    if_unused: bool
    no_wait: bool


class ExchangeBind(NamedTuple):
    """Have an exchange's messages reach another one."""

    destination: str
    source: str
    routing_key: str
    no_wait: bool
    arguments: Arguments


class ExchangeUnbind(NamedTuple):
    """Take such a binding away."""

    destination: str
    source: str
    routing_key: str
    no_wait: bool
    arguments: Arguments


class QueueDeclare(NamedTuple):
    """Make a queue, or make sure of it; an empty name asks for one."""

    queue: str
    passive: bool
    durable: bool
    exclusive: bool
    auto_delete: bool
    no_wait: bool
    arguments: Arguments


class QueueDeclareOk(NamedTuple):
    """The queue is there."""

    queue: str
    messages: int
    consumers: int


class QueueBind(NamedTuple):
    """Have an exchange's messages reach a queue."""

    queue: str
    exchange: str
    routing_key: str
    no_wait: bool
    arguments: Arguments


class QueueUnbind(NamedTuple):
    """Take such a binding away."""

    queue: str
    exchange: str
    routing_key: str
    arguments: Arguments


class QueuePurge(NamedTuple):
    """Empty a queue."""

    queue: str
    no_wait: bool


class QueuePurgeOk(NamedTuple):
    """So many messages were in it."""

    messages: int


class QueueDelete(NamedTuple):
    """Delete a queue."""

    queue: str
    if_unused: bool
    if_empty: bool
    no_wait: bool


class QueueDeleteOk(NamedTuple):
    """So many messages were in it."""

    messages: int


# --- basic --------------------------------------------------------------------------------------


class Qos(NamedTuple):
    """How much may be delivered and not settled."""

    prefetch_size: int
    prefetch_count: int
    global_: bool


class Consume(NamedTuple):
    """Have a queue's messages delivered."""

    queue: str
    consumer_tag: str
    no_local: bool
    no_ack: bool
    exclusive: bool
    no_wait: bool
    arguments: Arguments


class ConsumeOk(NamedTuple):
    """They will come under this tag."""

    consumer_tag: str


class Cancel(NamedTuple):
    """No more of them; either side may say it."""

    consumer_tag: str
    no_wait: bool


class CancelOk(NamedTuple):
    """None will come."""

    consumer_tag: str


class Get(NamedTuple):
    """One message, now."""

    queue: str
    no_ack: bool


class GetEmpty(NamedTuple):
    """There is none."""


class Recover(NamedTuple):
    """Deliver again what this channel has not settled."""

    requeue: bool


class RecoverAsync(NamedTuple):
    """The same, without an answer."""

    requeue: bool


class ConfirmSelect(NamedTuple):
    """From now on messages published on this channel are confirmed."""

    no_wait: bool


class TxSelect(NamedTuple):
    """Transactions, which hopd does not have."""


class TxCommit(NamedTuple):
    """Transactions, which hopd does not have."""


class TxRollback(NamedTuple):
    """Transactions, which hopd does not have."""


Method: TypeAlias = (
    Start
    | StartOk
    | Tune
    | TuneOk
    | Open
    | OpenOk
    | Close
    | CloseOk
    | Blocked
    | Unblocked
    | UpdateSecret
    | UpdateSecretOk
    | ChannelOpen
    | ChannelOpenOk
    | Flow
    | FlowOk
    | ChannelClose
    | ChannelCloseOk
    | AccessRequest
    | AccessRequestOk
    | ExchangeDeclare
    | ExchangeDelete
    | ExchangeBind
    | ExchangeUnbind
    | QueueDeclare
    | QueueDeclareOk
    | QueueBind
    | QueueUnbind
    | QueuePurge
    | QueuePurgeOk
    | QueueDelete
    | QueueDeleteOk
    | Qos
    | Consume
    | ConsumeOk
    | Cancel
    | CancelOk
    | Get
    | GetEmpty
    | Recover
    | RecoverAsync
    | ConfirmSelect
    | TxSelect
    | TxCommit
    | TxRollback
)
