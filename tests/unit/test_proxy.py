"""The proxy's faults are what they say: the tests that use them rely on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the fixture has ended
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except ConnectionResetError:
            return


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        wait_until(lambda: proxy.connections == 1)
        yield client


def receive(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(65536)
        if not more:
            break
        data += more
    return data


def test_in_fair_weather_bytes_pass_unchanged_both_ways(client: socket.socket) -> None:
    data = bytes(range(256)) * 8000
    threading.Thread(target=client.sendall, args=(data,), daemon=True).start()

    assert receive(client, len(data)) == data


def test_an_end_is_passed_on_after_the_last_byte(proxy: Proxy, client: socket.socket) -> None:
    client.sendall(b"good-bye")
    client.shutdown(socket.SHUT_WR)

    assert receive(client, 9) == b"good-bye"
    wait_until(lambda: proxy.connections == 0)


def test_refusing_refuses_new_connections_and_keeps_the_present_ones(proxy: Proxy, client: socket.socket) -> None:
    proxy.refuse()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    client.sendall(b"still here")
    assert receive(client, 10) == b"still here"


def test_silence_accepts_and_never_answers_until_it_is_healed(proxy: Proxy) -> None:
    proxy.stay_silent()

    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as client:
        client.sendall(b"anybody?")
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_black_hole_loses_nothing_once_it_is_healed(proxy: Proxy, client: socket.socket) -> None:
    proxy.black_hole()
    client.sendall(b"into the dark")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)

    client.settimeout(10)
    proxy.heal()

    assert receive(client, 13) == b"into the dark"


def test_a_reset_is_a_reset_and_not_an_end(proxy: Proxy, client: socket.socket) -> None:
    proxy.reset()

    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_cut_passes_exactly_the_bytes_before_it(proxy: Proxy, client: socket.socket) -> None:
    proxy.cut("down", after=5)
    client.sendall(b"0123456789")

    assert receive(client, 5) == b"01234"
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_cut_counts_from_when_it_was_asked_for(proxy: Proxy, client: socket.socket) -> None:
    client.sendall(b"before")
    assert receive(client, 6) == b"before"

    proxy.cut("up", after=4)
    client.sendall(b"abc")
    assert receive(client, 3) == b"abc"
    client.sendall(b"d")

    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_cut_happens_as_often_as_it_was_asked_for(proxy: Proxy) -> None:
    proxy.cut("up", after=1, times=2)

    for expected in (b"", b"", b"x"):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(b"x")
            try:
                assert client.recv(1) == expected
            except ConnectionResetError:
                assert expected == b""


def test_slices_arrive_complete_and_in_order(proxy: Proxy, client: socket.socket) -> None:
    proxy.up.slice = proxy.down.slice = 1
    data = bytes(range(200))
    client.sendall(data)

    assert receive(client, 200) == data


def test_a_delay_is_felt(proxy: Proxy, client: socket.socket) -> None:
    proxy.down.delay = 0.1
    before = time.monotonic()
    client.sendall(b"x")

    assert client.recv(1) == b"x"
    assert time.monotonic() - before >= 0.1


def test_a_rate_is_kept(proxy: Proxy, client: socket.socket) -> None:
    proxy.up.rate = 50_000
    before = time.monotonic()
    client.sendall(bytes(10_000))

    assert len(receive(client, 10_000)) == 10_000
    assert time.monotonic() - before >= 0.18


def test_a_target_that_is_away_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with (
        Proxy(port) as proxy,
        pytest.raises(ConnectionResetError),  # when it reads, or while it still connects
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
    ):
        client.recv(1)


def test_the_port_in_a_url_becomes_the_proxys(proxy: Proxy) -> None:
    assert proxy.through("amqp://guest:guest@127.0.0.1:5672/") == f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
