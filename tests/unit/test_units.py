"""Durations, sizes and times as people write them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.config.ladder import STEPS
from hopd.units import MAX_RETRY_DELAY, format_duration, format_size, parse_duration, parse_moment, parse_retry_delay, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2d", 172_800.0),
        (" 5s ", 5.0),
        (7, 7.0),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "1:30", "-5s", "5x", "1e3", "٣s", True, -1, math.nan, math.inf, 10**400, "99999999999d"]
)
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=59_999))
def test_milliseconds_under_a_minute_survive_being_written_and_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(min_value=0, max_value=10**9))
def test_writing_a_duration_loses_less_than_a_twentieth_of_it(seconds: int) -> None:
    read = parse_duration(format_duration(seconds))

    assert abs(read - seconds) <= seconds / 20


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (0.9999, "1s"), (59.9999, "60s"), (90, "1m30s"), (3725, "1h2m"), (86_400, "1d")]
)
def test_a_duration_is_written_in_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("text", "size"), [("16MiB", 16 * 1024**2), ("1.5GB", 1_500_000_000), ("100B", 100), ("2 kB", 2000), (7, 7)])
def test_a_size_is_read_as_people_write_it(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "16", "MiB", "16mib", "-1B", -1, True])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (1023, "1023B"), (16 * 1024**2, "16.0MiB"), (5 * 1024**4, "5120.0GiB")])
def test_a_size_is_written_in_binary_units(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_job_can_be_tried_again_after_the_ladders_longest_step_at_most() -> None:
    assert STEPS[-1] == MAX_RETRY_DELAY * 1000
    assert parse_retry_delay("30d") == MAX_RETRY_DELAY
    with pytest.raises(ValueError, match="at most 30d, got 31d"):
        parse_retry_delay("31d")


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("2026-12-31T08:00:00", None),
        ("2026-12-31 08:00", None),
        ("2026-12-31T08:00:00Z", timezone.utc),
        ("2026-12-31T08:00:00.000z", timezone.utc),
        ("2026-12-31T08:00:00-05:00", timezone(timedelta(hours=-5))),
    ],
)
def test_a_moment_has_the_zone_it_was_given(text: str, zone: timezone | None) -> None:
    assert parse_moment(text) == datetime(2026, 12, 31, 8, tzinfo=zone)


@pytest.mark.parametrize("text", ["", "Z", "08:00", "2026-13-01", "tomorrow"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month"):
        parse_moment(text)
