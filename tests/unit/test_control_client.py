from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hopd.control import protocol
from hopd.control.client import ControlClient
from hopd.errors import ControlError, ControlTimeout, NotRunning

PING = b'{"v":1,"id":1,"cmd":"ping","args":{}}\n'

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves one connection with a function, in a thread."""
    threads: list[threading.Thread] = []
    path = str(tmp_path / "hopd.sock")
    with socket.socket(socket.AF_UNIX) as listener:

        def start(behave: Callable[[socket.socket], None]) -> str:
            def run() -> None:
                connection, _ = listener.accept()
                with connection:
                    behave(connection)

            listener.bind(path)
            listener.listen()
            threads.append(threading.Thread(target=run))
            threads[-1].start()
            return path

        yield start
        for thread in threads:
            thread.join(timeout=20)


def test_a_call_sends_one_line_and_returns_the_result(serve: Serve) -> None:
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        received.append(connection.recv(4096))
        connection.sendall(protocol.encode_result(1, {"pid": 7}))

    assert ControlClient(serve(behave)).call("ping") == {"pid": 7}
    assert received == [PING]


def test_a_reply_may_come_in_pieces_and_be_larger_than_a_request(serve: Serve) -> None:
    result = {"text": "x" * (3 * protocol.MAX_LINE)}

    def behave(connection: socket.socket) -> None:
        for byte in protocol.encode_result(1, result)[:10]:
            connection.sendall(bytes([byte]))
        connection.sendall(protocol.encode_result(1, result)[10:])

    assert ControlClient(serve(behave)).call("status") == result


def test_an_error_keeps_its_code_and_details(serve: Serve) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(protocol.encode_error(1, ControlError("timeout", "jobs still run", {"running": {"a": 1}})))

    with pytest.raises(ControlError, match="jobs still run") as caught:
        ControlClient(serve(behave)).call("drain")
    assert (caught.value.code, caught.value.details) == ("timeout", {"running": {"a": 1}})


def test_a_refusal_is_read_although_the_server_hung_up_on_the_request(serve: Serve) -> None:
    hung_up = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.sendall(protocol.encode_error(None, ControlError("too_many_clients", "try again")))
        connection.close()
        hung_up.set()

    client = ControlClient(serve(behave))
    connect = client._connect
    client._connect = lambda timeout: (connect(timeout), hung_up.wait(20))[0]  # type: ignore[method-assign]
    with pytest.raises(ControlError, match="try again") as caught:
        client.call("ping")
    assert caught.value.code == "too_many_clients"


@pytest.mark.parametrize("sent", [b"", b'{"v":1,"ok":tr'])
def test_a_connection_closed_before_the_answer_is_a_failure(serve: Serve, sent: bytes) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(sent)

    with pytest.raises(ControlError, match="closed the connection before it answered ping") as caught:
        ControlClient(serve(behave)).call("ping")
    assert caught.value.code == "failed"


def test_something_else_on_the_socket_is_named_as_such(serve: Serve) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"220 mail.example ESMTP\r\n")

    with pytest.raises(ControlError, match="does not speak hopd's protocol"):
        ControlClient(serve(behave)).call("ping")


def test_a_silent_daemon_is_a_timeout(serve: Serve) -> None:
    done = threading.Event()
    client = ControlClient(serve(lambda connection: (done.wait(20), None)[1]), timeout=0.1)
    with pytest.raises(ControlTimeout, match=r"did not answer ping within 0\.1 s"):
        client.call("ping")
    done.set()


def test_a_full_backlog_is_waited_for_and_then_a_timeout(tmp_path: Path) -> None:
    path, waiting = str(tmp_path / "hopd.sock"), []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            if waiting[-1].connect_ex(path) != 0:
                break
        with pytest.raises(ControlTimeout):
            ControlClient(path, timeout=0.1).call("ping")
    for connection in waiting:
        connection.close()


def test_no_socket_means_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=r"hopd\.sock: there is no such socket"):
        ControlClient(str(tmp_path / "hopd.sock")).call("ping")


def test_a_stale_socket_means_not_running(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "hopd.sock"))
    with pytest.raises(NotRunning, match="nobody listens there"):
        ControlClient(str(tmp_path / "hopd.sock")).call("ping")


@pytest.mark.parametrize("name", ["file", "file/hopd.sock", "x" * 200])
def test_a_path_that_can_be_no_socket_means_not_running(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotRunning):
        ControlClient(str(tmp_path / name)).call("ping")


def test_a_socket_one_may_not_open_is_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ControlError, match=f"uid {os.geteuid()} may not open") as caught:
        ControlClient(str(tmp_path / "hopd.sock")).call("ping")
    assert caught.value.code == "not_permitted"
