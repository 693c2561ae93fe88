"""What a topic does with a job whose handler raised: a table, and what holds for any policy."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd import errors
from hopd.config.retry import MAX_REASON, Bury, Drop, FailurePolicy, Outcome, Requeue, RetryAfter, RetryPolicy, describe


class Unshowable(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Refused(ValueError):
    """An error of the users' own."""


NO_USER = ValueError("no such user")
#: No chance is taken: a whole delay.
WHOLE, NEARLY_HALF = 0.0, 0.999


# --- without retry ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_failure", "attempt", "error", "outcome"),
    [
        ("bury", 1, NO_USER, Bury("attempt 1 failed: ValueError: no such user")),
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
    assert FailurePolicy(on_failure).decide(attempt, error, WHOLE) == outcome


def test_jobs_are_buried_unless_said_otherwise() -> None:
    assert isinstance(FailurePolicy().decide(1, ValueError(), WHOLE), Bury)


# --- with retry ---------------------------------------------------------------------------------

LAST = Bury("attempt 8 of 8 failed: ValueError: no such user")
NOT_AGAIN = "attempt 1 failed with an error that is not tried again: "


@pytest.mark.parametrize(
    ("options", "attempt", "error", "outcome"),
    [
        ({}, 1, NO_USER, RetryAfter(1.0)),
        ({}, 2, NO_USER, RetryAfter(2.0)),
        ({}, 7, NO_USER, RetryAfter(64.0)),
        ({}, 8, NO_USER, LAST),
        ({}, 9, NO_USER, Bury("attempt 9 of 8 failed: ValueError: no such user")),
        ({"max_attempts": 1}, 1, NO_USER, Bury("attempt 1 of 1 failed: ValueError: no such user")),
        ({"max": 30.0}, 6, NO_USER, RetryAfter(30.0)),
        ({"first": 5.0}, 3, NO_USER, RetryAfter(20.0)),
        ({"backoff": "fixed", "first": 5.0}, 7, NO_USER, RetryAfter(5.0)),
        ({"backoff": (1.0, 10.0, 300.0)}, 1, NO_USER, RetryAfter(1.0)),
        ({"backoff": (1.0, 10.0, 300.0)}, 3, NO_USER, RetryAfter(300.0)),
        ({"backoff": (1.0, 10.0, 300.0)}, 7, NO_USER, RetryAfter(300.0)),
        ({}, 1, SystemExit(3), Bury(NOT_AGAIN + "SystemExit: 3")),
        ({}, 1, KeyboardInterrupt(), Bury(NOT_AGAIN + "KeyboardInterrupt")),
        ({"on": (BaseException,)}, 1, SystemExit(3), RetryAfter(1.0)),
        ({"on": (OSError,)}, 1, ConnectionResetError("reset"), RetryAfter(1.0)),
        ({"on": (OSError,)}, 1, NO_USER, Bury(NOT_AGAIN + "ValueError: no such user")),
        ({"on": (OSError, ValueError)}, 1, NO_USER, RetryAfter(1.0)),
        ({"never": (ValueError,)}, 1, Refused("twice"), Bury(NOT_AGAIN + "Refused: twice")),
        ({"never": (Refused,)}, 1, NO_USER, RetryAfter(1.0)),
        ({"on": (Refused,), "never": (ValueError,)}, 1, Refused("twice"), Bury(NOT_AGAIN + "Refused: twice")),
        ({}, 1, errors.JobTimeout(), RetryAfter(1.0)),
        ({"never": (errors.JobTimeout,)}, 1, errors.JobTimeout("60 s"), Bury(NOT_AGAIN + "JobTimeout: 60 s")),
    ],
)  # fmt: skip
def test_a_failed_job_is_tried_again_as_the_policy_says(
    options: dict[str, Any], attempt: int, error: BaseException, outcome: Outcome
) -> None:
    assert FailurePolicy("bury", RetryPolicy(**{"jitter": False, **options})).decide(attempt, error, WHOLE) == outcome


@pytest.mark.parametrize(("on_failure", "outcome"), [("bury", LAST), ("requeue", Requeue()), ("drop", Drop())])
def test_what_is_not_tried_again_is_the_policys_on_failure(on_failure: Literal["bury", "requeue", "drop"], outcome: Outcome) -> None:
    assert FailurePolicy(on_failure, RetryPolicy()).decide(8, NO_USER, WHOLE) == outcome


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 8.0), (0.5, 6.0), (0.75, 5.0)])
def test_jitter_cuts_a_delay_by_up_to_its_half(chance: float, seconds: float) -> None:
    assert FailurePolicy("bury", RetryPolicy(first=8.0)).decide(1, NO_USER, chance) == RetryAfter(seconds)


# --- what the handler decides itself ------------------------------------------------------------

RETRIES = RetryPolicy(max_attempts=3, first=5.0, jitter=False)


