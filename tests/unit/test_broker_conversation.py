"""What a client does on a channel, without a socket: declaring, publishing, consuming, settling. Texts and codes are RabbitMQ 3.10's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pika import spec

from hopd.broker.inbound import MAX_BODY
from hopd.broker.model import CloseChannel, Limits, Op, PutMessage, Stored
from hopd.broker.refusal import Code, Refused
from tests.support.talk import CAPABILITIES, Heard, Talk, connected, message, method, named, new_desk, only

PERSISTENT = spec.BasicProperties(delivery_mode=2)


class FakeStore:
    """A store that keeps everything in memory and commits when it is told."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Op]] = []

    def submit(self, ops: Sequence[Op]) -> int:
        self.batches.append(ops)
        return len(self.batches)

    def read(self, queue: str, ids: Sequence[int]) -> list[tuple[int, Stored | None]]:
        puts = {op.id: op for ops in self.batches for op in ops if isinstance(op, PutMessage)}
        return [(id_, Stored(puts[id_].message, None, 0) if id_ in puts else None) for id_ in ids]


def bodies(said: list[Heard]) -> list[bytes | None]:
    return [each.body for each in said if type(each.method) in (spec.Basic.Deliver, spec.Basic.GetOk)]


def with_queue(talk: Talk, *jobs: bytes, name: str = "q", **declare: Any) -> Talk:
    talk.say(method(1, spec.Queue.Declare(queue=name, **declare)), *(message(1, job, routing_key=name) for job in jobs))
    return talk


# --- declaring ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (spec.Exchange.Declare(exchange="e"), spec.Exchange.DeclareOk),
        (spec.Exchange.Delete(exchange="e"), spec.Exchange.DeleteOk),
        (spec.Exchange.Bind(destination="amq.fanout", source="amq.direct", routing_key="k"), spec.Exchange.BindOk),
        (spec.Exchange.Unbind(destination="amq.fanout", source="amq.direct", routing_key="k"), spec.Exchange.UnbindOk),
        (spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk),
        (spec.Queue.Bind(queue="q", exchange="amq.direct", routing_key="k"), spec.Queue.BindOk),
        (spec.Queue.Unbind(queue="q", exchange="amq.direct", routing_key="k"), spec.Queue.UnbindOk),
        (spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk),
        (spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk),
        (spec.Basic.Qos(prefetch_count=10), spec.Basic.QosOk),
        (spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk),
        (spec.Basic.Cancel("nobody"), spec.Basic.CancelOk),
        (spec.Basic.Recover(True), spec.Basic.RecoverOk),
        (spec.Confirm.Select(), spec.Confirm.SelectOk),
        (spec.Channel.Flow(True), spec.Channel.FlowOk),
        (spec.Access.Request(), spec.Access.RequestOk),
    ],
    ids=lambda value: getattr(value, "NAME", ""),
)
def test_every_method_has_its_answer(question: Any, answer: Any) -> None:
    talk = with_queue(connected())

    assert type(talk.ask(1, question)) is answer


@pytest.mark.parametrize(
    "question",
    [
        spec.Exchange.Declare(exchange="e", nowait=True),
        spec.Exchange.Delete(exchange="e", nowait=True),
        spec.Exchange.Bind(destination="amq.fanout", source="amq.direct", nowait=True),
        spec.Exchange.Unbind(destination="amq.fanout", source="amq.direct", nowait=True),
        spec.Queue.Declare(queue="q", nowait=True),
        spec.Queue.Bind(queue="q", exchange="amq.direct", nowait=True),
        spec.Queue.Purge(queue="q", nowait=True),
        spec.Queue.Delete(queue="q", nowait=True),
        spec.Basic.Consume(queue="q", consumer_tag="c", nowait=True),
        spec.Basic.Cancel("c", nowait=True),
        spec.Basic.RecoverAsync(True),
        spec.Basic.CancelOk("c"),
        spec.Confirm.Select(nowait=True),
    ],
    ids=lambda value: getattr(value, "NAME", ""),
)
def test_who_wants_no_answer_gets_none(question: Any) -> None:
    assert with_queue(connected()).say(method(1, question)) == []


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (spec.Basic.Qos(prefetch_size=5), "NOT_IMPLEMENTED - prefetch_size!=0 (5)"),
        (spec.Basic.Consume(queue="q", no_local=True), "NOT_IMPLEMENTED - no_local=true"),
        (spec.Channel.Flow(False), "NOT_IMPLEMENTED - active=false"),
        (spec.Basic.Recover(False), "NOT_IMPLEMENTED - requeue=false"),
        (spec.Tx.Select(), "NOT_IMPLEMENTED - transactions: use publisher confirms (confirm.select)"),
        (spec.Tx.Commit(), "NOT_IMPLEMENTED - transactions: use publisher confirms (confirm.select)"),
    ],
    ids=lambda value: getattr(value, "NAME", ""),
)
def test_what_there_is_not_is_said_and_not_ignored(question: Any, text: str) -> None:
    (said,) = with_queue(connected()).say(method(1, question))

    assert (said.channel, said.method.reply_code, said.method.reply_text) == (0, Code.NOT_IMPLEMENTED, text)


