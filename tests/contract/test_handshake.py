"""Getting in: versions, passwords, tuning, the virtual host; and leaving."""

from __future__ import annotations

import pytest
from pika import frame, spec

from hopd.amqp.table import encode_table
from tests.contract.wire import GUEST, PROTOCOL_HEADER, Wire

CAPABILITIES = {
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
}

#: A client that wants to be told why it was refused.
TOLD = {"authentication_failure_close": True}


@pytest.mark.parametrize("header", [b"GET / HT", b"AMQP\x00\x01\x00\x00", b"AMQP\x01\x01\x00\x0a", b"AMQP\x00\x00\x09\x00"])
def test_another_protocol_is_told_ours(wire: Wire, header: bytes) -> None:
    wire.send_bytes(header)

    ours = wire.read()
    assert isinstance(ours, frame.ProtocolHeader)
    assert (ours.major, ours.minor, ours.revision) == (0, 9, 1)
    assert wire.read() is None


def test_the_broker_says_who_it_is_and_what_it_can(wire: Wire) -> None:
    start = wire.start()

    assert (start.version_major, start.version_minor) == (0, 9)
    assert "PLAIN" in start.mechanisms.decode().split()
    assert "en_US" in start.locales.decode().split()
    assert {"product", "version"} <= start.server_properties.keys()
    assert start.server_properties["version"].startswith("3.10.")


def test_what_it_says_it_can_is_all_true(wire: Wire) -> None:
    said = wire.start().server_properties["capabilities"]

    assert said == dict.fromkeys(said, True)
    assert said.keys() <= CAPABILITIES
    assert said.keys() >= CAPABILITIES - {"direct_reply_to"}


def test_the_broker_proposes_how_to_talk(wire: Wire) -> None:
    wire.log_in()

    tune = wire.expect(spec.Connection.Tune)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


def test_the_old_way_to_give_a_password_is_known(wire: Wire) -> None:
    login = encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]  # the mechanism is a table without its length

    wire.log_in(mechanism="AMQPLAIN", response=login.decode("latin-1"))

    wire.expect(spec.Connection.Tune)


@pytest.mark.parametrize("response", ["\0guest\0wrong", "\0nobody\0guest", "\0\0"])
def test_a_wrong_password_is_told_to_whom_wants_to_hear_it(wire: Wire, response: str) -> None:
    wire.log_in(TOLD, response)

    text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    wire.expect_close(403, text)


@pytest.mark.parametrize(
    ("mechanism", "response"), [("PLAIN", "\0guest\0wrong"), ("SIDEWAYS", GUEST)], ids=["wrong password", "other mechanism"]
)
def test_nobody_else_gets_in_either(wire: Wire, mechanism: str, response: str) -> None:
    wire.log_in(None, response, mechanism)

    wire.read_to_end()  # RabbitMQ waits 3 s and says nothing


def test_a_virtual_host_that_is_not_there_ends_the_connection(wire: Wire) -> None:
    tuned(wire)

    wire.send(0, spec.Connection.Open("nowhere"))

    wire.expect_close(530, "NOT_ALLOWED - vhost nowhere not found")


@pytest.mark.parametrize(("channel_max", "frame_max"), [(65535, 131072), (2047, 131073)], ids=["channels", "frames"])
def test_a_client_that_wants_more_than_it_was_offered_does_not_get_in(wire: Wire, channel_max: int, frame_max: int) -> None:
    tuned(wire, channel_max, frame_max)

    wire.send(0, spec.Connection.Open("/"))

    wire.read_to_end()


@pytest.mark.parametrize(("channel_max", "frame_max"), [(2047, 131072), (10, 131072), (2047, 4096)])
def test_a_client_may_want_less_than_it_was_offered(wire: Wire, channel_max: int, frame_max: int) -> None:
    wire.open(channel_max=channel_max, frame_max=frame_max)


def test_a_method_before_its_time_ends_the_connection(wire: Wire) -> None:
    wire.log_in()
    wire.expect(spec.Connection.Tune)
    wire.send(0, spec.Connection.TuneOk(2047, 131072, 0))

    wire.send(1, spec.Channel.Open())

    found = wire.expect(spec.Connection.Close)
    assert found.reply_code == 505


def test_a_client_that_closes_is_answered(wire: Wire) -> None:
    wire.open()

    wire.ask(0, spec.Connection.Close(200, "bye", 0, 0), spec.Connection.CloseOk)


def test_what_was_sent_before_a_close_is_done(wire: Wire, another: Wire) -> None:
    wire.open()
    queue = wire.ask(1, spec.Queue.Declare(queue="", exclusive=False, auto_delete=True), spec.Queue.DeclareOk).queue

    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"0")
    wire.ask(0, spec.Connection.Close(200, "bye", 0, 0), spec.Connection.CloseOk)

    another.open()
    assert another.ask(1, spec.Queue.Delete(queue=queue), spec.Queue.DeleteOk).message_count == 1


def test_a_new_secret_is_taken(wire: Wire) -> None:
    wire.open()

    wire.ask(0, spec.Connection.UpdateSecret("new", "because"), spec.Connection.UpdateSecretOk)


def test_the_handshake_may_come_in_one_go_and_a_byte_at_a_time(wire: Wire, another: Wire) -> None:
    sent = [
        frame.Method(0, spec.Connection.StartOk({}, "PLAIN", GUEST, "en_US")),
        frame.Method(0, spec.Connection.TuneOk(2047, 131072, 0)),
        frame.Method(0, spec.Connection.Open("/")),
    ]
    data = PROTOCOL_HEADER + b"".join(each.marshal() for each in sent)

    wire.send_bytes(data)
    for byte in data:
        another.send_bytes(bytes((byte,)))

    for each in (wire, another):
        each.expect(spec.Connection.Start)
        each.expect(spec.Connection.Tune)
        each.expect(spec.Connection.OpenOk)


def tuned(wire: Wire, channel_max: int = 2047, frame_max: int = 131072) -> None:
    wire.log_in()
    wire.expect(spec.Connection.Tune)
    wire.send(0, spec.Connection.TuneOk(channel_max, frame_max, 0))
