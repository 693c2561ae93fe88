"""One client and the broker, without a socket: how it comes in, what it is refused for, how it leaves. The codes are RabbitMQ 3.10's."""

from __future__ import annotations

import logging
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec

from hopd.amqp import frames
from hopd.amqp.table import encode_table
from hopd.broker.refusal import Code, Refused
from hopd.broker.session import Phase
from tests.support.talk import Talk, connected, heard, message, method, named, new_desk, only


def ended_with(talk: Talk, code: Code, *sent: bytes) -> Any:
    """The connection.close that the broker answers with; it is the last thing it says."""
    *_, last = talk.say(*sent)
    assert isinstance(last.method, spec.Connection.Close)
    assert last.method.reply_code == code
    assert talk.session.phase is Phase.CLOSING
    return last.method


def refused_with(talk: Talk, code: Code, *sent: bytes) -> Any:
    """The channel.close that the broker answers with; it is the last thing it says."""
    *_, last = talk.say(*sent)
    assert isinstance(last.method, spec.Channel.Close)
    assert last.method.reply_code == code
    assert talk.session.phase is Phase.OPEN
    return last.method


# --- coming in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 8], ids=["whole", "byte by byte"])
def test_a_client_is_told_whose_behaviour_it_can_expect(pieces: int) -> None:
    talk = Talk()
    header = b"AMQP\0\0\x09\x01"

    said = [one for at in range(0, 8, 8 // pieces) for one in talk.say(header[at : at + 8 // pieces])]

    (start,) = only(said, spec.Connection.Start)
    assert start.server_properties["product"] == "hopd"
    assert start.server_properties["version"] >= "3.10"
    assert start.server_properties["capabilities"]["publisher_confirms"] is True
    assert {b"PLAIN", b"AMQPLAIN"} == set(start.mechanisms.split())


@pytest.mark.parametrize("greeting", [b"AMQP\0\0\x09\x00", b"AMQP\x03\x01\x00\x00", b"GET / HTTP/1.1\r\n\r\n"])
def test_who_speaks_another_protocol_is_told_ours_and_left(greeting: bytes) -> None:
    talk = Talk()

    talk.session.receive(greeting)

    assert talk.raw() == b"AMQP\0\0\x09\x01"
    assert talk.over


def test_the_limits_are_rabbitmqs() -> None:
    tune = Talk().greet().ask(0, spec.Connection.StartOk({}, "PLAIN", b"\0guest\0guest", "en_US"))

    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131_072, 60)


def test_a_login_in_a_table_is_taken() -> None:
    response = encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]

    assert Talk().greet().log_in(mechanism="AMQPLAIN", response=response).tune().open(1)


@pytest.mark.parametrize("response", [b"\0guest\0wrong", b"\0nobody\0guest", b"\0guest\0", b"\0\xff\xfe\0guest"])
def test_a_wrong_password_is_refused_and_said_to_who_can_hear_it(response: bytes, caplog: pytest.LogCaptureFixture) -> None:
    talk = Talk().greet()
    properties = {"capabilities": {"authentication_failure_close": True}}

    (close,) = talk.say(method(0, spec.Connection.StartOk(properties, "PLAIN", response, "en_US")))

    assert close.method.reply_code == Code.ACCESS_REFUSED
    assert "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN" in close.method.reply_text
    assert talk.over
    assert [vars(record)["event"] for record in caplog.records] == ["login_refused"]
    assert "wrong" not in caplog.text


def test_a_wrong_password_just_ends_the_connection_of_who_cannot_hear_it() -> None:
    talk = Talk().greet()

    assert talk.say(method(0, spec.Connection.StartOk({}, "PLAIN", b"\0guest\0wrong", "en_US"))) == []
    assert talk.over


@pytest.mark.parametrize(
    ("mechanism", "response", "code"),
    [
        ("EXTERNAL", b"", Code.COMMAND_INVALID),
        ("PLAIN", b"guest", Code.SYNTAX_ERROR),
        ("PLAIN", b"x\0guest\0guest", Code.SYNTAX_ERROR),
        ("AMQPLAIN", b"guest", Code.SYNTAX_ERROR),
        ("AMQPLAIN", b"", Code.SYNTAX_ERROR),
    ],
)
def test_a_login_that_makes_no_sense_is_refused(mechanism: str, response: bytes, code: Code) -> None:
    ended_with(Talk().greet(), code, method(0, spec.Connection.StartOk({}, mechanism, response, "en_US")))


