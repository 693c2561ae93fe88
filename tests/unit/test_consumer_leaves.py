"""A topic that leaves: in which order, and that nothing keeps it longer than it has."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest

from hopd.amqp.recovery import Backoff
from hopd.engine import consumer as consumer_module
from hopd.engine import intake
from hopd.errors import BrokerRefused
from tests.support.fake_broker import LONG
from tests.support.loop import run_until, take_turns
from tests.support.topic_stage import Make, stages


@pytest.fixture
def stage() -> Iterator[Make]:
    with stages() as make:
        yield make


def test_a_topic_that_leaves_stops_taking_gives_back_lets_finish_and_closes_in_this_order(stage: Make) -> None:
    one = stage().consume()
    one.gate.clear()
    one.broker.present.deliver(5)
    run_until(lambda: one.count("running") == 2)
    one.broker.script.calls.clear()

    one.consumer.stop(monotonic() + LONG)
    run_until(lambda: one.count("waiting") == 0)
    draining = (one.state, one.count("running"), list(one.calls))
    one.gate.set()
    one.consumer.join()

    assert draining == ("draining", 2, ["cancel"])
    assert one.calls == ["cancel", "close"]
    assert (one.state, one.ran, one.count("done")) == ("stopped", [1, 2], 2)


def test_jobs_that_still_run_at_the_deadline_are_left_to_the_broker(stage: Make) -> None:
    one = stage().consume()
    one.gate.clear()
    one.broker.present.deliver(2)
    run_until(lambda: one.count("running") == 2)

    one.leave(grace=0.02)

    assert (one.count("running"), one.count("done"), one.ran) == (0, 0, [])
    assert one.broker.present.settlement.unsettled == 2


def test_a_deadline_can_only_come_closer(stage: Make) -> None:
    one = stage().consume()
    one.gate.clear()
    one.broker.present.deliver(1)
    run_until(lambda: one.count("running") == 1)

    one.consumer.stop(monotonic() + LONG)
    one.consumer.stop(monotonic())
    one.consumer.stop(monotonic() + LONG)
    one.consumer.join()

    assert one.state == "stopped"


@pytest.mark.parametrize("step", ["connection", "declare", "channel", "qos", "consume", "cancel"])
def test_leaving_does_not_wait_for_an_answer_that_does_not_come(stage: Make, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker that has become silent in the middle of a step
    monkeypatch.setattr(intake, "CLOSE_TIMEOUT", 0.02)
    one = stage(paused=step == "cancel")
    silence = one.broker.script.hold(step)
    one.consumer.start()
    if step == "cancel":
        one.consumer.resume()
        one.until_consuming()
        one.consumer.pause()
    run_until(lambda: step in one.calls)
    take_turns(3)
    began = monotonic()

    one.leave(grace=LONG)

    assert monotonic() - began < 5.0
    assert one.state == "stopped"
    assert not silence.is_set()


def test_leaving_waits_for_a_silent_broker_once_and_not_at_every_step(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CLOSE_TIMEOUT", 0.2)
    one = stage().consume()
    one.broker.script.hold("cancel")
    one.broker.script.hold("close")
    began = monotonic()

    one.leave()

    assert monotonic() - began < 0.35
    assert one.calls[-2:] == ["cancel", "close"]


def test_leaving_ends_the_pause_between_two_tries(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "PAUSES", Backoff(first=LONG, cap=LONG))
    one = stage()
    one.broker.script.fail("declare", BrokerRefused("locked (405)", code=405))
    one.consumer.start()
    run_until(lambda: one.state == "failed")
    began = monotonic()

    one.leave(grace=LONG)

    assert monotonic() - began < 5.0
    assert one.state == "stopped"


def test_a_topic_whose_broker_is_away_lets_its_jobs_finish_and_leaves(stage: Make) -> None:
    one = stage().consume()
    one.gate.clear()
    one.broker.present.deliver(1)
    run_until(lambda: one.count("running") == 1)
    one.broker.go_away()
    run_until(lambda: one.state == "recovering")

    one.consumer.stop(monotonic() + LONG)
    run_until(lambda: one.state == "draining")
    one.gate.set()
    one.consumer.join()

    assert (one.state, one.ran, one.count("lost")) == ("stopped", [1], 1)


def test_a_channel_lost_while_leaving_does_not_end_the_grace_of_its_jobs(stage: Make) -> None:
    one = stage().consume()
    one.gate.clear()
    one.broker.present.deliver(1)
    run_until(lambda: one.count("running") == 1)
    one.consumer.stop(monotonic() + LONG)
    run_until(lambda: "cancel" in one.calls)

    one.broker.present.lose()
    take_turns(10)
    one.gate.set()
    one.consumer.join()

    assert (one.state, one.ran) == ("stopped", [1])


def test_a_topic_that_was_never_started_leaves_at_once(stage: Make) -> None:
    one = stage()

    one.leave(grace=LONG)

    assert one.state in ("draining", "stopped")
