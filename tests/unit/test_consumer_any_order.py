"""A topic's consumer, whatever happens to it in whatever order."""

from __future__ import annotations

import logging

from hypothesis import given, settings
from hypothesis import strategies as st

from hopd.amqp.recovery import Backoff
from hopd.engine import consumer as consumer_module
from hopd.errors import BrokerRefused, BrokerTimeout
from tests.support.loop import run_until, take_turns
from tests.support.topic_stage import Stage

_STEPS = st.lists(
    st.one_of(
        st.sampled_from([("pause", 0), ("resume", 0), ("lose", 0), ("away", 0), ("back", 0), ("refuse", 0), ("timeout", 0), ("bug", 0)]),
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("turns"), st.integers(1, 8)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=_STEPS, turns=st.integers(0, 3), paused_at_the_end=st.booleans())
def test_in_whatever_order_things_happen_no_job_is_lost_and_the_operators_last_word_counts(
    steps: list[tuple[str, int]], turns: int, paused_at_the_end: bool
) -> None:
    logging.disable(logging.CRITICAL)
    kept, consumer_module.PAUSES = consumer_module.PAUSES, Backoff(first=1e-6, cap=1e-6)
    try:
        _play(steps, turns, paused_at_the_end)
    finally:
        consumer_module.PAUSES = kept
        logging.disable(logging.NOTSET)


def _play(steps: list[tuple[str, int]], turns: int, paused_at_the_end: bool) -> None:
    one = Stage(concurrency=3)
    broker = one.broker
    broker.script.turns = turns
    one.consumer.start()
    for step, count in steps:
        if step == "deliver" and broker.channels and broker.present.consuming:
            broker.present.deliver(count)
        elif step == "turns":
            take_turns(count)
        elif step == "pause":
            one.consumer.pause()
        elif step == "resume":
            one.consumer.resume()
        elif step == "lose" and broker.channels:
            broker.present.lose()
        elif step == "away":
            broker.go_away()
        elif step == "back":
            broker.come_back()
        elif step in ("refuse", "timeout", "bug"):
            error = {"refuse": BrokerRefused(code=403), "timeout": BrokerTimeout(), "bug": RuntimeError()}[step]
            broker.script.fail(("declare", "qos", "consume", "cancel")[len(broker.script.calls) % 4], error)
    broker.come_back()
    broker.script.errors.clear()
    if paused_at_the_end:
        one.consumer.pause()
        run_until(lambda: one.consumer.settled and one.state == "paused" and one.count("running") == 0)
        take_turns(20)
        assert not any(channel.consuming for channel in broker.channels)
    else:
        one.consumer.resume()
        one.until_consuming()
        broker.present.deliver(3)
        run_until(lambda: one.count("running") == one.count("waiting") == 0)
        assert [channel.consuming for channel in broker.channels] == [False] * (len(broker.channels) - 1) + [True]
    # On a channel that lives every job was settled; on one that is gone the broker has them back.
    for channel in broker.channels:
        assert channel.closed or channel.lost is not None or channel.settlement.unsettled == 0
    assert one.count("done") + one.count("lost") == len(one.ran)
    one.leave()
    assert one.state == "stopped"