@pytest.mark.parametrize("limits", [(0, 131_072, 60), (2048, 131_072, 60), (2047, 262_144, 60), (2047, 100, 60), (2047, 0, 60)])
def test_limits_beyond_the_brokers_are_refused(limits: tuple[int, int, int]) -> None:
    ended_with(Talk().greet().log_in(), Code.NOT_ALLOWED, method(0, spec.Connection.TuneOk(*limits)))


def test_there_is_one_virtual_host() -> None:
    close = ended_with(Talk().greet().log_in().tune(), Code.NOT_ALLOWED, method(0, spec.Connection.Open("/nope")))

    assert close.reply_text == "NOT_ALLOWED - vhost /nope not found"
    assert (close.class_id, close.method_id) == (10, 40)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (method(0, spec.Connection.Open("/")), Code.CHANNEL_ERROR),
        (method(1, spec.Channel.Open()), Code.UNEXPECTED_FRAME),
        (message(1), Code.UNEXPECTED_FRAME),
        (method(1, spec.Basic.Ack(1)), Code.UNEXPECTED_FRAME),
        (method(1, spec.Queue.Declare(queue="q")), Code.UNEXPECTED_FRAME),
        (method(0, spec.Queue.Declare(queue="q")), Code.CHANNEL_ERROR),
    ],
    ids=["open", "channel.open", "publish", "ack", "declare", "declare on channel 0"],
)
def test_nothing_is_done_for_who_is_not_in_yet(sent: bytes, code: Code) -> None:
    talk = Talk().greet()

    ended_with(talk, code, sent)

    assert talk.desk.state.queues() == []


# --- channels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        method(7, spec.Queue.Declare(queue="x")),
        method(7, spec.Channel.Close(200, "bye", 0, 0)),
        method(7, spec.Channel.CloseOk()),
        method(7, spec.Basic.Ack(1)),
        message(7),
    ],
    ids=["declare", "close", "close-ok", "ack", "publish"],
)
def test_a_channel_that_is_not_open_ends_the_connection(sent: bytes) -> None:
    close = ended_with(connected(), Code.CHANNEL_ERROR, sent)

    assert close.reply_text == "CHANNEL_ERROR - expected 'channel.open'"
    assert close.class_id == struct.unpack(">H", sent[7:9])[0]


def test_a_channel_opened_twice_ends_the_connection() -> None:
    close = ended_with(connected(), Code.CHANNEL_ERROR, method(1, spec.Channel.Open()))

    assert close.reply_text == "CHANNEL_ERROR - second 'channel.open' seen"


def test_more_channels_than_agreed_end_the_connection() -> None:
    talk = Talk().greet().log_in().tune(channel_max=2).open(1, 7)

    close = ended_with(talk, Code.NOT_ALLOWED, method(2, spec.Channel.Open()))

    assert close.reply_text == "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"


def test_a_closed_channel_makes_room_for_another() -> None:
    talk = Talk().greet().log_in().tune(channel_max=1).open(1)

    assert isinstance(talk.ask(1, spec.Channel.Close(200, "bye", 0, 0)), spec.Channel.CloseOk)
    assert isinstance(talk.ask(2, spec.Channel.Open()), spec.Channel.OpenOk)


@pytest.mark.parametrize("value", [spec.Connection.Open("/"), spec.Connection.StartOk({}, "PLAIN", b"", ""), spec.Channel.FlowOk(True)])
def test_what_is_no_channels_business_ends_the_connection(value: Any) -> None:
    close = ended_with(connected(), Code.COMMAND_INVALID, method(1, value))

    assert close.reply_text == "COMMAND_INVALID - unimplemented method"


@pytest.mark.parametrize("value", [spec.Connection.Open("/"), spec.Queue.Declare(queue="x"), spec.Connection.TuneOk(1, 4096, 0)])
def test_what_the_connection_does_not_do_ends_it(value: Any) -> None:
    ended_with(connected(), Code.CHANNEL_ERROR, method(0, value))


