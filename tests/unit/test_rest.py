"""A topic's breaker at work, without a topic: an executor, jobs and a clock that is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from hopd.amqp.wire import Delivery
from hopd.aside import Aside
from hopd.config.model import TopicSettings
from hopd.config.retry import FailurePolicy
from hopd.engine import rest as rest_module
from hopd.engine.executor import Executor
from hopd.engine.rest import Rest
from hopd.errors import Retry
from hopd.job import Job


class Scene:
    """A topic's executor with its rest. `now` is the time; jobs are run by calling the handler, and fail by a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, breaker: dict[str, Any] | None) -> None:
        self.now = 0.0
        self.changes = 0
        self.error: Exception | None = None
        monkeypatch.setattr(rest_module, "monotonic", lambda: self.now)
        settings = TopicSettings.model_validate({"name": "emails", "handler": "a:b", "breaker": breaker})
        self._aside: Aside = None  # type: ignore[assignment]  # no job is settled here
        self.executor = Executor(self._handle, FailurePolicy(), self._aside)
        self.rest = Rest(settings, self.executor, self._changed)

    def _handle(self, _job: Job) -> None:
        if self.error is not None:
            raise self.error

    def _changed(self) -> None:
        self.changes += 1

    def job(self) -> Job:
        return Job(Delivery(1, 1, False, b"", b"", b""), self._aside)

    def succeed(self) -> None:
        self.executor.handler(self.job())

    def fail(self, job: Job | None = None) -> None:
        self.executor.on_failed(job or self.job())


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch, {"failures": 3, "within": "10s", "pause": "30s"})


def open_breaker(scene: Scene) -> None:
    for _ in range(3):
        scene.fail()


def probe(scene: Scene) -> None:
    open_breaker(scene)
    scene.now = 30.0
    assert scene.rest.probe()


def test_a_topic_without_a_breaker_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, None)
    for _ in range(1000):
        scene.fail()
    assert not scene.rest.resting
    assert scene.rest.left() is None
    assert scene.rest.reason() is None
    assert scene.rest.status() == {"breaker": None, "breaker_opened": 0}


def test_too_many_failures_make_it_rest(scene: Scene) -> None:
    open_breaker(scene)
    assert scene.rest.resting
    assert scene.changes == 1
    assert scene.rest.left() == 30.0
    assert scene.rest.status() == {"breaker": "open", "breaker_opened": 1}


def test_successes_pay_nothing_but_while_it_probes(scene: Scene) -> None:
    own = scene.executor.handler
    open_breaker(scene)
    assert scene.executor.handler == own
    scene.now = 30.0
    scene.rest.probe()
    assert scene.executor.handler != own
    scene.succeed()
    assert scene.executor.handler == own


def test_it_does_not_probe_before_its_time(scene: Scene) -> None:
    open_breaker(scene)
    scene.now = 29.9
    assert not scene.rest.probe()
    assert not scene.rest.probing


def test_a_probe_that_succeeds_ends_it(scene: Scene) -> None:
    probe(scene)
    scene.succeed()
    assert not scene.rest.probing
    assert scene.changes == 2
    assert scene.rest.reason() is None


def test_a_probe_that_fails_makes_it_rest_again(scene: Scene) -> None:
    # Given a probe whose handler raises
    scene.error = ConnectionRefusedError()
    probe(scene)
    tried = scene.job()
    with pytest.raises(ConnectionRefusedError):
        scene.executor.handler(tried)
    # When the executor tells of it
    scene.fail(tried)
    # Then the next one is tried after another pause
    assert scene.rest.resting
    assert scene.rest.left() == 30.0
    assert scene.rest.status() == {"breaker": "open", "breaker_opened": 2}


def test_a_probe_that_decides_about_its_job_says_nothing(scene: Scene) -> None:
    # Given a probe whose handler wants its job later: the executor counts that as no failure
    scene.error = Retry(60.0)
    probe(scene)
    with pytest.raises(Retry):
        scene.succeed()
    # Then the next job is a probe too
    assert scene.rest.probing
    scene.error = None
    scene.succeed()
    assert not scene.rest.probing


def test_an_older_job_that_fails_meanwhile_says_nothing_about_the_probe(scene: Scene) -> None:
    probe(scene)
    scene.fail(scene.job())
    assert scene.rest.probing
    assert scene.changes == 1


def test_an_operator_ends_it(scene: Scene) -> None:
    open_breaker(scene)
    scene.rest.cancel()
    assert not scene.rest.resting
    assert scene.rest.left() is None
    # And begins to count anew
    scene.fail()
    scene.fail()
    assert not scene.rest.resting


def test_an_operator_ends_a_probe(scene: Scene) -> None:
    own = scene.executor.handler
    probe(scene)
    scene.rest.cancel()
    assert not scene.rest.probing
    assert scene.executor.handler == own
