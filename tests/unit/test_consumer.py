"""One topic's consumer against a broker that answers as the test wants: consuming, pause, recovery."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hopd.amqp.recovery import Backoff
from hopd.engine import consumer as consumer_module
from hopd.errors import BrokerRefused, BrokerTimeout, ChannelLost
from tests.support.fake_broker import LONG
from tests.support.loop import run_until, take_turns
from tests.support.topic_stage import Make, Pauses, stages


@pytest.fixture
def stage() -> Iterator[Make]:
    with stages() as make:
        yield make


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Short pauses, and which failure in a row each of them followed."""
    monkeypatch.setattr(consumer_module, "PAUSES", Pauses())
    Pauses.asked.clear()
    return Pauses.asked


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["event"] for record in caplog.records if "event" in vars(record)]


# --- consuming --------------------------------------------------------------------------------------


def test_a_topic_is_declared_before_its_channel_is_opened_and_limited_before_it_consumes(stage: Make) -> None:
    one = stage().consume()

    assert one.calls == ["connection", "declare", "channel", "qos", "consume"]


def test_each_delivery_is_handled_and_done(stage: Make) -> None:
    one = stage().consume()

    one.broker.present.deliver(10)
    run_until(lambda: len(one.ran) == 10)

    run_until(lambda: one.count("running") == 0)
    assert (one.count("done"), one.count("waiting")) == (10, 0)


def test_what_was_delivered_before_is_counted(stage: Make) -> None:
    one = stage().consume()

    one.broker.present.deliver(3, redelivered=True)
    one.broker.present.deliver(2)

    assert one.count("redelivered") == 3


# --- pause and resume -------------------------------------------------------------------------------


def test_a_pause_returns_what_waits_and_lets_what_runs_finish(stage: Make) -> None:
    # Given two running jobs and three that wait
    one = stage().consume()
    one.gate.clear()
    one.broker.present.deliver(5)
    run_until(lambda: one.count("running") == 2)

    one.consumer.pause()
    one.until_settled()

    assert one.state == "paused"
    assert one.broker.present.nacked() == [3, 4, 5]
    assert (one.count("running"), one.count("waiting")) == (2, 0)
    one.gate.set()
    run_until(lambda: one.count("done") == 2)
    assert one.ran == [1, 2]


def test_what_goes_back_unharmed_is_counted_nowhere(stage: Make) -> None:
    one = stage().consume()
    one.gate.clear()
    one.broker.present.deliver(5)
    one.consumer.pause()
    one.until_settled()

    assert (one.count("requeued"), one.count("lost")) == (0, 0)


def test_a_topic_that_is_paused_in_the_config_starts_paused(stage: Make) -> None:
    one = stage(paused=True)

    one.consumer.start()
    run_until(lambda: "channel" in one.calls)
    take_turns(10)

    assert one.state == "paused"
    assert "consume" not in one.calls


def test_a_resumed_topic_consumes_again_on_the_same_channel(stage: Make) -> None:
    one = stage(paused=True)
    one.consumer.start()
    run_until(lambda: "channel" in one.calls)

    one.consumer.resume()
    one.until_consuming()
    one.broker.present.deliver(1)

    run_until(lambda: one.ran == [1])
    assert len(one.broker.channels) == 1


def test_a_pause_that_comes_while_the_consumer_is_being_opened_wins(stage: Make) -> None:
    one = stage()
    answer = one.broker.script.hold("consume")
    one.consumer.start()
    run_until(lambda: "consume" in one.calls)

    one.consumer.pause()
    answer.set()
    one.until_settled()

    assert one.state == "paused"
    assert not one.broker.present.consuming


def test_a_resume_that_comes_while_the_consumer_is_being_cancelled_wins(stage: Make) -> None:
    one = stage().consume()
    answer = one.broker.script.hold("cancel")
    one.consumer.pause()
    run_until(lambda: "cancel" in one.calls)

    one.consumer.resume()
    answer.set()
    one.until_consuming()
    one.broker.present.deliver(1)

    run_until(lambda: one.ran == [1])


