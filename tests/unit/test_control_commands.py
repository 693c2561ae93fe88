from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import pytest

from hopd import errors
from hopd.control import commands
from hopd.control.peer import Access, Peer
from hopd.control.protocol import Request
from hopd.errors import ControlError
from tests.support.fake_daemon import FakeSteering

ROOT = Peer(11, 0, 0)
STRANGER = Peer(12, 1000, 1000)
ACCESS = Access(owner=990, group=991)


class Unfinished(FakeSteering):
    """Its drains leave three jobs of images running."""

    def drain(self, topics: Sequence[str], timeout: float) -> dict[str, int]:
        return {topic: 3 if topic == "images" else 0 for topic in topics}


@pytest.fixture
def steering() -> FakeSteering:
    return FakeSteering("01", ["emails", "images"], {})


def run(steering: FakeSteering, cmd: str, peer: Peer = ROOT, **args: Any) -> dict[str, Any]:
    return commands.dispatch(steering, Request(cmd, args), peer, ACCESS)


def refusal(steering: FakeSteering, cmd: str, peer: Peer = ROOT, **args: Any) -> ControlError:
    with pytest.raises(ControlError) as caught:
        run(steering, cmd, peer, **args)
    return caught.value


@pytest.mark.parametrize(
    ("cmd", "args", "result", "call"),
    [
        ("pause", {"topics": ["emails"]}, {"paused": ["emails"]}, ["pause", {"topics": ["emails"]}]),
        ("pause", {"all": True}, {"paused": ["emails", "images"]}, ["pause", {"topics": ["emails", "images"]}]),
        ("resume", {"topics": ["images"]}, {"resumed": ["images"]}, ["resume", {"topics": ["images"]}]),
        ("drain", {}, {"drained": ["emails", "images"]}, ["drain", {"topics": ["emails", "images"], "timeout": 60.0}]),
        ("drain", {"topics": ["emails"], "timeout": "5m"}, {"drained": ["emails"]}, ["drain", {"topics": ["emails"], "timeout": 300.0}]),
        (
            "reload",
            {},
            {"added": ["new"], "changed": ["emails", "images"], "removed": [], "restart": ["broker.heartbeat"]},
            ["reload", {}],
        ),
        ("shutdown", {}, {"pid": os.getpid(), "now": False, "grace": None}, ["shutdown", {"now": False, "grace": None}]),
        ("shutdown", {"now": True}, {"pid": os.getpid(), "now": True, "grace": None}, ["shutdown", {"now": True, "grace": None}]),
        ("shutdown", {"grace": 5}, {"pid": os.getpid(), "now": False, "grace": 5.0}, ["shutdown", {"now": False, "grace": 5.0}]),
    ],
)
def test_a_command_does_what_it_says(steering: FakeSteering, cmd: str, args: dict[str, Any], result: object, call: list[Any]) -> None:
    assert run(steering, cmd, **args) == result
    assert steering.calls == [call]


def test_a_put_hands_over_the_whole_job(steering: FakeSteering) -> None:
    given: dict[str, Any] = {"headers": {"a": 1}, "message_id": "m1", "content_type": "text/plain"}
    assert run(steering, "put", topic="other", body="hi", timeout=2, **given) == {"topic": "other", "message_id": "m1"}
    assert steering.calls == [["put", {"topic": "other", "body": b"hi".hex(), "timeout": 2.0, "delay": None, "at": None, **given}]]


@pytest.mark.parametrize(
    ("said", "delay", "at"),
    [({"delay": "10m"}, 600.0, None), ({"delay": 0}, 0.0, None), ({"at": "2026-01-31T08:00:00Z"}, None, "2026-01-31T08:00:00+00:00")],
    ids=["delay", "none", "at"],
)
def test_a_put_says_when_the_job_is_due(steering: FakeSteering, said: dict[str, Any], delay: float | None, at: str | None) -> None:
    run(steering, "put", topic="emails", body="hi", **said)

    ((_put, about),) = steering.calls
    assert (about["delay"], about["at"]) == (delay, at)


