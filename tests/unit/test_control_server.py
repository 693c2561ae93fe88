"""The control server over real sockets, in a process of its own: faults 28 and 30 to 33 of the design's table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopd.errors import NotRunning, SocketUnusable
from tests.support.control_connection import ControlConnection
from tests.support.fake_daemon import FakeDaemon, fake_daemon, python_environ

NOBODY = 65534

#: Seconds the loop may be late for a job while clients misbehave; in practice it is some 10 ms.
WORST_LAG = 1.0


@pytest.fixture(scope="module", params=[(), ("--patched",)], ids=["plain", "patched"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path_factory.mktemp("control") / "hopd.sock", "--topics=emails,images", *request.param) as running:
        yield running


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for `condition` with fresh looks at it; the test fails when it stays false."""
    paced = threading.Event()
    for _ in range(2000):
        if condition():
            return
        paced.wait(0.01)
    raise AssertionError("it did not become true within 20 s")


def events(daemon: FakeDaemon, event: str) -> list[dict[str, Any]]:
    return [record for record in daemon.log() if record.get("event") == event]


def cpu_seconds(pid: int) -> float:
    """Processor time the process has used, from the fields utime and stime of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_alive(daemon: FakeDaemon) -> bool:
    return bool(daemon.call("ping")["pid"] == daemon.pid)


# --- requests and replies -----------------------------------------------------------------------


def test_a_request_is_answered_with_its_id(daemon: FakeDaemon) -> None:
    with ControlConnection(daemon.path) as client:
        reply = client.ask(id="a", cmd="ping", args={})
    assert reply == {"v": 1, "id": "a", "ok": True, "result": {"pid": daemon.pid, "version": "9.8.7"}}


def test_one_connection_carries_many_requests(daemon: FakeDaemon) -> None:
    with ControlConnection(daemon.path) as client:
        client.send(b'{"v":1,"id":1,"cmd":"ping"}\r\n{"v":1,"id":2,"cmd":"version"}\n')
        assert [client.reply()["id"], client.reply()["id"]] == [1, 2]


def test_a_request_without_a_newline_is_answered_when_the_client_has_ended(daemon: FakeDaemon) -> None:
    with ControlConnection(daemon.path) as client:
        client.send(b'{"v":1,"cmd":"ping"}')
        client.end()
        assert [json.loads(line)["ok"] for line in client.lines()] == [True]


def test_bad_args_leave_the_connection_open(daemon: FakeDaemon) -> None:
    with ControlConnection(daemon.path) as client:
        assert client.ask(id=1, cmd="pause", args={"topics": 3})["error"]["code"] == "bad_args"
        assert client.ask(id=2, cmd="pause", args={"topics": ["zz"]})["error"]["code"] == "no_such_topic"
        assert client.ask(id=3, cmd="ping")["ok"]


def test_an_error_in_hopd_itself_reaches_client_and_log_and_ends_nothing(daemon: FakeDaemon) -> None:
    with ControlConnection(daemon.path) as client:
        reply = client.ask(cmd="put", args={"topic": "bug", "body": ""})
        assert reply["error"]["code"] == "failed"
        assert "RuntimeError: a bug" in reply["error"]["message"]
        assert client.ask(cmd="ping")["ok"]
    assert events(daemon, "control_crashed")


# --- 30: garbage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"hello\n", "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad_request"),
        (b"\x00\n", "bad_request"),
        (b"\n", "bad_request"),
        (b"\xff\xfe\n", "bad_request"),
        (b"[" * 60_000 + b"\n", "bad_request"),
        (b'{"a":' * 12_000 + b"\n", "bad_request"),
        (b'{"v":1,"id":' + b"9" * 50_000 + b',"cmd":"ping"}\n', "bad_request"),
        (b'{"v":1,"cmd":"drain","args":{"timeout":1e999}}\n', "bad_request"),
        (b"x" * 1_000_000 + b"\n", "too_long"),
        (b"x" * 1_000_000, "too_long"),
        (b'{"v":2,"id":5,"cmd":"ping"}\n', "unsupported_version"),
        (b'{"v":1,"id":5,"cmd":"explode"}\n', "unknown_command"),
    ],
)
def test_garbage_gets_one_typed_error_and_is_hung_up_on(daemon: FakeDaemon, sent: bytes, code: str) -> None:
    with ControlConnection(daemon.path) as client:
        client.send(sent)
        client.send(b'{"v":1,"cmd":"ping"}\n')
        replies = [json.loads(line) for line in client.lines()]
    assert [reply["error"]["code"] for reply in replies] == [code]
    assert is_alive(daemon)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
REQUESTS = st.fixed_dictionaries(
    {
        "v": st.sampled_from([1, 1, 1, 2, None]),
        "cmd": st.sampled_from(["ping", "status", "pause", "resume", "put", "shutdown", "no"]) | JSON,
    },
    optional={"id": JSON, "args": st.dictionaries(st.sampled_from(["topics", "all", "topic", "body", "now", "grace", "x"]), JSON) | JSON},
)
LINES = st.binary(max_size=200) | st.one_of(JSON, REQUESTS).map(lambda value: json.dumps(value).encode())


@settings(max_examples=150, deadline=None)
@given(sent=st.lists(LINES, max_size=5).map(b"\n".join), whole=st.booleans())
def test_whatever_is_sent_each_line_gets_one_reply_at_most_and_the_server_lives(daemon: FakeDaemon, sent: bytes, whole: bool) -> None:
    with ControlConnection(daemon.path) as client:
        client.send(sent + b"\n" * whole)
        client.end()
        replies = [json.loads(line) for line in client.lines()]
    assert len(replies) <= sent.count(b"\n") + 1
    for reply in replies:
        assert reply["v"] == 1
        assert ("result" in reply) if reply["ok"] else ({"code", "message"} <= set(reply["error"]))
    assert is_alive(daemon)


# --- 31: slow, deaf and many clients -------------------------------------------------------------


def test_a_line_that_trickles_in_is_cut_off_at_its_deadline(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock", limits={"line_timeout": 0.5}) as daemon, ControlConnection(daemon.path) as client:
        client.send(b"{")
        client.socket.settimeout(0.02)
        answered = b""
        for _ in range(1000):
            client.send(b" ")
            try:
                answered = client.line()
            except TimeoutError:
                continue  # not yet: send the next byte
            break
        assert json.loads(answered)["error"]["code"] == "timeout"
        client.socket.settimeout(20)
        assert client.lines() == []
        assert is_alive(daemon)


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock", limits={"idle_timeout": 0.2}) as daemon, ControlConnection(daemon.path) as client:
        assert client.ask(cmd="ping")["ok"]
        assert client.lines() == []


def test_a_client_that_never_reads_is_dropped_and_delays_nobody(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock", limits={"write_timeout": 0.3}) as daemon, ControlConnection(daemon.path) as deaf:
        while deaf.hung_up is None:
            deaf.send(b'{"v":1,"cmd":"status"}\n' * 100)
        wait_until(lambda: events(daemon, "control_client_dropped"))
        assert daemon.call("status")["worst_lag"] < WORST_LAG


def test_of_a_thousand_clients_the_first_are_served_and_the_rest_refused_at_once(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock") as daemon:
        served: list[ControlConnection] = []
        refused = 0
        for _ in range(1000):
            client = ControlConnection(daemon.path)
            reply = client.ask(cmd="ping")
            if reply["ok"]:
                served.append(client)
                continue
            assert reply["error"]["code"] == "too_many_clients"
            assert client.lines() == []
            client.socket.close()
            refused += 1
        assert (len(served), refused) == (64, 936)
        assert served[0].ask(cmd="status")["result"]["worst_lag"] < WORST_LAG
        for client in served:
            client.socket.close()
        wait_until(lambda: answers(daemon))


def answers(daemon: FakeDaemon) -> bool:
    with ControlConnection(daemon.path) as client:
        return bool(client.ask(cmd="ping")["ok"])


def test_a_client_with_many_requests_ready_takes_turns_with_jobs(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock") as daemon, ControlConnection(daemon.path) as client:
        status = b'{"v":1,"cmd":"status"}\n'
        client.ask(cmd="put", args={"topic": "spin", "body": ""})
        client.send(status + b'{"v":1,"cmd":"ping"}\n' * 500 + status)
        before, *_, after = [client.reply()["result"] for _ in range(502)]
        assert after["turns"] - before["turns"] >= 500


def test_a_long_drain_delays_no_other_client(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock") as daemon, ControlConnection(daemon.path) as patient:
        patient.send(b'{"v":1,"cmd":"drain","args":{"topics":["slow"],"timeout":1}}\n')
        wait_until(daemon.calls)
        assert is_alive(daemon)
        assert patient.reply()["error"]["details"] == {"running": {"slow": 2}}


# --- 28: no file descriptors left -----------------------------------------------------------------


def test_accepting_pauses_without_spinning_when_file_descriptors_run_out(tmp_path: Path) -> None:
    limits = {"accept_pause": 0.1}
    with fake_daemon(tmp_path / "hopd.sock", "--nofile=30", limits=limits) as daemon, ControlConnection(daemon.path) as first:
        assert first.ask(cmd="ping")["ok"]
        others = [ControlConnection(daemon.path) for _ in range(40)]
        wait_until(lambda: events(daemon, "control_accept_failed"))
        before, ticks = cpu_seconds(daemon.pid), first.ask(cmd="status")["result"]["ticks"]
        wait_until(lambda: first.ask(cmd="status")["result"]["ticks"] > ticks + 50)
        assert cpu_seconds(daemon.pid) - before < 0.4  # 50 ticks are half a second at least
        assert len(events(daemon, "control_accept_failed")) == 1
        for client in others:
            client.socket.close()
        assert is_alive(daemon)


# --- 32: other users --------------------------------------------------------------------------------

AS_USER = """
import json, os, sys
from hopd.control.client import ControlClient
from hopd.errors import HopError
path, user, groups, requests = json.loads(sys.argv[1])
if user is not None:
    os.setgroups(groups)
    os.setgid(user)
    os.setuid(user)