def test_a_queue_without_a_name_is_given_one_and_is_the_one_that_is_meant_from_then_on() -> None:
    talk = connected()

    declared = talk.ask(1, spec.Queue.Declare(exclusive=True))
    talk.say(method(1, spec.Queue.Bind(exchange="amq.direct", routing_key="")))
    talk.say(message(1, b"job", exchange="amq.direct", routing_key=declared.queue))

    assert declared.queue.startswith("amq.gen-")
    assert bodies(talk.say(method(1, spec.Basic.Get(no_ack=True)))) == [b"job"]
    assert talk.ask(1, spec.Queue.Purge()).message_count == 0
    assert type(talk.ask(1, spec.Basic.Consume())) is spec.Basic.ConsumeOk
    assert type(talk.ask(1, spec.Queue.Unbind(exchange="amq.direct", routing_key=""))) is spec.Queue.UnbindOk
    assert named(talk.say(method(1, spec.Queue.Delete()))) == [(1, "Queue.DeleteOk"), (1, "Basic.Cancel")]


@pytest.mark.parametrize(
    "question",
    [spec.Basic.Get(), spec.Basic.Consume(), spec.Queue.Purge(), spec.Queue.Delete(), spec.Queue.Bind(exchange="amq.direct")],
    ids=lambda value: getattr(value, "NAME", ""),
)
def test_the_queue_last_declared_is_nobodys_where_none_was(question: Any) -> None:
    talk = with_queue(connected(None, 1, 2))

    (said,) = talk.say(method(2, question))

    assert said.method.reply_text == "NOT_FOUND - no previously declared queue"


def test_a_purge_and_a_deletion_tell_how_much_there_was() -> None:
    talk = with_queue(connected(), b"1", b"2")

    assert talk.ask(1, spec.Queue.Purge(queue="q")).message_count == 2
    talk.say(message(1, b"3", routing_key="q"))
    assert talk.ask(1, spec.Queue.Declare(queue="q", passive=True)).message_count == 1
    assert talk.ask(1, spec.Queue.Delete(queue="q")).message_count == 1


# --- consuming ------------------------------------------------------------------------------------


def test_a_consumer_hears_that_it_is_one_before_its_first_message() -> None:
    talk = with_queue(connected(), b"1", b"2")

    said = talk.say(method(1, spec.Basic.Consume(queue="q", consumer_tag="c")))

    assert named(said) == [(1, "Basic.ConsumeOk"), (1, "Basic.Deliver"), (1, "Basic.Deliver")]
    assert bodies(said) == [b"1", b"2"]
    assert [each.consumer_tag for each in only(said, spec.Basic.Deliver)] == ["c", "c"]


def test_a_consumer_hears_nothing_after_it_is_cancelled() -> None:
    talk = with_queue(connected())
    talk.say(method(1, spec.Basic.Consume(queue="q", consumer_tag="c")))

    said = talk.say(message(1, b"before", routing_key="q"), method(1, spec.Basic.Cancel("c")), message(1, b"after", routing_key="q"))

    assert named(said) == [(1, "Basic.Deliver"), (1, "Basic.CancelOk")]
    assert bodies(said) == [b"before"]


def test_a_get_takes_one_and_tells_how_many_are_left() -> None:
    talk = with_queue(connected(), b"1", b"2")

    (got,) = talk.say(method(1, spec.Basic.Get(queue="q")))

    assert (got.body, got.method.message_count, got.method.delivery_tag) == (b"1", 1, 1)


def test_a_get_from_an_empty_queue_gets_nothing() -> None:
    assert type(with_queue(connected()).ask(1, spec.Basic.Get(queue="q"))) is spec.Basic.GetEmpty


def test_a_get_finds_what_is_on_disk_alone() -> None:
    desk = new_desk(FakeStore(), limits=Limits(page_messages=2))
    talk = with_queue(connected(desk), durable=True)
    talk.say(*(message(1, bytes([number]), routing_key="q", properties=PERSISTENT) for number in range(50)))

    said = talk.say(*(method(1, spec.Basic.Get(queue="q", no_ack=True)) for _ in range(51)))

    assert bodies(said) == [bytes([number]) for number in range(50)]
    assert type(said[-1].method) is spec.Basic.GetEmpty


