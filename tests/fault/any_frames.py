"""Anything that a client could send to the broker: every method of the protocol with any arguments, messages in any pieces, damaged
or not. As strategies of hypothesis."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from pika import spec

from hopd.amqp.frames import BODY, FRAME_END, HEADER, METHOD
from hopd.broker.refusal import Code
from tests.support.talk import method

#: Few, so that what is asked for is often there. Of channels the first two are open.
QUEUES = ("q1", "q1", "q2", "q3", "q4", "")
EXCHANGES = ("", "x1", "x1", "x2", "amq.direct", "amq.topic", "amq.headers", "amq.fanout")
KEYS = ("q1", "q2", "q3", "q4", "a.b", "a.#", "*.b", "")
STRANGE = ("nothing", "amq.new", "amq.rabbitmq.trace", "amq.rabbitmq.reply-to", "\0", "é" * 127)
CHANNELS = (1, 1, 1, 2, 2, 0, 3, 65535)

names = st.sampled_from((*QUEUES, *EXCHANGES, *KEYS, *STRANGE))
numbers = st.sampled_from([0, 1, 2, 3, 5, 100, 255, 65535])

_ARGUMENTS = (
    *("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-type", "x-match"),
    *("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-delivery-limit", "x-single-active-consumer", "x-priority", "CC", "BCC"),
    *("x-queue-mode", "alternate-exchange", "x-death", "x-delivery-count", "a", "capabilities", "connection_name"),
)
_words = st.sampled_from(
    ["classic", "quorum", "stream", "drop-head", "reject-publish", "reject-publish-dlx", "all", "any-with-x", "lazy", ""]
)
_leaves = st.one_of(names, _words, st.sampled_from([0, 1, 2, 10, 1000, -1, 2**40]), st.booleans(), st.none(), st.binary(max_size=3))
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_ARGUMENTS), inner, max_size=2), max_leaves=4
)
tables = st.dictionaries(st.sampled_from(_ARGUMENTS), _values, max_size=3)


_rarely = st.integers(0, 29).map(lambda number: number == 17)


def _mostly(usual: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from((*usual * 10, *STRANGE))


#: What the arguments of methods are made of, by their names in pika's specification; flags are known by their defaults.
_BY_NAME: Mapping[str, st.SearchStrategy[Any]] = {
    "queue": _mostly(QUEUES),
    "exchange": _mostly(("", "", "", "", "x1", *EXCHANGES)),
    "source": _mostly(EXCHANGES),
    "destination": _mostly((*EXCHANGES, *QUEUES)),
    "routing_key": _mostly((*KEYS, "q1", "q1", "q3")),
    "consumer_tag": st.sampled_from(["", "c1", "c2", "c3"]),
    **dict.fromkeys(("arguments", "client_properties", "server_properties"), tables),
    **dict.fromkeys(("reply_code", "class_id", "method_id", "message_count", "consumer_count", "ticket", "heartbeat"), numbers),
    **dict.fromkeys(("response", "challenge", "mechanisms", "locales", "new_secret"), st.binary(max_size=20)),
    # Flags that mostly end what was begun.
    **dict.fromkeys(("no_local", "immediate", "passive", "internal", "exclusive", "auto_delete"), _rarely),
    "active": _rarely.map(lambda flag: not flag),
    "type": st.sampled_from(["direct", "fanout", "topic", "topic", "headers", "x-strange"]),
    "delivery_tag": st.one_of(st.integers(0, 6), st.integers(0, 2**64 - 1)),
    "prefetch_count": st.integers(0, 3),
    "prefetch_size": st.sampled_from([0, 0, 0, 1]),
    "virtual_host": st.sampled_from(["/", "other"]),
    "mechanism": st.sampled_from(["PLAIN", "AMQPLAIN", "EXTERNAL"]),
    "channel_max": st.sampled_from([0, 10, 2047, 65535]),
    "frame_max": st.sampled_from([0, 4096, 131_072, 2**32 - 1]),
    "version_major": st.just(0),
    "version_minor": st.just(9),
}


def _arguments(kind: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    found = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in _BY_NAME:
            found[name] = _BY_NAME[name]
        elif isinstance(parameter.default, bool) or name == "active":
            found[name] = st.booleans()
        elif name != "self":
            found[name] = names
    return st.fixed_dictionaries(found)


def _one(strategies: Sequence[st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    """One of these, each as often as it is there. `st.one_of` prefers the first, and of nested ones makes one."""
    return st.sampled_from(strategies).flatmap(_itself)


def _itself(strategy: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return strategy


def _built(kind: type[Any], channel: int, arguments: Mapping[str, Any]) -> bytes:
    return method(channel, kind(**arguments))


def frames_of(channels: Sequence[int], *kinds: type[Any]) -> st.SearchStrategy[bytes]:
    """A method of one of these kinds, with any arguments."""
    return _one([st.builds(_built, st.just(kind), st.sampled_from(channels), _arguments(kind)) for kind in kinds])


#: What keeps something going, the more often it is named here the more.
_WORK = (
    *(spec.Basic.Consume,) * 6,
    *(spec.Basic.Get,) * 4,
    *(spec.Basic.Qos, spec.Basic.Cancel, spec.Basic.Recover, spec.Basic.RecoverAsync, spec.Confirm.Select, spec.Channel.Flow),
    *(spec.Queue.Declare, spec.Queue.Bind, spec.Queue.Unbind, spec.Queue.Purge, spec.Queue.Delete, spec.Channel.Close),
    *(spec.Exchange.Declare, spec.Exchange.Bind, spec.Exchange.Unbind, spec.Exchange.Delete),
)

#: Said before anything else: there are queues with everything, and ways to them.
BEGINNING = b"".join(
    method(1, each)
    for each in (
        spec.Exchange.Declare(exchange="x1", type="topic", durable=True),
        spec.Exchange.Declare(exchange="x2", type="fanout", arguments={"alternate-exchange": "x1"}),
        spec.Queue.Declare(queue="q1", durable=True),
        spec.Queue.Declare(
            queue="q2",
            durable=True,
            arguments={"x-message-ttl": 1000, "x-max-length": 3, "x-dead-letter-exchange": "x1", "x-dead-letter-routing-key": "a.b"},
        ),
        spec.Queue.Declare(
            queue="q3", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1, "x-dead-letter-exchange": ""}
        ),
        spec.Queue.Declare(queue="q4", arguments={"x-max-priority": 5, "x-overflow": "reject-publish", "x-max-length-bytes": 200}),
        spec.Queue.Bind(queue="q1", exchange="x1", routing_key="a.#"),
        spec.Queue.Bind(queue="q2", exchange="x2"),
        spec.Exchange.Bind(destination="x2", source="x1", routing_key="*.b"),
        spec.Confirm.Select(),
    )
)


# --- messages -----------------------------------------------------------------------------------


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([FRAME_END])


def _encoded(**properties: Any) -> bytes:
    return b"".join(spec.BasicProperties(**properties).encode())


_properties = st.builds(
    _encoded,
    headers=st.none() | tables,
    delivery_mode=st.sampled_from([2, 2, 2, 1, None, 9]),
    priority=st.sampled_from([None, 0, 4, 255]),
    expiration=st.sampled_from([*[None] * 20, "1000", "0", "500", "soon", "-1"]),
    user_id=st.sampled_from([*[None] * 20, "guest", "other"]),
)


@st.composite
def messages(draw: st.DrawFn, channels: Sequence[int], right: bool) -> bytes:
    """A message in its frames; where it need not be `right` also with too many, too few, or of the wrong size or class."""
    channel, body = draw(st.sampled_from(channels)), draw(st.binary(max_size=50))
    size, class_id = (
        (len(body), 60) if right else draw(st.tuples(st.sampled_from([len(body), len(body) + 1, 0, 2**63]), st.sampled_from([60, 60, 50])))
    )
    properties = draw(_properties if right else _properties | st.binary(max_size=20))
    cut = draw(st.integers(0, len(body)))
    pieces = [
        method(channel, spec.Basic.Publish(**draw(_arguments(spec.Basic.Publish)))),
        frame(HEADER, channel, struct.pack(">HHQ", class_id, 0, size) + properties),
        *(frame(BODY, channel, part) for part in (body[:cut], body[cut:]) if part),
    ]
    if not right and draw(st.booleans()):
        del pieces[draw(st.integers(0, len(pieces) - 1))]
    return b"".join(pieces)


# --- what is no frame of any kind, or nearly one -------------------------------------------------

_channels = st.sampled_from(CHANNELS)


def _any_method(channel: int, class_id: int, method_id: int, rest: bytes) -> bytes:
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + rest)


_nearly = st.one_of(
    st.builds(frame, st.sampled_from([METHOD, HEADER, BODY, 8, 4, 255]), _channels, st.binary(max_size=30)),
    st.builds(_any_method, _channels, numbers, numbers, st.binary(max_size=9)),
    st.binary(max_size=30),
    st.just(b"AMQP\0\0\x09\x01"),
    st.just(struct.pack(">BHI", METHOD, 1, 2**31)),
)

#: What a client may send that knows the protocol, whatever it wants.
speech = _one([messages((1, 1, 2), right=True), messages((1, 1, 2), right=True), frames_of((1, 1, 2), *_WORK)])

#: What can come over a wire.
anything = _one([speech] * 6 + [messages(CHANNELS, right=False), frames_of(CHANNELS, *spec.methods.values()), _nearly])


#: What no client may send, on a connection with its channels 1 and 2 open, and the code that it is told for it. As RabbitMQ 3.10
#: tells it, but for the last two: it drops who sends an unknown method without a word, and knows transactions.
WRONG: Mapping[str, tuple[bytes, Code]] = {
    "another end of a frame": (frame(BODY, 1, b"x")[:-1] + b"\0", Code.FRAME_ERROR),
    "a frame that is too large": (struct.pack(">BHI", BODY, 1, 2**31) + b"x", Code.FRAME_ERROR),
    "an unknown frame": (frame(9, 1, b"x"), Code.FRAME_ERROR),
    "the protocol's header again": (b"AMQP\0\0\x09\x01", Code.FRAME_ERROR),
    "a method cut short": (frame(METHOD, 1, b"\0\x32\0\x0a\0\0\x05"), Code.FRAME_ERROR),
    "a body that nothing announced": (frame(BODY, 1, b"x"), Code.UNEXPECTED_FRAME),
    "a header that nothing announced": (frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 1, 0)), Code.UNEXPECTED_FRAME),
    "a method within a message": (method(1, spec.Basic.Publish()) + method(1, spec.Basic.Get(queue="q1")), Code.UNEXPECTED_FRAME),
    "a channel that is not open": (method(3, spec.Basic.Get(queue="q1")), Code.CHANNEL_ERROR),
    "a channel opened twice": (method(1, spec.Channel.Open()), Code.CHANNEL_ERROR),
    "a method that there is not": (_any_method(1, 60, 999, b""), Code.NOT_IMPLEMENTED),
    "a transaction": (method(1, spec.Tx.Select()), Code.NOT_IMPLEMENTED),
}


class Settling(NamedTuple):
    """An answer to one of the deliveries that a channel has: that one, or all up to it."""

    channel: int
    kind: type[Any]
    which: int
    multiple: bool
    requeue: bool

    def frame(self, tags: Sequence[int]) -> bytes:
        """The method, when these are the deliveries."""
        tag = tags[self.which % len(tags)]
        if self.kind is spec.Basic.Ack:
            return method(self.channel, spec.Basic.Ack(tag, self.multiple))
        if self.kind is spec.Basic.Reject:
            return method(self.channel, spec.Basic.Reject(tag, self.requeue))
        return method(self.channel, spec.Basic.Nack(tag, self.multiple, self.requeue))


settlings = st.builds(
    Settling,
    st.sampled_from([1, 1, 2]),
    st.sampled_from([spec.Basic.Ack, spec.Basic.Ack, spec.Basic.Nack, spec.Basic.Reject]),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)


class Damage:
    """Bytes that change on their way: each is where (a part of the whole), and what is there instead."""

    def __init__(self, places: Sequence[tuple[float, bytes]]) -> None:
        self._places = places

    def __repr__(self) -> str:
        return f"Damage({self._places!r})"

    def do(self, stream: bytes) -> bytes:
        """The stream as it arrives."""
        arrived = bytearray(stream)
        for where, what in self._places:
            at = int(where * len(arrived))
            arrived[at : at + len(what)] = what
        return bytes(arrived)


damages = st.builds(Damage, st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=3)), max_size=3))


def sliced(stream: bytes, size: int) -> list[bytes]:
    """The stream as a socket gives it, `size` bytes at a time."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]
