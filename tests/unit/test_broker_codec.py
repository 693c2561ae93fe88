"""The broker's method codec, held against pika's, which is the other side's."""

from __future__ import annotations

import struct
from typing import Any

import pika.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from hopd.broker import codec
from hopd.broker import methods as m
from hopd.broker.refusal import Code, Refused

TEXTS = st.sampled_from(["", "emails", "\u00fcn\u00efcode", "x" * 255])
BITS = st.booleans()
TABLES = st.sampled_from([{}, {"x-message-ttl": 1000}, {"a": [1, "b", True, None], "c": {"d": -1}}])
SHORTS = st.integers(0, 2**16 - 1)
LONGS = st.integers(0, 2**32 - 1)


def of_pika(method: Any) -> tuple[int, int, bytes]:
    """A method as pika sends it: its class, its number, its arguments."""
    payload = pika.frame.Method(1, method).marshal()[7:-1]
    return (*struct.unpack(">HH", payload[:4]), payload[4:])


def read_by_pika(frame: bytes) -> tuple[int, Any]:
    """The channel and the method in a frame of the broker's, as pika reads it."""
    size, decoded = pika.frame.decode_frame(frame)
    assert size == len(frame)
    assert isinstance(decoded, pika.frame.Method)
    return decoded.channel_number, decoded.method


#: What clients send: pika's method, ours, and the fields of ours with what pika calls them.
RECEIVED: list[tuple[Any, type[m.Method], dict[str, tuple[str, st.SearchStrategy[Any]]]]] = [
    (spec.Connection.TuneOk, m.TuneOk, {"channel_max": ("", SHORTS), "frame_max": ("", LONGS), "heartbeat": ("", SHORTS)}),
    (spec.Connection.Open, m.Open, {"virtual_host": ("", TEXTS)}),
    (
        spec.Connection.Close,
        m.Close,
        {"code": ("reply_code", SHORTS), "text": ("reply_text", TEXTS), "class_id": ("", SHORTS), "method_id": ("", SHORTS)},
    ),
    (spec.Connection.CloseOk, m.CloseOk, {}),
    (spec.Channel.Open, m.ChannelOpen, {}),
    (spec.Channel.Flow, m.Flow, {"active": ("", BITS)}),
    (spec.Channel.FlowOk, m.FlowOk, {"active": ("", BITS)}),
    (
        spec.Channel.Close,
        m.ChannelClose,
        {"code": ("reply_code", SHORTS), "text": ("reply_text", TEXTS), "class_id": ("", SHORTS), "method_id": ("", SHORTS)},
    ),
    (spec.Channel.CloseOk, m.ChannelCloseOk, {}),
    (spec.Access.Request, m.AccessRequest, {}),
    (
        spec.Exchange.Declare,
        m.ExchangeDeclare,
        {
            "exchange": ("", TEXTS),
            "kind": ("type", TEXTS),
            "passive": ("", BITS),
            "durable": ("", BITS),
            "auto_delete": ("", BITS),
            "internal": ("", BITS),
            "no_wait": ("nowait", BITS),
            "arguments": ("", TABLES),
        },
    ),
    (spec.Exchange.Delete, m.ExchangeDelete, {"exchange": ("", TEXTS), "if_unused": ("", BITS), "no_wait": ("nowait", BITS)}),
    *(
        (
            theirs,
            ours,
            {
                "destination": ("", TEXTS),
                "source": ("", TEXTS),
                "routing_key": ("", TEXTS),
                "no_wait": ("nowait", BITS),
                "arguments": ("", TABLES),
            },
        )
        for theirs, ours in ((spec.Exchange.Bind, m.ExchangeBind), (spec.Exchange.Unbind, m.ExchangeUnbind))
    ),
    (
        spec.Queue.Declare,
        m.QueueDeclare,
        {
            "queue": ("", TEXTS),
            "passive": ("", BITS),
            "durable": ("", BITS),
            "exclusive": ("", BITS),
            "auto_delete": ("", BITS),
            "no_wait": ("nowait", BITS),
            "arguments": ("", TABLES),
        },
    ),
    (
        spec.Queue.Bind,
        m.QueueBind,
        {
            "queue": ("", TEXTS),
            "exchange": ("", TEXTS),
            "routing_key": ("", TEXTS),
            "no_wait": ("nowait", BITS),
            "arguments": ("", TABLES),
        },
    ),
    (
        spec.Queue.Unbind,
        m.QueueUnbind,
        {"queue": ("", TEXTS), "exchange": ("", TEXTS), "routing_key": ("", TEXTS), "arguments": ("", TABLES)},
    ),
    (spec.Queue.Purge, m.QueuePurge, {"queue": ("", TEXTS), "no_wait": ("nowait", BITS)}),
    (
        spec.Queue.Delete,
        m.QueueDelete,
        {"queue": ("", TEXTS), "if_unused": ("", BITS), "if_empty": ("", BITS), "no_wait": ("nowait", BITS)},
    ),
    (spec.Basic.Qos, m.Qos, {"prefetch_size": ("", LONGS), "prefetch_count": ("", SHORTS), "global_": ("global_qos", BITS)}),
    (
        spec.Basic.Consume,
        m.Consume,
        {
            "queue": ("", TEXTS),
            "consumer_tag": ("", TEXTS),
            "no_local": ("", BITS),
            "no_ack": ("", BITS),
            "exclusive": ("", BITS),
            "no_wait": ("nowait", BITS),
            "arguments": ("", TABLES),
        },
    ),
    (spec.Basic.Cancel, m.Cancel, {"consumer_tag": ("", TEXTS), "no_wait": ("nowait", BITS)}),
    (spec.Basic.CancelOk, m.CancelOk, {"consumer_tag": ("", TEXTS)}),
    (spec.Basic.Get, m.Get, {"queue": ("", TEXTS), "no_ack": ("", BITS)}),
    (spec.Basic.RecoverAsync, m.RecoverAsync, {"requeue": ("", BITS)}),
    (spec.Basic.Recover, m.Recover, {"requeue": ("", BITS)}),
    (spec.Confirm.Select, m.ConfirmSelect, {"no_wait": ("nowait", BITS)}),
    (spec.Tx.Select, m.TxSelect, {}),
    (spec.Tx.Commit, m.TxCommit, {}),
    (spec.Tx.Rollback, m.TxRollback, {}),
]