def test_a_job_that_is_delivered_while_the_consumer_is_being_cancelled_goes_back(stage: Make) -> None:
    one = stage().consume()
    answer = one.broker.script.hold("cancel")
    one.consumer.pause()
    run_until(lambda: "cancel" in one.calls)

    one.broker.present.deliver(1)
    answer.set()
    one.until_settled()

    assert one.broker.present.nacked() == [1]
    assert one.ran == []


def test_pausing_twice_and_resuming_twice_is_doing_it_once(stage: Make) -> None:
    one = stage().consume()

    one.consumer.pause()
    one.consumer.pause()
    one.until_settled()
    one.consumer.resume()
    one.consumer.resume()
    one.until_consuming()

    assert one.calls.count("cancel") == 1
    assert one.calls.count("consume") == 2


def test_a_topic_paused_and_resumed_in_one_breath_is_consuming(stage: Make) -> None:
    one = stage().consume()

    one.consumer.pause()
    one.consumer.resume()

    one.until_consuming()
    assert one.calls.count("consume") == 1


# --- losing the channel or the connection -------------------------------------------------------------


def test_a_lost_channel_is_replaced(stage: Make) -> None:
    one = stage().consume()

    one.broker.present.lose()
    run_until(lambda: len(one.broker.channels) == 2)
    one.until_consuming()
    one.broker.present.deliver(1)

    run_until(lambda: one.ran == [1])


def test_the_topic_is_declared_again_for_a_new_channel(stage: Make) -> None:
    one = stage().consume()

    one.broker.present.lose(ChannelLost("the broker cancelled the consumer: its queue was deleted"))
    run_until(lambda: one.calls.count("consume") == 2)

    assert one.calls[5:] == ["connection", "declare", "channel", "qos", "consume"]


def test_what_waited_on_a_lost_channel_is_not_run(stage: Make) -> None:
    one = stage(concurrency=1).consume()
    one.gate.clear()
    one.broker.present.deliver(3)
    run_until(lambda: one.count("running") == 1)

    one.broker.present.lose()
    run_until(lambda: len(one.broker.channels) == 2)
    one.gate.set()
    run_until(lambda: one.count("running") == 0)

    assert one.ran == [1]
    assert one.count("waiting") == 0


def test_a_job_that_ran_on_a_lost_channel_is_counted_as_lost(stage: Make) -> None:
    one = stage(concurrency=1).consume()
    one.gate.clear()
    one.broker.present.deliver(3)
    run_until(lambda: one.count("running") == 1)

    one.broker.present.lose()
    one.gate.set()
    run_until(lambda: one.count("running") == 0)

    assert (one.count("lost"), one.count("done")) == (1, 0)


def test_a_pause_sticks_when_the_connection_goes_and_comes_back(stage: Make) -> None:
    one = stage().consume()
    one.consumer.pause()
    one.until_settled()

    one.broker.go_away()
    run_until(lambda: one.reason)
    one.broker.come_back()
    run_until(lambda: len(one.broker.channels) == 2 and one.reason is None)

    assert one.state == "paused"
    assert one.calls.count("consume") == 1


def test_a_topic_resumed_while_the_broker_is_away_consumes_when_it_is_back(stage: Make) -> None:
    one = stage().consume()
    one.consumer.pause()
    one.until_settled()
    one.broker.go_away()
    run_until(lambda: one.reason)

    one.consumer.resume()
    away = one.state
    one.broker.come_back()

    one.until_consuming()
    assert away == "recovering"


def test_a_topic_paused_while_the_broker_is_away_does_not_consume_when_it_is_back(stage: Make) -> None:
    one = stage().consume()
    one.broker.go_away()
    run_until(lambda: one.state == "recovering")

    one.consumer.pause()
    one.broker.come_back()
    run_until(lambda: len(one.broker.channels) == 2)
    one.until_settled()

    assert one.state == "paused"
    assert one.calls.count("consume") == 1


# --- a broker that refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["declare", "channel", "qos", "consume"])
def test_a_refused_topic_has_failed_with_the_reason(stage: Make, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "PAUSES", Backoff(first=LONG, cap=LONG))
    one = stage()
    one.broker.script.fail(step, BrokerRefused("access refused (403)", code=403))

    one.consumer.start()
    run_until(lambda: one.state == "failed")

    assert one.reason == "access refused (403)"


