"""Where a broker may listen, and what it says where it cannot."""

from __future__ import annotations

import socket

import pytest

from hopd.broker.listener import listen, listen_unix, parse_address
from hopd.errors import CannotListen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5672", "127.0.0.1:5672"),
        ("127.8.7.6:0", "127.8.7.6:0"),
        ("localhost:5672", "127.0.0.1:5672"),
        ("[::1]:5672", "[::1]:5672"),
    ],
)
def test_loopback_addresses_are_taken(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize("text", ["0.0.0.0:5672", "192.168.0.1:5672", "example.com:5672", "[::]:5672", ":5672", "128.0.0.1:5672"])
def test_other_machines_are_not_served_and_what_does_is_named(text: str) -> None:
    with pytest.raises(CannotListen, match=r"this machine only.*RabbitMQ"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:²"])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(CannotListen, match="expected HOST:PORT"):
        parse_address(text)


def test_any_free_port_is_found_and_named() -> None:
    listener = listen(parse_address("127.0.0.1:0"))
    try:
        assert listener.port > 0
        assert listener.name == f"127.0.0.1:{listener.port}"
        assert listener.accept() is None
        with socket.create_connection(("127.0.0.1", listener.port)) as client:
            accepted = listener.accept()
            assert accepted is not None
            assert accepted[1] == ":".join(map(str, client.getsockname()))
            accepted[0].close()
    finally:
        listener.close()


def test_an_address_that_is_taken_is_told() -> None:
    taken = listen(parse_address("127.0.0.1:0"))
    try:
        with pytest.raises(CannotListen, match="in use: is another broker running there"):
            listen(parse_address(f"127.0.0.1:{taken.port}"))
    finally:
        taken.close()


@pytest.mark.parametrize("path", ["/nowhere/broker.sock", "x" * 200, "/tmp/"])
def test_a_socket_path_that_cannot_be_used_is_told(path: str) -> None:
    with pytest.raises(CannotListen, match="cannot listen on"):
        listen_unix(path)