@pytest.mark.parametrize(
    ("decision", "attempt", "outcome"),
    [
        (errors.Retry(after=90), 1, RetryAfter(90.0)),
        (errors.Retry(after="10m"), 1, RetryAfter(600.0)),
        (errors.Retry(after=90), 1000, RetryAfter(90.0)),
        (errors.Retry(after=0), 1, RetryAfter(0.0)),
        (errors.Retry(), 2, RetryAfter(10.0)),
        (errors.Retry(), 4, RetryAfter(40.0)),
        (errors.Bury("no such customer"), 1, Bury("no such customer")),
        (errors.Drop(), 1, Drop()),
    ],
)  # fmt: skip
def test_a_handler_decides_about_its_job_whatever_the_policy_says(decision: errors.Decision, attempt: int, outcome: Outcome) -> None:
    policies = [FailurePolicy(on_failure, RETRIES) for on_failure in ("bury", "requeue", "drop")]
    policies.append(FailurePolicy("bury", RetryPolicy(3, first=5.0, jitter=False, on=(OSError,), never=(errors.HopError,))))

    assert [policy.decide(attempt, decision, WHOLE) for policy in policies] == [outcome] * 4


def test_a_handler_may_ask_for_one_more_attempt_where_the_topic_has_none() -> None:
    assert FailurePolicy().decide(3, errors.Retry(), WHOLE) == RetryAfter(4.0)


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), "soon", True])
def test_a_delay_that_is_none_is_refused_where_it_is_raised(after: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        errors.Retry(after)


def test_what_no_decision_says_is_left_to_the_policy() -> None:
    assert FailurePolicy("requeue").decide(1, errors.Decision(), WHOLE) == Requeue()


# --- whatever the policy ------------------------------------------------------------------------

CLASSES = (Exception, ValueError, Refused, OSError, ConnectionError, KeyError, SystemExit, BaseException)
ERRORS = st.sampled_from([ValueError(), Refused(), OSError(), ConnectionResetError(), KeyError(), SystemExit(), KeyboardInterrupt()])
SECONDS = st.floats(0.1, 30 * 86_400.0)
SOME_CLASSES = st.lists(st.sampled_from(CLASSES), max_size=3).map(tuple)
RETRY_POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 10_000),
    backoff=st.sampled_from(["exponential", "fixed"]) | st.lists(SECONDS, min_size=1, max_size=9).map(tuple),
    first=SECONDS,
    max=SECONDS,
    jitter=st.booleans(),
    on=SOME_CLASSES,
    never=SOME_CLASSES,
)
POLICIES = st.builds(FailurePolicy, st.sampled_from(["bury", "requeue", "drop"]), st.none() | RETRY_POLICIES)
ATTEMPTS = st.integers(1, 12) | st.integers(1, 2**63)
CHANCES = st.floats(0.0, 1.0, exclude_max=True)


@given(policy=RETRY_POLICIES, attempt=ATTEMPTS, chance=CHANCES)
def test_a_delay_is_never_longer_than_the_longest_and_never_negative(policy: RetryPolicy, attempt: int, chance: float) -> None:
    assert 0.0 < policy.delay(attempt, chance) <= policy.max


@given(policy=RETRY_POLICIES, attempt=ATTEMPTS, chance=CHANCES)
def test_jitter_leaves_at_least_half_of_a_delay(policy: RetryPolicy, attempt: int, chance: float) -> None:
    whole = policy.delay(attempt, WHOLE)

    assert whole / 2 <= policy.delay(attempt, chance) <= whole


@given(policy=RETRY_POLICIES.filter(lambda policy: isinstance(policy.backoff, str)), attempt=ATTEMPTS)
def test_without_a_list_delays_do_not_shrink(policy: RetryPolicy, attempt: int) -> None:
    assert policy.delay(attempt, WHOLE) <= policy.delay(attempt + 1, WHOLE)


@given(policy=POLICIES, attempt=ATTEMPTS, error=ERRORS, chance=CHANCES)
def test_attempts_are_bounded(policy: FailurePolicy, attempt: int, error: BaseException, chance: float) -> None:
    limit = policy.retry.max_attempts if policy.retry else 1

    assert attempt < limit or not isinstance(policy.decide(attempt, error, chance), RetryAfter)


@given(policy=POLICIES, error=ERRORS, chance=CHANCES)
def test_never_wins_over_on(policy: FailurePolicy, error: BaseException, chance: float) -> None:
    retry = policy.retry
    outcome = policy.decide(1, error, chance)

    if retry is None or isinstance(error, retry.never) or not isinstance(error, retry.on):
        assert not isinstance(outcome, RetryAfter)
    elif retry.max_attempts > 1:
        assert isinstance(outcome, RetryAfter)


@given(policy=POLICIES, attempt=ATTEMPTS, error=ERRORS, chance=CHANCES)
def test_the_same_failure_has_the_same_outcome(policy: FailurePolicy, attempt: int, error: BaseException, chance: float) -> None:
    assert policy.decide(attempt, error, chance) == policy.decide(attempt, error, chance)


# --- an error as a reason -----------------------------------------------------------------------


def test_a_huge_message_is_cut_so_that_it_fits_a_header() -> None:
    assert len(describe(ValueError("x" * 10_000_000))) == MAX_REASON


def test_a_message_that_utf_8_cannot_spell_is_made_one_that_it_can() -> None:
    assert describe(ValueError("\ud800")).encode() == b"ValueError: \\ud800"