def test_a_channel_error_closes_that_channel_alone() -> None:
    talk = connected(None, 1, 2)

    close = refused_with(talk, Code.NOT_FOUND, method(1, spec.Queue.Declare(queue="nope", passive=True)))

    assert close.reply_text == "NOT_FOUND - no queue 'nope' in vhost '/'"

    assert (close.class_id, close.method_id) == (50, 10)
    assert isinstance(talk.ask(2, spec.Queue.Declare(queue="q")), spec.Queue.DeclareOk)


def test_a_refusal_is_logged_but_that_something_is_not_there_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hopd.broker")
    talk = connected(None, 1, 2)

    refused_with(talk, Code.NOT_FOUND, method(1, spec.Queue.Declare(queue="nope", passive=True)))
    refused_with(talk, Code.PRECONDITION_FAILED, method(2, spec.Basic.Ack(7)))

    refusals = [record for record in caplog.records if vars(record).get("event") == "channel_refused"]
    assert [(record.levelno, vars(record)["code"]) for record in refusals] == [(logging.DEBUG, 404), (logging.INFO, 406)]


def test_what_was_on_its_way_to_a_closed_channel_is_dropped_until_its_client_knows() -> None:
    talk = connected()
    refused_with(talk, Code.PRECONDITION_FAILED, method(1, spec.Basic.Ack(5)))

    assert talk.say(method(1, spec.Queue.Declare(queue="q")), message(1, mandatory=True), method(1, spec.Basic.Ack(5))) == []
    assert talk.say(method(1, spec.Channel.CloseOk())) == []
    assert talk.desk.state.queues() == []
    assert isinstance(talk.ask(1, spec.Channel.Open()), spec.Channel.OpenOk)


def test_a_client_may_close_a_channel_that_the_broker_is_closing() -> None:
    talk = connected()
    refused_with(talk, Code.PRECONDITION_FAILED, method(1, spec.Basic.Ack(5)))

    said = talk.say(method(1, spec.Channel.Close(200, "bye", 0, 0)), method(1, spec.Channel.CloseOk()), method(1, spec.Channel.Open()))

    assert named(said) == [(1, "Channel.CloseOk"), (1, "Channel.OpenOk")]


def test_what_a_closed_channel_had_goes_to_another() -> None:
    talk = connected(None, 1, 2)
    talk.say(method(1, spec.Queue.Declare(queue="q")), message(1, b"job", routing_key="q"))
    (_, first) = talk.say(method(1, spec.Basic.Consume(queue="q", consumer_tag="a")))
    assert first.body == b"job"
    talk.say(method(2, spec.Basic.Consume(queue="q", consumer_tag="b")))

    said = talk.say(method(1, spec.Channel.Close(200, "bye", 0, 0)))

    assert named(said) == [(1, "Channel.CloseOk"), (2, "Basic.Deliver")]
    assert said[1].method.redelivered


# --- leaving --------------------------------------------------------------------------------------


def test_a_client_that_says_goodbye_is_answered() -> None:
    talk = connected()

    assert named(talk.say(method(0, spec.Connection.Close(200, "bye", 0, 0)), method(1, spec.Queue.Declare(queue="q")))) == [
        (0, "Connection.CloseOk")
    ]
    assert talk.over
    assert talk.desk.state.queues() == []


def test_what_was_on_its_way_when_the_broker_closed_is_passed_over() -> None:
    talk = connected()
    talk.session.close(Refused(Code.CONNECTION_FORCED, "broker forced connection closure with reason 'shutdown'"))
    (close,) = talk.listen()
    assert close.method.reply_code == Code.CONNECTION_FORCED

    assert (
        talk.say(method(1, spec.Queue.Declare(queue="q")), message(1), method(1, spec.Basic.Ack(1)), method(2, spec.Channel.Open())) == []
    )
    assert talk.session.phase is Phase.CLOSING
    assert talk.say(method(0, spec.Connection.CloseOk())) == []
    assert talk.over
    assert talk.desk.state.queues() == []


def test_nothing_is_said_of_a_channel_once_its_connection_is_closed() -> None:
    talk = connected()
    refused_with(talk, Code.PRECONDITION_FAILED, method(1, spec.Basic.Ack(5)))
    ended_with(talk, Code.CHANNEL_ERROR, method(3, spec.Basic.Ack(5)))

    assert talk.say(method(1, spec.Channel.Close(200, "bye", 0, 0)), method(1, spec.Channel.CloseOk())) == []


