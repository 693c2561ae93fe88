"""A connection that meets no broker, or one that talks nonsense: it ends with a reason, and nothing is left of it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from time import monotonic

import pika.frame
import pytest
from pika import spec

from hopd.amqp.connection import Connection
from hopd.amqp.endpoint import Endpoint, Options
from hopd.amqp.protocol import refusal
from hopd.errors import BrokerError, BrokerRefused, BrokerTimeout, BrokerUnreachable, ConnectionLost
from tests.support.waiting import wait_until

PROMPT = Options(connect_timeout=5.0)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def connection_to(listener: socket.socket, options: Options = PROMPT) -> Connection:
    return Connection(Endpoint("127.0.0.1", listener.getsockname()[1], "anna", "s3cret", "/", None), options)


def run_against(listener: socket.socket, *answers: bytes, hang_up: bool = False) -> BrokerError:
    """Why a connection ends whose broker says `answers`."""

    def answer() -> None:
        theirs, _address = listener.accept()
        with theirs:
            for data in answers:
                theirs.sendall(data)
            if hang_up:
                theirs.shutdown(socket.SHUT_WR)
            while theirs.recv(65536):
                continue

    broker = threading.Thread(target=answer)
    broker.start()
    reason = connection_to(listener).run(lambda _connection: None)
    broker.join(10.0)
    assert not broker.is_alive()
    return reason


def method(channel: int, value: object) -> bytes:
    return bytes(pika.frame.Method(channel, value).marshal())


def raw(payload: bytes) -> bytes:
    """A method frame of channel 0, whatever is in it."""
    return struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce"


START = method(0, spec.Connection.Start(server_properties={"version": "3.10.8"}))


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "make no sense"),
        (b"AMQP\x00\x01\x00\x00", "another protocol version"),
        (raw(b"\xff\xff\xff\xff"), "broke down"),
        (raw(b"\x00\x0a\x00\x0a\x00"), "broke down"),
        (raw(b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x04\x01k?\x00"), "broke down"),
        (method(0, spec.Connection.OpenOk()), "during the handshake"),
        (START + method(0, spec.Connection.TuneOk()), "during the handshake"),
    ],
    ids=["http", "another version", "unknown method", "cut short", "unknown field type", "out of order", "the client's part"],
)
def test_a_peer_that_talks_nonsense_ends_the_connection_with_a_reason(listener: socket.socket, says: bytes, reason: str) -> None:
    ended = run_against(listener, says, hang_up=True)

    assert isinstance(ended, ConnectionLost)
    assert reason in str(ended)


def test_a_peer_that_hangs_up_at_once_is_a_reason(listener: socket.socket) -> None:
    assert "hung up during the handshake" in str(run_against(listener, hang_up=True))


def test_a_refusal_has_the_brokers_code_and_text(listener: socket.socket) -> None:
    # Given a broker that closes the connection in the handshake
    close = method(0, spec.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0))

    # When we connect
    ended = run_against(listener, START, close)

    # Then we know why
    assert isinstance(ended, BrokerRefused)
    assert ended.code == 403
    assert "Login was refused" in str(ended)


def test_silence_in_the_handshake_is_a_timeout(listener: socket.socket) -> None:
    connection = connection_to(listener, Options(connect_timeout=0.05))

    assert isinstance(connection.run(lambda _connection: None), BrokerTimeout)


def test_a_port_on_which_nobody_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = connection_to(listener)

    assert isinstance(connection.run(lambda _connection: None), BrokerUnreachable)


def test_no_reason_shows_the_password(listener: socket.socket) -> None:
    reasons = [run_against(listener, START, raw(b"????"), hang_up=True), run_against(listener, hang_up=True)]

    assert "s3cret" not in "".join(map(repr, reasons))


def test_a_connection_that_ended_leaves_no_thread(listener: socket.socket) -> None:
    before = threading.active_count()

    run_against(listener, START, b"garbage", hang_up=True)

    wait_until(lambda: threading.active_count() <= before)


def test_a_channel_of_a_connection_that_is_not_open_is_refused(listener: socket.socket) -> None:
    with pytest.raises(ConnectionLost, match="not open"):
        connection_to(listener).channel(monotonic() + 1.0, ack_window=0.0)


def test_closing_ends_a_handshake_that_hangs(listener: socket.socket) -> None:
    # Given a broker that says nothing, and a connection that waits for it
    connection = connection_to(listener, Options(connect_timeout=60.0))
    reasons: list[BrokerError] = []
    reader = threading.Thread(target=lambda: reasons.append(connection.run(lambda _connection: None)))
    reader.start()
    theirs, _address = listener.accept()
    with theirs:
        assert theirs.recv(8) == b"AMQP\x00\x00\x09\x01"

        # When it is closed
        connection.close(monotonic() + 5.0)
        reader.join(5.0)

    # Then it ends, and says that it was us
    assert "by us" in str(reasons[0])


@pytest.mark.parametrize(
    ("code", "kind"),
    [(200, ConnectionLost), (320, ConnectionLost), (403, BrokerRefused), (402, BrokerRefused), (530, BrokerRefused), (501, BrokerRefused)],
)
def test_only_a_close_that_passes_is_a_loss(code: int, kind: type[BrokerError]) -> None:
    assert type(refusal(code, "because")) is kind