def test_a_consumer_gets_what_is_on_disk_alone() -> None:
    desk = new_desk(FakeStore(), limits=Limits(page_messages=2))
    talk = with_queue(connected(desk), durable=True)
    talk.say(*(message(1, bytes([number]), routing_key="q", properties=PERSISTENT) for number in range(50)))

    said = talk.say(method(1, spec.Basic.Consume(queue="q", no_ack=True)))

    assert bodies(said) == [bytes([number]) for number in range(50)]


@pytest.mark.parametrize(
    ("settle", "left"),
    [
        (spec.Basic.Ack(1), []),
        (spec.Basic.Ack(2, True), []),
        (spec.Basic.Ack(0, True), []),
        (spec.Basic.Reject(1, False), []),
        (spec.Basic.Reject(1, True), [b"1"]),
        (spec.Basic.Nack(1, False, True), [b"1"]),
        (spec.Basic.Nack(2, True, True), [b"1", b"2"]),
        (spec.Basic.Nack(2, True, False), []),
    ],
    ids=str,
)
def test_what_is_settled_is_gone_or_comes_again(settle: Any, left: list[bytes]) -> None:
    talk = with_queue(connected(), b"1", b"2")
    talk.say(method(1, spec.Basic.Get(queue="q")), method(1, spec.Basic.Get(queue="q")))

    said = talk.say(method(1, settle), method(1, spec.Basic.Get(queue="q")), method(1, spec.Basic.Get(queue="q")))

    assert bodies(said) == left
    assert all(each.redelivered for each in only(said, spec.Basic.GetOk))


def test_a_delivery_nobody_knows_closes_the_channel_with_the_method_named() -> None:
    for settle, number in ((spec.Basic.Ack(5), 80), (spec.Basic.Reject(5), 90), (spec.Basic.Nack(5), 120)):
        (said,) = connected().say(method(1, settle))

        assert said.method.reply_text == "PRECONDITION_FAILED - unknown delivery tag 5"
        assert (said.method.class_id, said.method.method_id) == (60, number)


def test_deliveries_come_before_the_end_of_their_channel() -> None:
    talk = with_queue(connected())
    talk.say(method(1, spec.Basic.Consume(queue="q")))

    said = talk.say(message(1, b"job", routing_key="q"), method(1, spec.Basic.Ack(9)))

    assert named(said) == [(1, "Basic.Deliver"), (1, "Channel.Close")]


@pytest.mark.parametrize(("properties", "told"), [(CAPABILITIES, True), ({}, False)])
def test_who_can_hear_it_is_told_that_its_queue_is_gone(properties: dict[str, Any], told: bool) -> None:
    talk = with_queue(connected(None, 1, 2, properties=properties))
    talk.say(method(1, spec.Basic.Consume(queue="q", consumer_tag="c")))

    said = talk.say(method(2, spec.Queue.Delete(queue="q")))

    assert [each.consumer_tag for each in only(said, spec.Basic.Cancel)] == (["c"] if told else [])


def test_a_client_that_keeps_a_delivery_too_long_loses_its_channel() -> None:
    talk = with_queue(connected(new_desk(limits=Limits(consumer_timeout=10.0))), b"job")
    talk.say(method(1, spec.Basic.Consume(queue="q")))

    talk.desk.now += 11.0
    talk.desk.state.tick(talk.desk.now)

    (close,) = talk.listen()
    assert close.method.reply_code == Code.PRECONDITION_FAILED
    assert type(talk.say(method(1, spec.Channel.CloseOk()), method(1, spec.Channel.Open()))[0].method) is spec.Channel.OpenOk


def test_a_channel_that_is_closed_twice_is_told_once() -> None:
    talk = connected()
    channel = talk.session._conversations[1]._channel
    talk.say(method(1, spec.Basic.Ack(5)))

    talk.session.tell(CloseChannel(channel, Refused(Code.PRECONDITION_FAILED, "too late")))

    assert talk.listen() == []


# --- publishing -----------------------------------------------------------------------------------


def test_a_mandatory_message_that_reaches_nobody_comes_back_before_it_is_confirmed() -> None:
    talk = connected()
    talk.ask(1, spec.Confirm.Select())

    said = talk.say(message(1, b"job", routing_key="nope", mandatory=True))

    assert named(said) == [(1, "Basic.Return"), (1, "Basic.Ack")]
    assert (said[0].method.reply_code, said[0].method.reply_text, said[0].method.routing_key, said[0].body) == (
        312,
        "NO_ROUTE",
        "nope",
        b"job",
    )


