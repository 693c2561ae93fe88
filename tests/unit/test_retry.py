"""What a topic does with a job whose handler raised, as a table."""

from __future__ import annotations

from typing import Literal

import pytest

from hopd.config.retry import MAX_REASON, Bury, Drop, FailurePolicy, Outcome, Requeue, describe


class Unshowable(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("on_failure", "attempt", "error", "outcome"),
    [
        ("bury", 1, ValueError("no such user"), Bury("attempt 1 failed: ValueError: no such user")),
        ("bury", 7, KeyboardInterrupt(), Bury("attempt 7 failed: KeyboardInterrupt")),
        ("bury", 1, Unshowable(), Bury("attempt 1 failed: Unshowable: (its message cannot be shown: SystemExit)")),
        ("requeue", 1, ValueError("x"), Requeue()),
        ("requeue", 1000, SystemExit(3), Requeue()),
        ("drop", 1, RecursionError("x"), Drop()),
    ],
)
def test_the_outcome_of_a_failure_is_the_policys(
    on_failure: Literal["bury", "requeue", "drop"], attempt: int, error: BaseException, outcome: Outcome
) -> None:
    assert FailurePolicy(on_failure).decide(attempt, error) == outcome


def test_jobs_are_buried_unless_said_otherwise() -> None:
    assert isinstance(FailurePolicy().decide(1, ValueError()), Bury)


def test_a_huge_message_is_cut_so_that_it_fits_a_header() -> None:
    assert len(describe(ValueError("x" * 10_000_000))) == MAX_REASON


def test_a_message_that_utf_8_cannot_spell_is_made_one_that_it_can() -> None:
    assert describe(ValueError("\ud800")).encode() == b"ValueError: \\ud800"