#: What the broker sends: ours, pika's, and the fields of ours with what pika calls them.
SENT: list[tuple[m.Method, Any, dict[str, str]]] = [
    (m.Tune(2047, 131072, 60), spec.Connection.Tune, {"channel_max": "", "frame_max": "", "heartbeat": ""}),
    (m.OpenOk(), spec.Connection.OpenOk, {}),
    (m.Close(320, "g\u00f6", 10, 40), spec.Connection.Close, {"code": "reply_code", "text": "reply_text", "class_id": "", "method_id": ""}),
    (m.CloseOk(), spec.Connection.CloseOk, {}),
    (m.Blocked("low on memory"), spec.Connection.Blocked, {"reason": ""}),
    (m.Unblocked(), spec.Connection.Unblocked, {}),
    (m.UpdateSecretOk(), spec.Connection.UpdateSecretOk, {}),
    (m.ChannelOpenOk(), spec.Channel.OpenOk, {}),
    (m.FlowOk(True), spec.Channel.FlowOk, {"active": ""}),
    (m.ChannelClose(404, "no", 50, 10), spec.Channel.Close, {"code": "reply_code", "text": "reply_text", "class_id": "", "method_id": ""}),
    (m.ChannelCloseOk(), spec.Channel.CloseOk, {}),
    (m.AccessRequestOk(1), spec.Access.RequestOk, {"ticket": ""}),
    (m.QueueDeclareOk("q", 7, 2), spec.Queue.DeclareOk, {"queue": "", "messages": "message_count", "consumers": "consumer_count"}),
    (m.QueuePurgeOk(7), spec.Queue.PurgeOk, {"messages": "message_count"}),
    (m.QueueDeleteOk(7), spec.Queue.DeleteOk, {"messages": "message_count"}),
    (m.ConsumeOk("c"), spec.Basic.ConsumeOk, {"consumer_tag": ""}),
    (m.Cancel("c", True), spec.Basic.Cancel, {"consumer_tag": "", "no_wait": "nowait"}),
    (m.CancelOk("c"), spec.Basic.CancelOk, {"consumer_tag": ""}),
    (m.GetEmpty(), spec.Basic.GetEmpty, {}),
]


@given(st.sampled_from(RECEIVED), st.data())
def test_what_pika_sends_is_read_as_it_was_meant(
    case: tuple[Any, type[m.Method], dict[str, tuple[str, st.SearchStrategy[Any]]]], data: st.DataObject
) -> None:
    theirs, ours, fields = case
    values = {name: data.draw(strategy, label=name) for name, (_, strategy) in fields.items()}

    sent = theirs(**{alias or name: values[name] for name, (alias, _) in fields.items()})

    assert codec.decode(*of_pika(sent)) == ours(**values)