def test_a_message_for_now_or_never_is_not_implemented() -> None:
    (said,) = connected().say(message(1, immediate=True))

    assert (said.channel, said.method.reply_text) == (0, "NOT_IMPLEMENTED - immediate=true")


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        (spec.BasicProperties(user_id="bob"), "user_id property set to 'bob' but authenticated user was 'guest'"),
        (spec.BasicProperties(expiration="soon"), "invalid expiration 'soon': no_integer"),
    ],
)
def test_properties_that_are_not_true_close_the_channel(properties: spec.BasicProperties, text: str) -> None:
    (said,) = connected().say(message(1, properties=properties))

    assert (said.channel, said.method.reply_text) == (1, f"PRECONDITION_FAILED - {text}")
    assert (said.method.class_id, said.method.method_id) == (60, 40)


def test_ones_own_name_may_be_given() -> None:
    talk = with_queue(connected())

    assert talk.say(message(1, routing_key="q", properties=spec.BasicProperties(user_id="guest"))) == []


def test_a_message_that_is_too_large_closes_the_channel_before_it_has_come() -> None:
    head = message(1, b"x", routing_key="q")
    announced = head.replace((1).to_bytes(8, "big"), (MAX_BODY + 1).to_bytes(8, "big"))

    (said,) = with_queue(connected()).say(announced)

    assert said.method.reply_text == f"PRECONDITION_FAILED - message size {MAX_BODY + 1} is larger than configured max size {MAX_BODY}"


def test_to_an_exchange_that_is_not_there_nothing_can_be_published() -> None:
    (said,) = connected().say(message(1, exchange="nope"))

    assert said.method.reply_text == "NOT_FOUND - no exchange 'nope' in vhost '/'"


# --- confirming -----------------------------------------------------------------------------------


def told(said: list[Heard]) -> list[tuple[str, int, bool]]:
    return [
        (each.method.NAME, each.method.delivery_tag, each.method.multiple) for each in said if each.method.NAME.endswith(("Ack", "Nack"))
    ]


def test_what_was_published_in_one_go_is_confirmed_in_one() -> None:
    talk = with_queue(connected())
    talk.ask(1, spec.Confirm.Select())

    assert told(talk.say(*[message(1, routing_key="q")] * 3)) == [("Basic.Ack", 3, True)]
    assert told(talk.say(message(1, routing_key="q"))) == [("Basic.Ack", 4, False)]


def test_nothing_is_confirmed_that_was_published_before_it_was_asked_for() -> None:
    talk = with_queue(connected(), b"1")

    assert told(talk.say(method(1, spec.Confirm.Select()), message(1, routing_key="q"))) == [("Basic.Ack", 1, False)]


def test_asking_for_confirms_twice_changes_nothing() -> None:
    talk = with_queue(connected())
    talk.say(method(1, spec.Confirm.Select()), message(1, routing_key="q"), method(1, spec.Confirm.Select()))

    assert told(talk.say(message(1, routing_key="q"))) == [("Basic.Ack", 2, False)]


def test_a_message_that_its_queue_refuses_is_not_confirmed() -> None:
    talk = with_queue(connected(), arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    talk.ask(1, spec.Confirm.Select())

    said = talk.say(*[message(1, routing_key="q")] * 3)

    assert told(said) == [("Basic.Ack", 1, False), ("Basic.Nack", 3, True)]


def test_a_durable_message_is_confirmed_when_it_is_on_disk_and_not_before() -> None:
    desk = new_desk(FakeStore())
    talk = with_queue(connected(desk), durable=True)
    talk.ask(1, spec.Confirm.Select())
    desk.written(desk.batch)

    assert talk.say(message(1, routing_key="q", properties=PERSISTENT)) == []
    assert list(desk.waiting) == [talk.session]
    first = desk.batch
    assert talk.say(message(1, routing_key="q", properties=PERSISTENT), message(1, routing_key="q")) == []

    desk.written(first)
    assert told(talk.listen()) == [("Basic.Ack", 1, False)]
    desk.written(desk.batch)
    assert told(talk.listen()) == [("Basic.Ack", 3, True)]
    assert list(desk.waiting) == []


def test_what_can_be_confirmed_is_when_the_broker_closes_the_connection() -> None:
    talk = with_queue(connected())
    talk.ask(1, spec.Confirm.Select())
    talk.session.receive(message(1, routing_key="q"))

    talk.session.close(Refused(Code.CONNECTION_FORCED, "shutdown"))

    assert named(talk.listen()) == [(1, "Basic.Ack"), (0, "Connection.Close")]


def test_how_much_the_store_has_yet_to_write_is_known() -> None:
    desk = new_desk(FakeStore())
    talk = with_queue(connected(desk), durable=True)

    talk.say(message(1, bytes(1000), routing_key="q", properties=PERSISTENT))
    assert desk.uncommitted > 1000

    desk.written(desk.batch)
    assert desk.uncommitted == 0