@pytest.mark.parametrize("step", ["declare", "channel", "qos", "consume"])
def test_a_topic_that_is_not_refused_any_more_consumes_and_has_no_reason_left(stage: Make, step: str) -> None:
    one = stage()
    one.broker.script.fail(step, BrokerRefused("access refused (403)", code=403))

    one.consume()

    assert one.reason is None


@pytest.mark.parametrize("step", ["declare", "channel", "qos", "consume"])
def test_a_topic_that_stays_refused_is_asked_for_more_and_more_seldom(stage: Make, pauses: list[int], step: str) -> None:
    one = stage()
    one.broker.script.fail(step, *[BrokerRefused("locked (405)", code=405)] * 5)

    one.consume()

    assert pauses == [1, 2, 3, 4, 5]


def test_a_topic_that_consumed_in_between_comes_back_at_once(stage: Make, pauses: list[int]) -> None:
    one = stage().consume()

    for lost in range(1, 4):
        one.broker.present.lose()
        run_until(lambda lost=lost: one.calls.count("consume") == lost + 1)  # type: ignore[misc]
        one.until_consuming()

    assert pauses == [1, 1, 1]


def test_a_paused_topic_that_can_be_opened_comes_back_at_once(stage: Make, pauses: list[int]) -> None:
    one = stage(paused=True)
    one.consumer.start()
    for lost in range(3):
        run_until(lambda lost=lost: len(one.broker.channels) == lost + 1 and one.reason is None)  # type: ignore[misc]
        take_turns(10)
        one.broker.present.lose()
    run_until(lambda: len(pauses) == 3)

    assert pauses == [1, 1, 1]


def test_a_paused_topic_that_is_refused_stays_paused_and_tells_the_reason(stage: Make) -> None:
    one = stage(paused=True)
    one.broker.script.fail("declare", *[BrokerRefused("locked (405)", code=405)] * 10_000)

    one.consumer.start()
    run_until(lambda: one.reason)

    assert (one.state, one.reason) == ("paused", "locked (405)")


# --- a broker that does not answer ------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["qos", "consume"])
def test_a_channel_that_did_not_answer_is_closed_before_another_is_opened(stage: Make, step: str) -> None:
    """Else it could still have a consumer, whose jobs nobody would see."""
    one = stage()
    one.broker.script.fail(step, BrokerTimeout())

    one.consume()

    assert [channel.closed for channel in one.broker.channels] == [True, False]


def test_a_channel_that_does_not_answer_a_cancel_is_closed_and_its_jobs_return(stage: Make) -> None:
    # Given jobs that wait and a pause that the broker does not answer
    one = stage(concurrency=1).consume()
    one.gate.clear()
    one.broker.present.deliver(3)
    one.broker.script.fail("cancel", BrokerTimeout())

    one.consumer.pause()
    run_until(lambda: len(one.broker.channels) == 2)
    one.until_settled()

    # Then the old channel is gone, and with it all that was delivered there
    assert one.broker.channels[0].closed
    assert not one.broker.channels[1].consuming
    assert one.state == "paused"


# --- a bug ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["connection", "declare", "channel", "qos", "consume", "cancel"])
def test_an_error_of_our_own_is_told_and_does_not_end_the_topic(stage: Make, step: str, caplog: pytest.LogCaptureFixture) -> None:
    one = stage(paused=step == "cancel")
    one.broker.script.fail(step, RuntimeError("a bug"))
    one.consumer.start()
    if step == "cancel":
        one.consumer.resume()
        one.until_consuming()
        one.consumer.pause()
        run_until(lambda: len(one.broker.channels) == 2)
        one.consumer.resume()

    one.until_consuming()

    assert "consumer_failed" in events(caplog)
    assert any(record.exc_info for record in caplog.records)


def test_an_error_of_our_own_is_the_reason_in_the_status_while_it_lasts(stage: Make) -> None:
    one = stage()
    one.broker.script.fail("declare", *[RuntimeError("a bug")] * 10_000)

    one.consumer.start()
    run_until(lambda: one.reason)

    assert one.state == "failed"
    assert "RuntimeError" in (one.reason or "")
