from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hopd.engine.breaker import CLOSED, OPEN, PROBING, Breaker, BreakerPolicy

POLICY = BreakerPolicy(failures=3, within=10.0, pause=30.0)


def opened(now: float = 2.0) -> Breaker:
    breaker = Breaker(POLICY)
    for moment in (now - 2, now - 1, now):
        breaker.failed(moment)
    return breaker


def test_enough_failures_within_the_time_open_it() -> None:
    # Given a breaker that has seen two failures
    breaker = Breaker(POLICY)
    assert not breaker.failed(0.0)
    assert not breaker.failed(1.0)
    # When a third one comes in time, Then it opens
    assert breaker.failed(10.0)
    assert breaker.state == OPEN
    assert breaker.probes_at == 40.0


def test_failures_spread_over_a_longer_time_do_not_open_it() -> None:
    breaker = Breaker(POLICY)
    assert not any(breaker.failed(moment) for moment in (0.0, 6.0, 12.0, 18.0, 24.0))


def test_jobs_still_running_when_it_opened_do_not_prolong_the_rest() -> None:
    # Given an open breaker
    breaker = opened(now=2.0)
    # When a job that ran meanwhile fails, Then the rest ends when it would have ended
    assert not breaker.failed(20.0)
    assert breaker.probes_at == 32.0


def test_it_probes_only_after_its_pause() -> None:
    breaker = opened(now=2.0)
    assert not breaker.probe(31.9)
    assert breaker.probe(32.0)
    assert breaker.state == PROBING


def test_a_probe_that_succeeds_closes_it() -> None:
    # Given a probing breaker
    breaker = opened(now=2.0)
    breaker.probe(32.0)
    # When the probe succeeds
    assert breaker.succeeded()
    # Then it is closed, and old failures are forgotten
    assert breaker.state == CLOSED
    assert not breaker.failed(33.0)


def test_a_probe_that_fails_opens_it_for_another_pause() -> None:
    breaker = opened(now=2.0)
    breaker.probe(32.0)
    assert breaker.failed(33.0)
    assert breaker.probes_at == 63.0


def test_the_reason_says_what_happened_and_when_it_goes_on() -> None:
    assert opened(now=2.0).reason(12.0) == "breaker: 3 jobs failed within 10 s; one is tried in 20 s"


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60))
def test_it_never_opens_without_enough_failures_since_it_last_closed(steps: list[tuple[float, bool]]) -> None:
    # Given any history of jobs
    breaker, now, since_closed = Breaker(POLICY), 0.0, 0
    for pause, success in steps:
        now += pause
        breaker.probe(now)
        before = breaker.state
        if success:
            since_closed = 0 if breaker.succeeded() else since_closed
        elif before == CLOSED:
            since_closed += 1
            # Then opening takes at least as many failures as the policy says
            assert not breaker.failed(now) or since_closed >= POLICY.failures
        else:
            breaker.failed(now)
        if breaker.state != CLOSED:
            since_closed = 0 if before != CLOSED else since_closed
