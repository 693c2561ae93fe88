"""The steps that delays are rounded to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.config.ladder import STEPS, step


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (0.0, 100),
        (0.1, 100),
        (0.101, 250),
        (0.2504, 250),
        (1.0, 1000),
        (1.5, 2000),
        (61.0, 120_000),
        (86_400.0, 86_400_000),
        (1e9, STEPS[-1]),
    ],
)
def test_a_delay_is_rounded_up_to_a_step(seconds: float, milliseconds: int) -> None:
    assert step(seconds) == milliseconds


@given(st.floats(0, STEPS[-1] / 1000))
def test_a_step_is_never_shorter_than_the_delay_by_more_than_half_a_millisecond(seconds: float) -> None:
    assert step(seconds) >= seconds * 1000 - 0.5


def test_steps_grow_by_at_most_two_and_a_half() -> None:
    assert all(lower < higher <= lower * 2.5 for lower, higher in pairwise(STEPS))


@pytest.mark.parametrize("seconds", [-1.0, float("-inf")])
def test_a_delay_in_the_past_is_the_first_step(seconds: float) -> None:
    assert step(seconds) == STEPS[0]


def test_an_endless_delay_is_the_last_step() -> None:
    assert step(float("inf")) == STEPS[-1]


def test_a_delay_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="delay"):
        step(float("nan"))
