"""A forked child leaves its parent's connections alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from time import monotonic

import pytest

from hopd.amqp import fork
from hopd.amqp.connection import Connection
from hopd.amqp.endpoint import Endpoint, Options
from hopd.amqp.settlement import Settlement
from hopd.amqp.transport import Transport
from hopd.errors import ConnectionLost, ForkedProcess


@pytest.fixture
def in_child() -> Callable[[], None]:
    """What happens in a child, without one."""
    return fork._in_child


def test_what_belongs_to_the_parent_is_told(in_child: Callable[[], None]) -> None:
    # Given something that stays with the parent
    class Thing:
        left = 0

        def leave_to_parent(self) -> None:
            self.left += 1

    thing = Thing()
    fork.stays_with_parent(thing)

    # When a child is forked
    in_child()

    # Then it is told
    assert thing.left == 1


def test_what_is_gone_is_not_kept_for_that() -> None:
    class Thing:
        def leave_to_parent(self) -> None:
            raise AssertionError("it is gone")

    before = len(fork._everything)
    fork.stays_with_parent(Thing())

    assert len(fork._everything) == before


def test_the_stream_ends_in_the_child_and_goes_on_in_the_parent() -> None:
    # Given a stream, and a copy of its descriptor as a child has one
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as parents:
        theirs, _address = server.accept()
        with theirs, parents.dup() as childs:
            # When the child leaves it to its parent
            transport = Transport(childs)
            transport.leave_to_parent()

            # Then the child's has ended, and the parent's has not
            assert transport.receive(5.0) == b""
            with pytest.raises(ConnectionLost):
                transport.send(memoryview(b"from the child"))
            parents.sendall(b"from the parent")
            assert theirs.recv(100) == b"from the parent"


def test_a_delivery_cannot_be_settled_in_the_child() -> None:
    settlement = Settlement(1, lambda _settlement: None)
    settlement.opened(1)

    settlement.leave_to_parent()

    with pytest.raises(ForkedProcess):
        settlement.ack(1)
    assert settlement.take(0.0) == b""


def test_a_stream_that_was_closed_before_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = Transport(socket.create_connection(server.getsockname()))
        transport.close()

        transport.leave_to_parent()


def test_a_connection_is_of_no_use_in_the_child() -> None:
    # Given a connection in the middle of its handshake
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(Endpoint("127.0.0.1", server.getsockname()[1], "anna", "s3cret", "/", None), Options())
        reader = threading.Thread(target=connection.run, args=(lambda _connection: None,))
        reader.start()
        theirs, _address = server.accept()
        with theirs:
            theirs.recv(8)

            # When it is left to the parent, then it is closed for us
            connection.leave_to_parent()
            with pytest.raises(ConnectionLost):
                connection.channel(monotonic() + 1.0, ack_window=0.0)
        reader.join(10.0)