for cmd, args in requests:
    try:
        print(json.dumps(ControlClient(path, 10.0).call(cmd, args)))
    except HopError as error:
        print(json.dumps(getattr(error, "code", type(error).__name__)))
"""


def call_as(path: str, user: int | None, requests: list[Any], groups: tuple[int, ...] = ()) -> list[Any]:
    """What a process of another user gets; `user` None is a process of our own user."""
    about = json.dumps([path, user, groups, requests])
    environ = python_environ()
    done = subprocess.run([sys.executable, "-c", AS_USER, about], env=environ, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def stranger() -> tuple[int | None, tuple[str, ...]]:
    """A user who is not the daemon's: only root can become one, so for others the daemon takes somebody else for its owner."""
    return (NOBODY, ()) if os.geteuid() == 0 else (None, ("--owner=0",))


def test_a_stranger_is_kept_out_by_the_file_mode(open_directory: Path) -> None:
    user, options = stranger()
    mode = "600" if user is not None else "0"
    with fake_daemon(open_directory / "hopd.sock", f"--mode={mode}", *options) as daemon:
        assert call_as(daemon.path, user, [["ping", {}], ["status", {}]]) == ["not_permitted", "not_permitted"]


def test_a_stranger_whom_the_file_mode_lets_in_may_look_but_change_nothing(open_directory: Path) -> None:
    user, options = stranger()
    with fake_daemon(open_directory / "hopd.sock", "--mode=666", *options) as daemon:
        changes = [["pause", {"all": True}], ["shutdown", {"now": True}], ["put", {"topic": "emails", "body": ""}]]
        pong, *refused, status = call_as(daemon.path, user, [["ping", {}], *changes, ["status", {}]])
        assert pong["pid"] == daemon.pid
        assert refused == ["not_permitted"] * 3
        assert status["calls"] == []
        logged = events(daemon, "control_refused")
        assert [record["command"] for record in logged] == ["pause", "shutdown", "put"]
        assert {record["uid"] for record in logged} == {os.getuid() if user is None else user}
        assert all(record["peer_pid"] not in (0, daemon.pid) for record in logged)


