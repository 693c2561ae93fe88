"""The byte stream: what is sent arrives, and every way a stream can fail is an error that says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from hopd.amqp import transport
from hopd.amqp.endpoint import Endpoint, Tls
from hopd.amqp.transport import Transport
from hopd.errors import BrokerRefused, BrokerTimeout, BrokerUnreachable, ConnectionLost


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def endpoint(port: int, host: str = "127.0.0.1", tls: Tls | None = None) -> Endpoint:
    return Endpoint(host, port, "guest", "guest", "/", tls)


@pytest.fixture
def stream(listener: socket.socket) -> Iterator[tuple[Transport, socket.socket]]:
    """A transport and the socket at its other end."""
    ours = transport.connect(endpoint(listener.getsockname()[1]), 5.0)
    theirs, _address = listener.accept()
    with theirs:
        yield ours, theirs
    ours.close()


Stream = tuple[Transport, socket.socket]


def test_what_one_sends_the_other_receives(stream: Stream) -> None:
    ours, theirs = stream

    sent = ours.send(memoryview(b"AMQP"))
    theirs.sendall(b"frames")

    assert (theirs.recv(100), ours.receive(5.0)) == (b"AMQP"[:sent], b"frames")


def test_the_end_of_the_stream_is_empty(stream: Stream) -> None:
    ours, theirs = stream

    theirs.shutdown(socket.SHUT_WR)

    assert ours.receive(5.0) == b""


def test_silence_is_an_error_after_its_time(stream: Stream) -> None:
    with pytest.raises(BrokerTimeout, match="silent"):
        stream[0].receive(0.01)


def test_a_reset_is_a_lost_connection(stream: Stream) -> None:
    ours, theirs = stream
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    theirs.close()

    with pytest.raises(ConnectionLost, match="reset"):
        ours.receive(5.0)


def test_a_peer_that_takes_nothing_is_waited_for_in_turns(stream: Stream) -> None:
    # Given a peer whose buffers are full
    ours, _theirs = stream
    with pytest.raises(BrokerTimeout):
        ours.receive(0.01)  # also sets the time a send may take
    data = memoryview(bytes(1_000_000))
    while ours.send(data):
        continue

    # When one more is sent, then nothing of it is taken and the caller has its turn
    assert ours.send(data) == 0


def test_who_cannot_wait_sends_what_there_is_room_for(stream: Stream) -> None:
    # Given a stream with room for some of it
    ours, theirs = stream
    data = bytes(range(250)) * 40_000

    # When as much as it takes is sent, until it takes nothing
    sent = 0
    while taken := ours.send_now(data[sent:]):
        sent += taken

    # Then that is what arrives
    assert 0 < sent < len(data)
    ours.shutdown()
    assert b"".join(iter(lambda: theirs.recv(1_000_000), b"")) == data[:sent]


def test_sending_at_once_on_a_stream_that_ended_is_a_lost_connection(stream: Stream) -> None:
    ours, _theirs = stream
    ours.shutdown()

    with pytest.raises(ConnectionLost):
        ours.send_now(b"x")


def test_shutting_down_wakes_a_receive_that_waits(stream: Stream) -> None:
    # Given a reader that waits for bytes
    ours, _theirs = stream
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(ours.receive(60.0)))
    reader.start()

    # When another thread ends the stream
    ours.shutdown()
    reader.join(10.0)

    # Then the reader sees its end
    assert received == [b""]


def test_shutting_down_twice_is_once(stream: Stream) -> None:
    ours, theirs = stream
    theirs.close()
    ours.receive(5.0)

    ours.shutdown()
    ours.shutdown()

    assert ours.receive(5.0) == b""


def test_sending_on_a_stream_that_ended_is_a_lost_connection(stream: Stream) -> None:
    ours, _theirs = stream
    ours.shutdown()

    with pytest.raises(ConnectionLost):
        ours.send(memoryview(b"x"))


# --- connecting ---------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_port_on_which_nobody_listens_is_named() -> None:
    port = closed_port()

    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}: Connection refused"):
        transport.connect(endpoint(port), 5.0)


def test_a_host_that_cannot_be_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)

    with pytest.raises(BrokerUnreachable, match=r"broker\.example:5672: Name or service not known"):
        transport.connect(endpoint(5672, "broker.example"), 5.0)


@pytest.mark.parametrize("host", ["two..dots", "x" * 64 + ".example", ".leading"])
def test_what_cannot_be_a_host_is_named(host: str) -> None:
    with pytest.raises(BrokerUnreachable, match=host):
        transport.connect(endpoint(5672, host), 5.0)


def test_every_address_of_a_name_is_tried_in_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name with two addresses, neither of which answers
    full = [socket.socket() for _ in range(2)]
    for each in full:
        each.bind(("127.0.0.1", 0))
        each.listen(0)
    fillers = [connecting(each.getsockname()) for each in full for _ in range(3)]
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each.getsockname()) for each in full]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: addresses)

    # When it is connected to within half a second
    began = monotonic()
    with pytest.raises(BrokerUnreachable, match="timed out"):
        transport.connect(endpoint(5672, "two-addresses"), 0.5)

    # Then half a second is what it took, not twice that
    assert monotonic() - began < 0.9
    for each in [*full, *fillers]:
        each.close()


def connecting(address: tuple[str, int]) -> socket.socket:
    """A connection that takes a place in the backlog, or waits for one."""
    each = socket.socket()
    each.setblocking(False)
    each.connect_ex(address)
    return each


def test_a_peer_that_speaks_no_tls_is_unreachable(listener: socket.socket) -> None:
    # Given a peer that answers the handshake with something else
    def answer() -> None:
        theirs, _address = listener.accept()
        with theirs:
            theirs.sendall(b"AMQP\x00\x00\x09\x01" * 10)

    thread = threading.Thread(target=answer)
    thread.start()

    # When it is connected to with TLS
    with pytest.raises(BrokerUnreachable):
        transport.connect(endpoint(listener.getsockname()[1], tls=Tls(verify=False)), 5.0)
    thread.join()


def test_a_peer_that_stays_silent_in_the_handshake_is_unreachable(listener: socket.socket) -> None:
    with pytest.raises(BrokerUnreachable, match="timed out"):
        transport.connect(endpoint(listener.getsockname()[1], tls=Tls(verify=False)), 0.05)


def test_a_missing_file_is_named_and_not_waited_for() -> None:
    # It is no matter of the network: BrokerRefused is not tried again and again by a work queue that was never open.
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(BrokerRefused, match=r"/no/such/ca\.pem.*No such file"):
        transport.connect(endpoint(server.getsockname()[1], tls=Tls(ca_file="/no/such/ca.pem")), 5.0)
