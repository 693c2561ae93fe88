"""What breaks the protocol ends the connection, with the code that says what it was."""

from __future__ import annotations

import struct

import pytest
from pika import frame, spec

from tests.contract.wire import Wire, raw_frame


def method(channel: int, one: object) -> bytes:
    return frame.Method(channel, one).marshal()  # type: ignore[no-any-return]


def method_bytes(class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    return raw_frame(spec.FRAME_METHOD, 1, struct.pack(">HH", class_id, method_id) + arguments)


PUBLISH = method(1, spec.Basic.Publish(routing_key="anywhere"))
DECLARE = method(1, spec.Queue.Declare(queue="anything", exclusive=True))
HEADER = frame.Header(1, 3, spec.BasicProperties()).marshal()
BODY = frame.Body(1, b"abc").marshal()

# --- frames -----------------------------------------------------------------------------------------

FRAMES = {
    "an end mark that is none": raw_frame(1, 1, bytes(8), end=b"\x00"),
    "a kind that nobody knows": raw_frame(9, 1, b"xxxx"),
    "another kind that nobody knows": raw_frame(4, 1, b"xxxx"),
    "a method without its number": raw_frame(1, 1, b"x"),
    "a heartbeat with something in it": raw_frame(8, 0, b"abc"),
    "arguments cut short": method_bytes(50, 10, b"\0"),
    "arguments that go on too long": method_bytes(60, 110, b"\x01junk"),
    "a table that runs past the end": method_bytes(50, 10, b"\0\0\x01q\0" + struct.pack(">I", 50) + b"zz"),
}


@pytest.mark.parametrize("what", FRAMES)
def test_a_frame_that_cannot_be_read_is_a_frame_error(wire: Wire, what: str) -> None:
    wire.open()

    wire.send_bytes(FRAMES[what])

    close = wire.expect(spec.Connection.Close)
    assert close.reply_code == 501
    assert close.reply_text.startswith("FRAME_ERROR - ")


def test_a_frame_larger_than_was_agreed_is_a_frame_error(wire: Wire) -> None:
    wire.open(frame_max=4096)

    wire.send_bytes(PUBLISH + frame.Header(1, 5000, spec.BasicProperties()).marshal() + raw_frame(3, 1, b"x" * 4200))

    close = wire.expect(spec.Connection.Close)
    assert close.reply_code == 501
    assert "frame_too_large" in close.reply_text


def test_the_largest_frame_that_was_agreed_is_read(wire: Wire) -> None:
    wire.open(frame_max=4096)
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)

    wire.send_bytes(PUBLISH + frame.Header(1, 4088, spec.BasicProperties()).marshal() + raw_frame(3, 1, b"x" * 4088))

    wire.expect(spec.Basic.Ack, 1)


# --- frames at the wrong time -----------------------------------------------------------------------

NO_METHOD = "expected method frame, got non method frame instead"
NO_HEADER = "expected content header for class 60, got non content header frame instead"
NO_BODY = "expected content body, got non content body frame instead"

UNEXPECTED = {
    "a header for nothing": (HEADER, NO_METHOD),
    "a body for nothing": (BODY, NO_METHOD),
    "a method where a header must be": (PUBLISH + DECLARE, NO_HEADER),
    "a body where a header must be": (PUBLISH + BODY, NO_HEADER),
    "a method where a body must be": (PUBLISH + HEADER + DECLARE, NO_BODY),
    "a second header": (PUBLISH + HEADER + HEADER, NO_BODY),
    "a header of another class": (
        PUBLISH + raw_frame(2, 1, struct.pack(">HHQH", 50, 0, 3, 0)),
        "expected content header for class 60, got one for class 50 instead",
    ),
}


@pytest.mark.parametrize("what", UNEXPECTED)
def test_a_frame_out_of_turn_is_unexpected(wire: Wire, what: str) -> None:
    data, text = UNEXPECTED[what]
    wire.open()

    wire.send_bytes(data)

    wire.expect_close(505, f"UNEXPECTED_FRAME - {text}")