def test_after_bytes_that_are_no_amqp_nothing_is_listened_to() -> None:
    talk = connected()
    ended_with(talk, Code.FRAME_ERROR, b"GET / HTTP/1.1\r\n\r\n")

    assert talk.say(method(1, spec.Queue.Declare(queue="q")), b"garbage") == []
    assert talk.desk.state.queues() == []


@pytest.mark.parametrize("size", [1, 100])
def test_after_such_bytes_a_client_that_takes_note_is_not_kept_waiting(size: int) -> None:
    talk = connected()
    ended_with(talk, Code.FRAME_ERROR, b"GET / HTTP/1.1\r\n\r\n")
    said = b"garbage" + method(0, spec.Connection.CloseOk()) + b"more"

    for start in range(0, len(said), size):
        talk.say(said[start : start + size])

    assert talk.session.over


def test_a_client_that_is_gone_gives_back_what_it_had() -> None:
    desk = new_desk()
    one, two = connected(desk), connected(desk)
    one.say(method(1, spec.Queue.Declare(queue="q")), method(1, spec.Queue.Declare(queue="own", exclusive=True)))
    one.say(message(1, b"job", routing_key="q"), method(1, spec.Basic.Consume(queue="q")))
    two.say(method(1, spec.Basic.Consume(queue="q")))

    one.session.lost()
    one.session.lost()

    (delivery,) = two.listen()
    assert (delivery.body, delivery.method.redelivered) == (b"job", True)
    assert [queue.name for queue in desk.state.queues()] == ["q"]


# --- what is no channel's business ------------------------------------------------------------------


def test_a_heartbeat_is_heard_and_said() -> None:
    talk = connected()

    assert talk.say(frames.HEARTBEAT) == []
    talk.session.beat()
    assert talk.raw() == frames.HEARTBEAT