def test_a_member_of_the_configured_group_may_change_things(open_directory: Path) -> None:
    user, options = stranger()
    group = 4711 if user is not None else os.getgid()
    with fake_daemon(open_directory / "hopd.sock", "--mode=660", f"--group={group}", *options) as daemon:
        (result,) = call_as(daemon.path, user, [["pause", {"topics": ["emails"]}]], groups=(group,))
        assert result == {"paused": ["emails"]}
        assert events(daemon, "control_command")[0]["uid"] == (os.getuid() if user is None else user)


# --- 33: the path, and coming and going ---------------------------------------------------------------


def test_a_second_daemon_on_the_same_socket_is_refused_and_the_first_goes_on(daemon: FakeDaemon) -> None:
    with pytest.raises(SocketUnusable, match="another hopd is running there"), fake_daemon(daemon.path):
        raise AssertionError("it started")
    assert is_alive(daemon)


def test_the_socket_of_a_killed_daemon_is_healed(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock") as killed:
        killed.process.kill()
        killed.process.wait()
        with pytest.raises(NotRunning, match="nobody listens there"):
            killed.call("ping")
    with fake_daemon(tmp_path / "hopd.sock") as daemon:
        assert is_alive(daemon)


def test_a_child_of_a_handler_that_outlives_the_daemon_does_not_hold_its_socket(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock") as killed:
        child = int(killed.call("put", {"topic": "fork", "body": ""})["message_id"])
        killed.process.kill()
        killed.process.wait()
    try:
        with fake_daemon(tmp_path / "hopd.sock") as daemon:
            assert is_alive(daemon)
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_daemon_is_unmoved_by_a_fork(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock") as daemon, ControlConnection(daemon.path) as client:
        child = int(client.ask(cmd="put", args={"topic": "fork", "body": ""})["result"]["message_id"])
        os.kill(child, signal.SIGKILL)
        assert client.ask(cmd="ping")["ok"]
        assert is_alive(daemon)


def test_a_stopped_server_ends_its_clients_and_takes_its_socket_away(tmp_path: Path) -> None:
    with (
        fake_daemon(tmp_path / "hopd.sock") as daemon,
        ControlConnection(daemon.path) as idle,
        ControlConnection(daemon.path) as waiting,
    ):
        assert idle.ask(cmd="ping")["ok"]
        waiting.send(b'{"v":1,"id":9,"cmd":"drain","args":{"topics":["slow"],"timeout":600}}\n')
        wait_until(daemon.calls)
        assert daemon.stop() == 0
        assert idle.lines() == []
        reply = waiting.reply()
        assert (reply["id"], reply["error"]["code"]) == (9, "shutting_down")
        assert waiting.lines() == []
        assert not os.path.exists(daemon.path)


def test_a_client_that_is_gone_before_its_answer_ends_nothing(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock") as daemon:
        for _ in range(20):
            with ControlConnection(daemon.path) as client:
                client.send(b'{"v":1,"cmd":"status"}\n')
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert is_alive(daemon)