@pytest.mark.parametrize("kind", [spec.FRAME_BODY, spec.FRAME_HEADER])
def test_content_on_the_channel_of_the_connection_is_unexpected(wire: Wire, kind: int) -> None:
    wire.open()

    wire.send_bytes(raw_frame(kind, 0, b"abc"))

    assert wire.expect(spec.Connection.Close).reply_code in (501, 505)


# --- methods at the wrong place ---------------------------------------------------------------------

NOT_OPEN = "CHANNEL_ERROR - expected 'channel.open'"
NOT_HERE = "CHANNEL_ERROR - unexpected method in connection state running"

CHANNEL_ERRORS = {
    "a method on a channel that is not open": (3, spec.Queue.Declare(queue="a"), NOT_OPEN),
    "closing a channel that is not open": (3, spec.Channel.Close(200, "", 0, 0), NOT_OPEN),
    "opening a channel twice": (1, spec.Channel.Open(), "CHANNEL_ERROR - second 'channel.open' seen"),
    "a channel's method on the connection": (0, spec.Queue.Declare(queue="a"), NOT_HERE),
    "opening the channel of the connection": (0, spec.Channel.Open(), NOT_HERE),
    "opening the connection twice": (0, spec.Connection.Open("/"), NOT_HERE),
    "tuning again": (0, spec.Connection.TuneOk(1, 2, 3), NOT_HERE),
}


@pytest.mark.parametrize("what", CHANNEL_ERRORS)
def test_a_method_in_the_wrong_place_is_a_channel_error(wire: Wire, what: str) -> None:
    channel, one, text = CHANNEL_ERRORS[what]
    wire.open()

    wire.send(channel, one)

    close = wire.expect_close(504, text)
    assert (close.class_id, close.method_id) == (one.INDEX >> 16, one.INDEX & 0xFFFF)


INVALID = {
    "a method of the connection on a channel": spec.Connection.Close(200, "bye", 0, 0),
    "an answer to what was not asked": spec.Channel.FlowOk(True),
}


@pytest.mark.parametrize("what", INVALID)
def test_a_method_that_is_not_for_brokers_is_invalid(wire: Wire, what: str) -> None:
    wire.open()

    wire.send(1, INVALID[what])

    wire.expect_close(503, "COMMAND_INVALID - unimplemented method")


@pytest.mark.parametrize(("class_id", "method_id"), [(200, 10), (50, 99), (50, 11)], ids=["class", "method", "broker's method"])
def test_a_method_that_nobody_knows_ends_the_connection(wire: Wire, class_id: int, method_id: int) -> None:
    wire.open()

    wire.send_bytes(method_bytes(class_id, method_id))

    wire.read_to_end()  # RabbitMQ says nothing, or 501 or 503


def test_others_notice_nothing(wire: Wire, another: Wire) -> None:
    another.open()
    wire.open()

    wire.send_bytes(FRAMES["an end mark that is none"])
    wire.expect(spec.Connection.Close)

    another.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


# --- what is not implemented ------------------------------------------------------------------------

NOT_IMPLEMENTED = {
    "stopping the flow": (spec.Channel.Flow(False), "active=false"),
    "prefetch in bytes": (spec.Basic.Qos(prefetch_size=7), "prefetch_size!=0 (7)"),
    "recovery without requeue": (spec.Basic.Recover(requeue=False), "requeue=false"),
}


@pytest.mark.parametrize("what", NOT_IMPLEMENTED)
def test_what_is_not_implemented_ends_the_connection(wire: Wire, what: str) -> None:
    one, text = NOT_IMPLEMENTED[what]
    wire.open()

    wire.send(1, one)

    wire.expect_close(540, f"NOT_IMPLEMENTED - {text}")
