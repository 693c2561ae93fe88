"""How a delay is walked in steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from itertools import cycle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hopd import names
from hopd.amqp.properties import Properties, decode, encode
from hopd.config.ladder import STEPS
from hopd.delay import MARK, MAX_DELAY, PLAIN, first_wait, next_wait, slack

NOW = 1_700_000_000.0
DAY = 86_400.0

#: What is promised: 1 % of the delay, or 1 s.
PROMISED_SHARE, PROMISED_LEAST = 0.01, 1.0

#: The most moves a delay of up to 30 days may cost.
MOST_STEPS = 12

DELAYS = st.one_of(
    st.floats(0, 30 * DAY),
    st.floats(0, 100),
    st.sampled_from(STEPS).flatmap(lambda step: st.integers(-3, 3).map(lambda off: max(0.0, (step + off) / 1000))),
)
SKEWS = st.lists(st.floats(-400 * DAY, 400 * DAY), min_size=1, max_size=5)


def walk(delay: float, *, skews: Sequence[float] = (0.0,), late: Callable[[int], float] = lambda stop: 0.0) -> tuple[int, float]:
    """Put a job and let it wait; returns its stops and when it was handed out, in seconds after the put.

    `skews` are the clocks of those who receive it, in turn; `late` is how much longer than its step a stop takes.
    """
    clocks = cycle(skews)
    wait = first_wait(delay, None, NOW + next(clocks))
    elapsed, stops = 0.0, 0
    while wait is not None:
        elapsed += wait.step / 1000 + late(stops)
        stops += 1
        assert stops < 100, "it never ends"
        wait = next_wait(wait.headers, NOW + elapsed + next(clocks))
    return stops, elapsed


def promised(delay: float) -> float:
    return max(PROMISED_LEAST, PROMISED_SHARE * delay)


@settings(deadline=None)
@given(DELAYS)
@example(30 * DAY)
@example(342_164.918)
@example(1_724_527.062)
def test_a_job_comes_when_its_delay_is_over_and_never_before(delay: float) -> None:
    stops, elapsed = walk(delay)

    assert 0 <= elapsed - delay + 1e-6 <= promised(delay)
    assert stops <= MOST_STEPS


@settings(deadline=None)
@given(DELAYS, SKEWS)
def test_a_wrong_clock_never_makes_a_job_wait_longer_than_was_asked_for(delay: float, skews: list[float]) -> None:
    stops, elapsed = walk(delay, skews=skews)

    assert elapsed <= delay + promised(delay)
    assert stops <= MOST_STEPS


@settings(deadline=None)
@given(DELAYS, st.lists(st.floats(0, 7200), min_size=1, max_size=20))
def test_time_lost_on_the_way_is_part_of_the_delay(delay: float, lost: list[float]) -> None:
    spent: list[float] = []

    def late(stop: int) -> float:
        spent.append(lost[stop % len(lost)])
        return spent[-1]

    stops, elapsed = walk(delay, late=late)

    # The last stop's is nobody's to make good.
    assert elapsed - delay <= promised(delay) + (max(spent) if spent else 0.0)
    assert stops <= MOST_STEPS


@pytest.mark.parametrize(
    ("delay", "steps"),
    [
        (0.1, [100]),
        (5, [5000]),
        ("10m", [600_000]),
        ("7m", [300_000, 120_000]),
        (90, [60_000, 30_000]),
        (0.03, [100]),
        ("59m59s", [3_600_000]),
        ("30d", [30 * 86_400_000]),
    ],
)
def test_an_ordinary_delay_takes_few_steps(delay: float | str, steps: list[int]) -> None:
    taken: list[int] = []
    now = NOW
    wait = first_wait(delay, None, now)
    while wait is not None:
        taken.append(wait.step)
        now += wait.step / 1000
        wait = next_wait(wait.headers, now)

    assert taken == steps


def test_a_job_without_a_delay_or_with_one_that_is_over_is_due_at_once() -> None:
    past = datetime.fromtimestamp(NOW - 60, timezone.utc)

    assert [first_wait(None, None, NOW), first_wait(0, None, NOW), first_wait("0s", None, NOW), first_wait(None, past, NOW)] == [None] * 4


def test_a_moment_is_a_delay_until_then() -> None:
    moment = datetime.fromtimestamp(NOW, timezone.utc) + timedelta(minutes=7)

    wait = first_wait(None, moment.astimezone(timezone(timedelta(hours=-8))), NOW)

    assert wait == first_wait("7m", None, NOW)
    assert wait is not None
    assert wait.due_at == (NOW + 420) * 1000


@pytest.mark.parametrize(
    ("delay", "at", "reason"),
    [
        (5, datetime.fromtimestamp(NOW, timezone.utc), "one of them"),
        (None, datetime(2030, 1, 1), "time zone"),  # noqa: DTZ001 - that is the point
        (-1, None, "duration"),
        (float("nan"), None, "duration"),
        (float("inf"), None, "duration"),
        ("soon", None, "duration"),
        (True, None, "duration"),
        ("367d", None, "at most"),
        (None, datetime.max.replace(tzinfo=timezone.utc), "at most"),
    ],
)
def test_a_delay_that_makes_no_sense_says_why(delay: float | str | None, at: datetime | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        first_wait(delay, at, NOW)


def test_a_producer_that_knows_only_when_the_job_is_due_is_understood() -> None:
    wait = next_wait({names.DUE_AT: round(NOW * 1000) + 420_000}, NOW)

    assert wait == first_wait("7m", None, NOW)


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.datetimes())


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([names.DUE_AT, names.DELAY, names.DELAY_LEFT]), ANYTHING))
@example({names.DUE_AT: 1731536000001, names.DELAY: 86399999800})
def test_headers_written_by_anybody_end_the_delay_after_few_steps(headers: dict[str, object]) -> None:
    elapsed, stops = 0.0, 0
    wait = next_wait(headers, NOW)
    while wait is not None and stops < 50:
        elapsed += wait.step / 1000
        stops += 1
        wait = next_wait(wait.headers, NOW + elapsed)

    assert wait is None
    assert elapsed * 1000 <= MAX_DELAY + slack(MAX_DELAY)


@pytest.mark.parametrize("properties", [Properties(), Properties(delivery_mode=2, message_id="1", priority=3, timestamp=5, app_id="x")])
def test_properties_without_headers_need_not_be_searched(properties: Properties) -> None:
    assert encode(properties) <= PLAIN


@settings(deadline=None)
@given(DELAYS)
def test_the_mark_is_in_the_properties_of_every_job_that_waits(delay: float) -> None:
    wait = first_wait(delay, None, NOW)
    raw = encode(Properties(headers=wait.headers if wait else {"x": 1}, message_id="1"))

    assert (MARK in raw) == (wait is not None)
    assert raw > PLAIN
    if wait is not None:
        assert next_wait(decode(raw).headers, NOW) == next_wait(wait.headers, NOW)