@pytest.mark.parametrize(("method", "theirs", "fields"), SENT, ids=lambda value: type(value).__name__ if isinstance(value, tuple) else "")
def test_pika_reads_what_is_sent_as_it_was_meant(method: m.Method, theirs: Any, fields: dict[str, str]) -> None:
    channel, read = read_by_pika(codec.encode(7, method))

    assert channel == 7
    assert type(read) is theirs
    assert {name: getattr(read, alias or name) for name, alias in fields.items()} == {name: getattr(method, name) for name in fields}


def test_pika_reads_how_the_broker_introduces_itself() -> None:
    properties = {"product": "hopd", "capabilities": {"basic.nack": True}}

    _, read = read_by_pika(codec.encode(0, m.Start(0, 9, properties, b"PLAIN", b"en_US")))

    assert (read.version_major, read.version_minor, read.server_properties) == (0, 9, properties)
    assert (read.mechanisms, read.locales) == (b"PLAIN", b"en_US")


@pytest.mark.parametrize(
    ("class_id", "method_id", "theirs"),
    [
        (40, 11, spec.Exchange.DeclareOk),
        (40, 21, spec.Exchange.DeleteOk),
        (40, 31, spec.Exchange.BindOk),
        (40, 51, spec.Exchange.UnbindOk),
        (50, 21, spec.Queue.BindOk),
        (50, 51, spec.Queue.UnbindOk),
        (60, 11, spec.Basic.QosOk),
        (60, 111, spec.Basic.RecoverOk),
        (85, 11, spec.Confirm.SelectOk),
    ],
)
def test_a_bare_ok_is_read_by_pika(class_id: int, method_id: int, theirs: Any) -> None:
    channel, read = read_by_pika(codec.ok(3, class_id, method_id))

    assert (channel, type(read)) == (3, theirs)


def test_a_logins_response_stays_the_bytes_it_is() -> None:
    sent = spec.Connection.StartOk({"connection_name": "me"}, "PLAIN", b"\0guest\0gu\xffest", "en_US")

    read = codec.decode(*of_pika(sent))

    assert read == m.StartOk({"connection_name": "me"}, "PLAIN", b"\0guest\0gu\xffest", "en_US")


def test_a_new_secret_is_read() -> None:
    assert codec.decode(10, 70, b"\0\0\0\x03new\x01r") == m.UpdateSecret(b"new", "r")


# --- what is no method ----------------------------------------------------------------------------


@given(
    st.sampled_from([(class_id, number) for class_id in (10, 20, 30, 40, 50, 60, 85, 90) for number in range(130)]), st.binary(max_size=40)
)
def test_garbage_is_read_or_refused_as_a_connection_error(which: tuple[int, int], arguments: bytes) -> None:
    refusal: Refused | None = None
    try:
        codec.decode(*which, arguments)
    except Refused as refused:
        refusal = refused

    assert refusal is None or refusal.hard


def test_a_method_that_nobody_knows_is_not_implemented() -> None:
    with pytest.raises(Refused) as caught:
        codec.decode(60, 255, b"")

    assert caught.value.code == Code.NOT_IMPLEMENTED
    assert (caught.value.class_id, caught.value.method_id) == (60, 255)


@pytest.mark.parametrize(
    ("why", "arguments"),
    [
        ("longer than its layout", b"\0\0\x01x\0\0\0\0\0x"),
        ("a table that is cut", b"\0\0\x01x\0\0\0"),
        ("a name that is cut", b"\0\0\x05x"),
        ("a field type nobody knows", b"\0\0\x01x\0\0\0\0\x04\x01aZ\0"),
        ("nothing", b""),
        ("a name that is no UTF-8", b"\0\0\x02\xff\xfe\0\0\0\0\0"),
    ],
)
def test_arguments_that_are_not_in_their_layout_are_a_frame_error(why: str, arguments: bytes) -> None:
    with pytest.raises(Refused) as caught:
        codec.decode(50, 10, arguments)

    assert caught.value.code == Code.FRAME_ERROR


def test_a_table_with_a_time_in_milliseconds_is_read() -> None:
    table = b"\0\0\0\x0b\x01aT" + (2**64 - 1).to_bytes(8, "big")

    declared = codec.decode(50, 10, b"\0\0\x01x\0" + table)

    assert isinstance(declared, m.QueueDeclare)
    assert declared.arguments == {"a": 2**64 - 1}
