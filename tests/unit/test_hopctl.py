"""hopctl as people and scripts run it: a real process against a real control server."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_daemon import FakeDaemon, fake_daemon, python_environ

MODULE = "hopd.cli.hopctl"

Done = subprocess.CompletedProcess[str]


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", MODULE, *args]


def environ(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in python_environ().items() if name not in {"HOPD_SOCKET", "COLUMNS", "NO_COLOR"}}
    return {**plain, "TERM": "xterm", **more}


def hopctl(*args: str, given: str | bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    """Run hopctl with `given` on its standard input."""
    raw = given.encode() if isinstance(given, str) else given
    done = subprocess.run(command(*args), input=raw, capture_output=True, env=env or environ(), timeout=60)
    assert "Traceback" not in done.stderr.decode(), done.stderr.decode()
    return Done(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def document(done: Done) -> Any:
    return json.loads(done.stdout)


def leave_stale(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    return str(path)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path / "hopd.sock") as running:
        yield running


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[FakeDaemon, FakeDaemon]]:
    with (
        fake_daemon(tmp_path / "hopd-01.sock", "--instance=01") as first,
        fake_daemon(tmp_path / "hopd-02.sock", "--instance=02") as second,
    ):
        yield first, second


# --- one instance -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said", "result"),
    [
        (["ping"], "pong from pid PID, hopd 9.8.7", {"pid": "PID", "version": "9.8.7"}),
        (["version"], "hopd 9.8.7", {"version": "9.8.7", "protocol": 1}),
        (["pause", "emails"], "paused emails", {"paused": ["emails"]}),
        (["pause", "--all"], "paused emails, images, slow", {"paused": ["emails", "images", "slow"]}),
        (["resume", "emails", "images"], "resumed emails, images", {"resumed": ["emails", "images"]}),
        (["drain", "emails"], "drained emails", {"drained": ["emails"]}),
        (
            ["reload"],
            "reloaded: added new; changed emails, images\n  a restart is needed for broker.heartbeat",
            {"added": ["new"], "changed": ["emails", "images"], "removed": [], "restart": ["broker.heartbeat"]},
        ),
        (["shutdown"], "hopd (pid PID) is shutting down", {"pid": "PID", "now": False, "grace": None}),
        (["put", "emails", "hi"], "put made-up-id to emails", {"topic": "emails", "message_id": "made-up-id"}),
    ],
)
def test_a_command_says_what_happened_and_prints_the_result_for_scripts(
    daemon: FakeDaemon, args: list[str], said: str, result: dict[str, Any]
) -> None:
    done = hopctl("-s", daemon.path, *args)
    assert (done.returncode, done.stdout, done.stderr) == (0, said.replace("PID", str(daemon.pid)) + "\n", "")
    expected = {key: daemon.pid if value == "PID" else value for key, value in result.items()}
    assert document(hopctl("-s", daemon.path, "--json", *args)) == expected


@pytest.mark.parametrize(
    ("args", "call"),
    [
        (["shutdown", "--now"], ["shutdown", {"now": True, "grace": None}]),
        (["shutdown", "--grace", "5m"], ["shutdown", {"now": False, "grace": 300.0}]),
        (["shutdown", "--grace", "0"], ["shutdown", {"now": False, "grace": 0.0}]),
        (["drain", "--timeout", "90"], ["drain", {"topics": ["emails", "images"], "timeout": 90.0}]),
        (["drain", "--all"], ["drain", {"topics": ["emails", "images"], "timeout": 60.0}]),
        (["--timeout", "2s", "drain", "images"], ["drain", {"topics": ["images"], "timeout": 2.0}]),
    ],
)
def test_what_the_command_line_says_reaches_the_daemon(tmp_path: Path, args: list[str], call: list[Any]) -> None:
    with fake_daemon(tmp_path / "hopd.sock", "--topics=emails,images") as daemon:
        assert hopctl("-s", daemon.path, *args).returncode == 0
        assert daemon.calls() == [call]


def test_a_config_that_cannot_be_taken_up_is_told_with_all_that_is_wrong(tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd.sock", "--topics=broken") as daemon:
        done = hopctl("-s", daemon.path, "reload")
        told = document(hopctl("-s", daemon.path, "--json", "reload"))

    assert (done.returncode, done.stdout) == (1, "")
    assert "/etc/hopd/hopd.yaml:3:1: topics: is not there" in done.stderr
    assert "hopd goes on with the config it has." in done.stderr
    assert told["error"]["code"] == "bad_config"


def test_options_may_stand_before_or_after_the_command(daemon: FakeDaemon) -> None:
    before = hopctl("-s", daemon.path, "--json", "--timeout", "5s", "ping")
    after = hopctl("ping", "-s", daemon.path, "--json", "--timeout", "5s")
    assert document(before) == document(after)


def test_the_environment_may_name_the_socket(daemon: FakeDaemon) -> None:
    assert hopctl("ping", env=environ(HOPD_SOCKET=daemon.path)).returncode == 0


def test_status_is_a_table_for_people(daemon: FakeDaemon) -> None:
    lines = hopctl("-s", daemon.path, "status").stdout.splitlines()
    assert lines[0].split()[:4] == ["hopd", "running", "version", "9.8.7"]
    assert lines[1] == "broker  open  amqp://guest:***@localhost:5672/"
    assert lines[3].split()[:5] == ["topic", "state", "running", "waiting", "done"]
    assert lines[4].split() == ["emails", "consuming", "0/50", "7", *"11111111"]


def test_status_for_scripts_is_the_contract_itself(daemon: FakeDaemon) -> None:
    found = document(hopctl("-s", daemon.path, "status", "--json"))
    assert {"state", "version", "instance", "pid", "uptime", "broker", "topics"} <= set(found)
    assert "instances" not in found
    assert found["broker"]["url"] == "amqp://guest:***@localhost:5672/"
    assert (found["topics"]["slow"]["running"], found["topics"]["slow"]["concurrency"]) == (2, 50)


# --- put --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "given", "body"),
    [
        (["héllo"], b"unread", "héllo".encode()),
        ([""], b"unread", b""),
        (["-"], b"from a pipe\n", b"from a pipe\n"),
        ([], b"from a pipe\n", b"from a pipe\n"),
        (["-"], b"\x00\xff\xfe", b"\x00\xff\xfe"),
        (["-"], b"\x00" * 40_000, b"\x00" * 40_000),
        (["-"], b"x" * 65_000, b"x" * 65_000),
    ],
)
def test_a_body_is_an_argument_or_what_standard_input_holds(daemon: FakeDaemon, args: list[str], given: bytes, body: bytes) -> None:
    assert hopctl("-s", daemon.path, "put", "emails", *args, given=given).returncode == 0
    assert daemon.calls()[0][1]["body"] == body.hex()


def test_a_job_may_have_headers_an_id_and_a_content_type(daemon: FakeDaemon) -> None:
    options = ["--header", "a=1", "--header", "b=x=y", "--message-id", "m7", "--content-type", "text/plain", "--timeout", "2s"]
    assert hopctl("-s", daemon.path, "put", "emails", "hi", *options).stdout == "put m7 to emails\n"
    about = daemon.calls()[0][1]
    assert (about["headers"], about["message_id"], about["content_type"]) == ({"a": "1", "b": "x=y"}, "m7", "text/plain")
    assert about["timeout"] == 2.0


@pytest.mark.parametrize(
    ("options", "delay", "at"),
    [
        (["--delay", "10m"], 600.0, None),
        (["--delay", "0"], 0.0, None),
        (["--at", "2026-01-31T08:00:00+01:00"], None, "2026-01-31T07:00:00+00:00"),
        (["--at", "2026-01-31T07:00:00Z"], None, "2026-01-31T07:00:00+00:00"),
        (["--at", "2026-01-31T09:00"], None, "2026-01-31T07:00:00+00:00"),
    ],
)
def test_a_job_may_be_due_later(daemon: FakeDaemon, options: list[str], delay: float | None, at: str | None) -> None:
    here = environ(TZ="EET-2")  # two hours before UTC
    assert hopctl("-s", daemon.path, "put", "emails", "hi", *options, env=here).returncode == 0
    about = daemon.calls()[0][1]
    due = about["at"] and datetime.fromisoformat(about["at"]).astimezone(timezone.utc).isoformat()
    assert (about["delay"], due) == (delay, at)


@pytest.mark.parametrize(
    "options", [["--delay", "soon"], ["--delay", "-1m"], ["--at", "soon"], ["--at", ""], ["--delay", "1m", "--at", "2026-01-31T08:00"]]
)
def test_a_job_is_due_at_a_time_that_can_be_told(daemon: FakeDaemon, options: list[str]) -> None:
    assert hopctl("-s", daemon.path, "put", "emails", "hi", *options).returncode == 2
    assert daemon.calls() == []


def test_a_job_cannot_be_due_later_than_the_broker_can_hold_it(daemon: FakeDaemon) -> None:
    done = hopctl("-s", daemon.path, "put", "emails", "hi", "--delay", "400d")
    assert done.returncode == 2
    assert "delay is at most 366d" in done.stderr


@pytest.mark.parametrize("size", [65_530, 70_000, 1_000_000])
def test_a_body_over_what_the_socket_takes_is_refused_with_what_to_do_instead(daemon: FakeDaemon, size: int) -> None:
    done = hopctl("-s", daemon.path, "put", "emails", given=b"x" * size)
    assert done.returncode == 1
    assert "the library" in done.stderr


@pytest.mark.parametrize(
    ("topic", "code", "exit_code"),
    [
        ("nowhere", "failed", 1),
        ("bug", "failed", 1),
        ("blocked", "broker_unavailable", 1),
        ("away", "broker_unavailable", 1),
        ("late", "timeout", 4),
        ("closed", "shutting_down", 1),
        ("amq.x", "bad_args", 2),
    ],
)
def test_a_put_that_fails_says_why(daemon: FakeDaemon, topic: str, code: str, exit_code: int) -> None:
    done = hopctl("-s", daemon.path, "put", topic, "hi", "--json")
    assert (document(done)["error"]["code"], done.returncode) == (code, exit_code)
    assert document(done)["error"]["message"]


# --- several instances --------------------------------------------------------------------------------


def test_without_a_socket_every_instance_is_asked(two: tuple[FakeDaemon, FakeDaemon], tmp_path: Path) -> None:
    done = hopctl("pause", "emails", env=environ(HOPD_SOCKET=str(tmp_path)))
    assert done.stdout == f"{two[0].path}: paused emails\n{two[1].path}: paused emails\n"
    assert [each.calls() for each in two] == [[["pause", {"topics": ["emails"]}]]] * 2


def test_the_configured_socket_stands_for_all_its_instances(two: tuple[FakeDaemon, FakeDaemon], tmp_path: Path) -> None:
    found = document(hopctl("-s", str(tmp_path / "hopd.sock"), "ping", "--json"))
    assert [each["result"]["pid"] for each in found["instances"]] == [each.pid for each in two]


def test_sockets_may_be_named_one_by_one(two: tuple[FakeDaemon, FakeDaemon]) -> None:
    done = hopctl("-s", two[0].path, "shutdown", "-s", two[1].path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)


def test_the_counters_of_all_instances_are_added_up_in_the_same_places(two: tuple[FakeDaemon, FakeDaemon], tmp_path: Path) -> None:
    found = document(hopctl("-s", str(tmp_path), "status", "--json"))
    assert (found["topics"]["emails"]["done"], found["topics"]["slow"]["running"]) == (2, 4)
    assert (found["state"], found["broker"]["state"]) == ("running", "open")
    assert [each["instance"] for each in found["instances"]] == ["01", "02"]
    assert "hopd, 2 instances" in hopctl("-s", str(tmp_path), "status").stdout


def test_a_put_goes_to_one_instance_that_runs(two: tuple[FakeDaemon, FakeDaemon], tmp_path: Path) -> None:
    two[0].process.kill()
    two[0].process.wait()
    done = hopctl("-s", str(tmp_path), "put", "emails", "hi")
    assert done.returncode == 0
    assert "put made-up-id to emails" in done.stdout
    assert len(two[1].calls()) == 1


def test_an_instance_that_is_gone_is_mentioned_and_does_no_harm(daemon: FakeDaemon, tmp_path: Path) -> None:
    stale = leave_stale(tmp_path / "hopd-02.sock")
    done = hopctl("-s", str(tmp_path), "status")
    assert done.returncode == 0
    assert done.stderr == f"hopctl: note: {stale}: nobody listens there; a hopd that was killed may have left it\n"
    found = document(hopctl("-s", str(tmp_path), "status", "--json"))
    assert found["topics"]["emails"]["done"] == 1
    assert found["instances"][0]["error"]["code"] == "not_running"


def test_one_instance_that_fails_is_named_and_counts(two: tuple[FakeDaemon, FakeDaemon], tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "hopd-03.sock", "--topics=other") as third:
        done = hopctl("-s", str(tmp_path), "pause", "emails")
        assert done.returncode == 1
        assert done.stdout.count("paused emails") == 2
        assert done.stderr == f"hopctl: {third.path}: hopd runs no topic 'emails': it runs other.\n"
        found = document(hopctl("-s", str(tmp_path), "pause", "emails", "--json"))
        assert found["error"]["code"] == "no_such_topic"
        assert [set(each) - {"socket"} for each in found["instances"]] == [{"result"}, {"result"}, {"error"}]


def test_an_instance_that_hangs_delays_the_answers_of_none(two: tuple[FakeDaemon, FakeDaemon], tmp_path: Path) -> None:
    os.kill(two[0].pid, signal.SIGSTOP)
    done = hopctl("-s", str(tmp_path), "status", "--json", "--timeout", "500ms")
    assert done.returncode == 4
    assert document(done)["topics"]["emails"]["done"] == 1
    assert document(done)["error"]["code"] == "timeout"


# --- what can go wrong ----------------------------------------------------------------------------------


def test_not_running_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    done = hopctl("-s", str(tmp_path / "hopd.sock"), "status")
    assert done.returncode == 3
    assert done.stdout == ""
    for words in (
        "hopd is not running",
        f"{tmp_path}/hopd.sock: there is no such socket",
        "hopd run -c",
        "systemctl start hopd",
        "HOPD_SOCKET",
    ):
        assert words in done.stderr


@pytest.mark.parametrize("what", ["an empty directory", "a stale socket", "nothing", "a file"])
def test_not_running_is_one_document_for_scripts(tmp_path: Path, what: str) -> None:
    place = tmp_path / "hopd.sock"
    if what == "an empty directory":
        place.mkdir()
    elif what == "a stale socket":
        leave_stale(place)
    elif what == "a file":
        place.write_text("")
    done = hopctl("-s", str(place), "status", "--json")
    assert done.returncode == 3
    assert document(done)["error"]["code"] == "not_running"
    assert document(done)["error"]["tried"] == [str(place)]
    assert done.stderr == ""


def test_a_drain_that_does_not_end_is_a_timeout_with_what_still_runs(daemon: FakeDaemon) -> None:
    done = hopctl("-s", daemon.path, "drain", "slow", "--timeout", "100ms", "--json")
    assert done.returncode == 4
    assert document(done)["error"]["details"] == {"running": {"slow": 2}}


def test_a_daemon_that_hangs_is_a_timeout(daemon: FakeDaemon) -> None:
    os.kill(daemon.pid, signal.SIGSTOP)
    done = hopctl("-s", daemon.path, "ping", "--timeout", "200ms")
    assert (done.returncode, done.stderr) == (4, f"hopctl: hopd on {daemon.path} did not answer ping within 0.2 s.\n")


def test_what_is_not_permitted_says_who_may(tmp_path: Path) -> None:
    # A server that always refuses: a real one refuses nothing to whoever runs its tests.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "hopd.sock"))
        listener.listen()

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b'{"v":1,"id":1,"ok":false,"error":{"code":"not_permitted","message":"uid 7 may look but not pause"}}\n')

        thread = threading.Thread(target=refuse)
        thread.start()
        done = hopctl("-s", str(tmp_path / "hopd.sock"), "pause", "--all")
        thread.join()
    assert done.returncode == 77
    assert done.stderr.startswith("hopctl: uid 7 may look but not pause.\n  Run hopctl as root or as hopd's own user")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["explode"],
        ["pause"],
        ["pause", "emails", "--all"],
        ["drain", "--timeout", "soon"],
        ["ping", "--timeout", "0"],
        ["shutdown", "--now", "--grace", "5s"],
        ["put"],
        ["put", "emails", "hi", "--header", "novalue"],
        ["status", "extra"],
        ["--nope"],
    ],
)
def test_wrong_usage_is_exit_code_2_for_people_and_scripts(args: list[str]) -> None:
    done = hopctl(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: hopctl" in done.stderr
    if args:
        done = hopctl("--json", *args)
        assert (done.returncode, document(done)["error"]["code"], done.stderr) == (2, "usage", "")


def test_an_unknown_topic_says_what_may_be_meant(daemon: FakeDaemon) -> None:
    done = hopctl("-s", daemon.path, "pause", "emial")
    assert (done.returncode, done.stderr) == (1, "hopctl: hopd runs no topic 'emial': did you mean emails?\n")


def test_help_tells_the_exit_codes() -> None:
    text = hopctl("--help").stdout
    for line in (
        "0   done",
        "1   hopd could not do it",
        "2   wrong usage",
        "3   hopd is not running",
        "4   timed out",
        "77  not permitted",
    ):
        assert f"  {line}\n" in text


def test_hopctls_own_version_needs_no_daemon() -> None:
    done = hopctl("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "hopctl")


def test_a_reader_that_has_seen_enough_is_no_error(daemon: FakeDaemon) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command("-s", daemon.path, "status"), stdout=write, stderr=subprocess.PIPE, text=True, env=environ(), timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_cannot_be_written_is_a_failure(daemon: FakeDaemon) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("-s", daemon.path, "ping"), stdout=full, stderr=subprocess.PIPE, text=True, env=environ(), timeout=60)
    assert done.returncode == 1
    assert done.stderr == "hopctl: cannot print the answer: No space left on device.\n"


def test_ctrl_c_leaves_quietly_with_130(daemon: FakeDaemon) -> None:
    with subprocess.Popen(
        command("-s", daemon.path, "drain", "slow"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ()
    ) as process:
        paced = threading.Event()
        while not daemon.calls():
            paced.wait(0.01)
        process.send_signal(signal.SIGINT)
        output, complaints = process.communicate(timeout=20)
    assert (process.returncode, output, complaints.strip()) == (130, b"", b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_write_a_name_shows_it_escaped(tmp_path: Path, encoding: str) -> None:
    with fake_daemon(tmp_path / "hopd.sock", "--topics=日本") as daemon:
        done = hopctl("-s", daemon.path, "status", env=environ(PYTHONIOENCODING=encoding))
        assert done.returncode == 0
        assert r"\u65e5\u672c" in done.stdout


# --- terminals and start-up -------------------------------------------------------------------------------


def in_terminal(*args: str, **more: str) -> str:
    """What hopctl prints when its standard output is a terminal."""
    screen, terminal = pty.openpty()
    with subprocess.Popen(command(*args), stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environ(**more)) as process:
        os.close(terminal)
        printed = b""
        while data := read_terminal(screen):
            printed += data
    os.close(screen)
    assert process.returncode == 0
    return printed.decode().replace("\r\n", "\n")


def read_terminal(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError:
        return b""  # EIO is how Linux says that the other side of a terminal is closed


def test_colours_are_for_terminals_only(daemon: FakeDaemon) -> None:
    assert "\033[32mrunning\033[0m" in in_terminal("-s", daemon.path, "status")
    assert "\033[" not in hopctl("-s", daemon.path, "status").stdout


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colours_gets_none(daemon: FakeDaemon, more: dict[str, str]) -> None:
    assert "\033[" not in in_terminal("-s", daemon.path, "status", **more)


def test_the_table_fits_the_terminal(daemon: FakeDaemon) -> None:
    text = in_terminal("-s", daemon.path, "status", COLUMNS="60", NO_COLOR="1")
    assert max(len(line) for line in text.splitlines() if daemon.path not in line) <= 60


HEAVY = ("gevent", "greenlet", "pika", "pydantic", "pydantic_core", "yaml", "rich", "asyncio", "ssl")


def test_hopctl_starts_without_the_heavy_modules(daemon: FakeDaemon) -> None:
    code = f"import sys, json; from {MODULE} import main; assert main() == 0; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    args = ["-s", daemon.path, "status"]
    done = subprocess.run([sys.executable, "-c", code, *args], env=environ(), capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
