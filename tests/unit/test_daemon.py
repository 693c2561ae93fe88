"""The daemon before and beside its topics: what it is made of, its status, its deadlines. Whole lives are in tests/e2e."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any
from unittest.mock import Mock

import pytest

from hopd.config.load import load
from hopd.engine.consumer import Consumer
from hopd.engine.daemon import SETTLE_TIMEOUT, Daemon
from hopd.errors import ConfigError, ControlError
from hopd.version import __version__

CONFIG = """\
broker: {url: "amqp://hop:hunter2@broker.example/work"}
shutdown: {grace: 90s}
topics:
  images: {handler: "tests.support.handlers:record", concurrency: 7, paused: true}
  emails: {handler: "tests.support.handlers:RECORDER.handle"}
"""

COUNTERS = ("done", "failed", "retried", "requeued", "buried", "dropped", "lost", "redelivered")


def daemon(directory: Path, config: str = CONFIG, instance: str | None = None) -> Daemon:
    path = directory / "hopd.yaml"
    path.write_text(config)
    return Daemon(load(str(path), {}), instance)


def test_the_status_has_everything_that_scripts_rely_on(tmp_path: Path) -> None:
    status = daemon(tmp_path, instance="02").status()

    assert {"state", "version", "instance", "pid", "uptime", "started_at", "config", "broker", "publisher", "topics"} <= status.keys()
    assert (status["state"], status["version"], status["instance"]) == ("starting", __version__, "02")
    assert status["config"] == str(tmp_path / "hopd.yaml")
    link = {"state": "closed", "url": "amqp://hop:***@broker.example:5672/work", "attempt": 0, "next_try": None, "reason": None}
    assert status["publisher"] == link
    assert status["broker"] == {**link, "embedded": None}


def test_the_status_has_every_topic_with_its_counters(tmp_path: Path) -> None:
    images = daemon(tmp_path).status()["topics"]["images"]

    about = {name: images[name] for name in ("state", "reason", "handler", "concurrency", "prefetch", "running", "waiting")}
    assert about == {
        "state": "paused",
        "reason": None,
        "handler": "tests.support.handlers:record",
        "concurrency": 7,
        "prefetch": 21,
        "running": 0,
        "waiting": 0,
    }
    assert {name: images[name] for name in COUNTERS} == dict.fromkeys(COUNTERS, 0)


def test_the_topics_keep_the_order_of_the_config(tmp_path: Path) -> None:
    assert daemon(tmp_path).topic_names() == ["images", "emails"]


def test_all_handlers_that_cannot_be_resolved_are_told_at_once(tmp_path: Path) -> None:
    config = CONFIG.replace("handlers:record", "handlers:rekord").replace("RECORDER.handle", "RECORDER.missing")

    with pytest.raises(ConfigError) as refused:
        daemon(tmp_path, config)

    assert [(problem.line, problem.path) for problem in refused.value.problems] == [
        (4, "topics.images.handler"),
        (5, "topics.emails.handler"),
    ]


@pytest.mark.parametrize("how", [{"now": True, "grace": None}, {"now": False, "grace": None}, {"now": False, "grace": 3600.0}], ids=str)
def test_a_daemon_that_was_asked_to_leave_takes_no_more_orders(tmp_path: Path, how: dict[str, Any]) -> None:
    one = daemon(tmp_path)

    one.shutdown(**how)

    assert one.status()["state"] == "draining"
    for order in (one.pause, one.resume):
        with pytest.raises(ControlError) as refused:
            order(["emails"])
        assert refused.value.code == "shutting_down"


def test_a_drain_has_one_deadline_for_pausing_and_for_running_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a topic whose pause does not take effect, because its broker is mute, and whose jobs do not end
    monkeypatch.setattr(Consumer, "settled", False)
    monkeypatch.setattr(Consumer, "running", 2)
    one = daemon(tmp_path)
    began = monotonic()

    left = one.drain(["emails"], 0.05)

    assert left == {"emails": 2}
    assert monotonic() - began < SETTLE_TIMEOUT / 2


def test_a_pause_returns_when_its_topics_have_settled(tmp_path: Path) -> None:
    one = daemon(tmp_path)
    began = monotonic()

    one.pause(["emails"])

    assert monotonic() - began < SETTLE_TIMEOUT / 2
    assert one.status()["topics"]["emails"]["state"] == "paused"


def test_whatever_goes_wrong_with_a_reload_hopd_goes_on_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a daemon that runs, and has no descriptor left to look at a config with
    one = daemon(tmp_path)
    one._life.move("started")
    monkeypatch.setattr("hopd.engine.reload.load", Mock(side_effect=OSError(24, "Too many open files")))
    before = one.status()

    # When it is hung up on
    one._on_hangup()
    one._reload_unasked()

    # Then it says so and is as before
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "Too many open files" in said.getMessage()
    assert said.exc_info
    after = one.status()
    assert (after["state"], after["topics"]) == ("running", before["topics"])