def test_looking_is_free_for_whoever_may_connect(steering: FakeSteering) -> None:
    assert run(steering, "ping", STRANGER) == {"pid": os.getpid(), "version": "9.8.7"}
    assert run(steering, "version", STRANGER) == {"version": "9.8.7", "protocol": 1}
    assert set(run(steering, "status", STRANGER)["topics"]) == {"emails", "images"}


def test_a_drain_that_does_not_end_is_a_timeout_with_what_still_runs() -> None:
    error = refusal(Unfinished(None, ["emails", "images"], {}), "drain", timeout=1)
    assert (error.code, error.details) == ("timeout", {"running": {"images": 3}})
    assert "3 of images" in str(error)


@pytest.mark.parametrize("cmd", ["Ping", "", "__class__", "x" * 60_000])
def test_an_unknown_command_is_named_with_those_there_are(steering: FakeSteering, cmd: str) -> None:
    error = refusal(steering, cmd)
    assert error.code == "unknown_command"
    assert "ping, version, status" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("cmd", "args"),
    [
        ("ping", {"x": 1}),
        ("pause", {}),
        ("pause", {"topic": "emails"}),
        ("drain", {"timeout": "soon"}),
        ("shutdown", {"now": True, "grace": 1}),
        ("shutdown", {"now": "yes"}),
        ("put", {"topic": "emails"}),
        ("put", {"body": "x"}),
        ("put", {"topic": "emails", "body": "x", "delay": "soon"}),
        ("put", {"topic": "emails", "body": "x", "delay": "1m", "at": "2026-01-31T08:00:00Z"}),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_happens(steering: FakeSteering, cmd: str, args: dict[str, Any]) -> None:
    assert refusal(steering, cmd, **args).code == "bad_args"
    assert steering.calls == []


@pytest.mark.parametrize("cmd", [name for name, command in commands.COMMANDS.items() if command.changes])
def test_a_stranger_changes_nothing_and_is_logged(steering: FakeSteering, cmd: str, caplog: pytest.LogCaptureFixture) -> None:
    assert refusal(steering, cmd, STRANGER, topics=["emails"]).code == "not_permitted"
    assert steering.calls == []
    record = caplog.records[-1]
    assert {"event": "control_refused", "command": cmd, "uid": 1000, "gid": 1000, "peer_pid": 12}.items() <= record.__dict__.items()


def test_a_change_is_logged_with_who_asked_for_it(steering: FakeSteering, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(steering, "pause", Peer(13, 1001, 7, frozenset({991})), topics=["emails"])
    expected = {"event": "control_command", "command": "pause", "topics": ["emails"], "uid": 1001, "gid": 7, "peer_pid": 13}
    assert expected.items() <= caplog.records[-1].__dict__.items()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PutTimeout(), "timeout"),
        (errors.BrokerTimeout(), "timeout"),
        (errors.BrokerBlocked(), "broker_unavailable"),
        (errors.BrokerUnreachable(), "broker_unavailable"),
        (errors.ConnectionLost(), "broker_unavailable"),
        (errors.PutUncertain(), "broker_unavailable"),
        (errors.BrokerRefused(code=403), "failed"),
        (errors.Unroutable(), "failed"),
        (errors.IllegalMove(), "failed"),
        (errors.WorkQueueClosed(), "shutting_down"),
        (ControlError("shutting_down", "too late"), "shutting_down"),
    ],
)
def test_what_the_daemon_raises_gets_a_code_and_keeps_its_words(
    steering: FakeSteering, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(topics: Sequence[str]) -> None:
        raise error

    monkeypatch.setattr(steering, "pause", fail)
    refused = refusal(steering, "pause", all=True)
    assert (refused.code, str(refused)) == (code, str(error))