def test_a_new_secret_is_taken() -> None:
    payload = struct.pack(">HH", 10, 70) + b"\0\0\0\x03new\x01r"

    (answer,) = connected().say(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")

    assert isinstance(answer.method, spec.Connection.UpdateSecretOk)


def test_who_publishes_while_the_broker_is_short_of_something_is_held_up_until_it_is_not() -> None:
    talk = connected()
    talk.say(method(1, spec.Queue.Declare(queue="q")), method(1, spec.Confirm.Select()))
    talk.desk.shortage = "low on memory"

    assert talk.say(message(1, routing_key="q"), method(1, spec.Basic.Qos()), message(1, routing_key="q")[:20]) == []
    assert talk.say(message(1, routing_key="q")[20:]) == []
    assert talk.session.publishes
    talk.desk.shortage = None
    talk.session.resume()

    assert named(talk.listen()) == [(1, "Basic.QosOk"), (1, "Basic.Ack")]
    assert [queue.ready for queue in talk.desk.state.queues()] == [2]


def test_who_does_not_publish_is_not_held_up() -> None:
    talk = connected()
    talk.desk.shortage = "low on memory"

    assert named(talk.say(method(1, spec.Basic.Qos()))) == [(1, "Basic.QosOk")]


def test_who_is_held_up_can_be_left() -> None:
    talk = connected()
    talk.desk.shortage = "low on memory"
    talk.say(message(1, routing_key="q"), method(1, spec.Basic.Qos()))

    talk.session.close(Refused(Code.CONNECTION_FORCED, "bye"))
    talk.session.resume()

    assert named(talk.say(method(0, spec.Connection.CloseOk()))) == [(0, "Connection.Close")]
    assert talk.session.over


@pytest.mark.parametrize(("properties", "told"), [({"capabilities": {"connection.blocked": True}}, True), ({}, False)])
def test_who_can_hear_it_is_told_that_it_is_blocked(properties: dict[str, Any], told: bool) -> None:
    talk = connected(properties=properties)

    talk.session.block("low on memory")
    talk.session.block(None)

    assert named(talk.listen()) == ([(0, "Connection.Blocked"), (0, "Connection.Unblocked")] if told else [])


def _fails(*_: object) -> None:
    raise KeyError("a bug")


# --- errors of ours ---------------------------------------------------------------------------------


def test_an_error_of_ours_ends_the_connection_it_happened_on_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = new_desk()
    one, two = connected(desk), connected(desk)
    monkeypatch.setattr(desk.state, "publish", _fails)

    close = ended_with(one, Code.INTERNAL_ERROR, message(1, b"job"))

    assert "KeyError" in close.reply_text
    assert (caplog.records[0].levelno, vars(caplog.records[0])["event"]) == (logging.ERROR, "session_failed")
    assert isinstance(two.ask(1, spec.Queue.Declare(queue="q")), spec.Queue.DeclareOk)


def test_an_error_while_a_client_leaves_keeps_it_from_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    talk = connected()
    monkeypatch.setattr(talk.desk.state, "disconnected", _fails)

    assert named(talk.say(method(0, spec.Connection.Close(200, "bye", 0, 0)))) == [(0, "Connection.CloseOk")]
    assert [vars(record)["event"] for record in caplog.records] == ["session_failed"]


# --- anything at all --------------------------------------------------------------------------------

_QUEUES = st.sampled_from(["", "a", "b"])
_TAGS = st.integers(0, 4)
_METHODS = st.one_of(
    st.builds(spec.Channel.Open),
    st.builds(spec.Channel.Close, st.just(200), st.just("bye"), st.just(0), st.just(0)),
    st.builds(spec.Channel.CloseOk),
    st.builds(lambda queue, exclusive: spec.Queue.Declare(queue=queue, exclusive=exclusive), _QUEUES, st.booleans()),
    st.builds(lambda queue: spec.Queue.Delete(queue=queue), _QUEUES),
    st.builds(lambda queue: spec.Queue.Purge(queue=queue), _QUEUES),
    st.builds(lambda queue: spec.Queue.Bind(queue=queue, exchange="amq.fanout"), _QUEUES),
    st.builds(lambda queue, no_ack: spec.Basic.Consume(queue=queue, no_ack=no_ack), _QUEUES, st.booleans()),
    st.builds(lambda queue, no_ack: spec.Basic.Get(queue=queue, no_ack=no_ack), _QUEUES, st.booleans()),
    st.builds(spec.Basic.Ack, _TAGS, st.booleans()),
    st.builds(spec.Basic.Nack, _TAGS, st.booleans(), st.booleans()),
    st.builds(spec.Basic.Reject, _TAGS, st.booleans()),
    st.builds(lambda count: spec.Basic.Qos(prefetch_count=count), st.integers(0, 2)),
    st.builds(spec.Basic.Recover, st.booleans()),
    st.builds(spec.Confirm.Select),
    st.builds(spec.Connection.Close, st.just(200), st.just("bye"), st.just(0), st.just(0)),
    st.builds(spec.Connection.CloseOk),
)
_FRAMES = st.one_of(
    st.builds(method, st.integers(0, 2), _METHODS),
    st.builds(
        lambda channel, key, mandatory: message(channel, routing_key=key, mandatory=mandatory), st.integers(0, 2), _QUEUES, st.booleans()
    ),
    st.just(frames.HEARTBEAT),
    st.binary(max_size=10),
)


@given(st.lists(_FRAMES, max_size=20))
def test_whatever_a_client_sends_nothing_is_raised_and_others_are_served(sent: list[bytes]) -> None:
    desk = new_desk()
    talk, other = connected(desk, 1), connected(desk, 1)

    for one in sent:
        before = list(Phase).index(talk.session.phase)
        said = talk.say(one)
        assert list(Phase).index(talk.session.phase) >= before
        assert all(type(each.method) is not spec.Connection.Close or each.method.reply_code != Code.INTERNAL_ERROR for each in said)
    talk.session.lost()

    assert isinstance(other.say(method(1, spec.Queue.Declare(queue="served")))[-1].method, spec.Queue.DeclareOk)


@given(st.binary(max_size=100))
def test_whatever_a_stranger_sends_nothing_is_raised(data: bytes) -> None:
    talk = Talk()

    talk.session.receive(data)
    out = talk.raw()

    assert out == b"AMQP\0\0\x09\x01" or heard(out) is not None


@given(st.binary(max_size=100))
def test_whatever_a_guest_sends_nothing_is_raised(data: bytes) -> None:
    talk = connected()

    assert all(each.method.NAME in ("Connection.Close", "Channel.Close") for each in talk.say(data) if each.channel == 0)
