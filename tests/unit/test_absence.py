"""When the event loop counts as missing, as tables of looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.engine.absence import Absence, Back, Hopeless, Missing

REPORT, EXIT = 2.0, 10.0

Change = Missing | Back | Hopeless | None


class Looks:
    """Looks from time 0 on, each at a moment, with the loop last seen at another."""

    def __init__(self, exit_after: float | None = EXIT) -> None:
        self.absence = Absence(REPORT, exit_after, now=0.0)

    def at(self, now: float, *, seen: float, late: float = 0.0, computed: float = 0.0) -> Change:
        return self.absence.look(now, seen, late, computed)


@pytest.fixture
def looks() -> Looks:
    return Looks()


def test_a_loop_that_was_seen_lately_is_not_missing(looks: Looks) -> None:
    assert [looks.at(now, seen=now - 1.9) for now in (2.0, 5.0, 100.0)] == [None, None, None]


def test_a_loop_that_was_not_seen_for_long_is_missing_once(looks: Looks) -> None:
    assert [looks.at(now, seen=1.0) for now in (2.9, 3.0, 3.1, 9.0)] == [None, Missing(2.0), None, None]


def test_it_is_back_once_with_the_time_from_mark_to_mark(looks: Looks) -> None:
    looks.at(3.0, seen=1.0)

    assert [looks.at(6.0, seen=5.5), looks.at(6.2, seen=6.1)] == [Back(4.5), None]


def test_the_next_absence_is_reported_again(looks: Looks) -> None:
    looks.at(3.0, seen=1.0)
    looks.at(4.0, seen=4.0)

    assert looks.at(6.0, seen=4.0) == Missing(2.0)


def test_a_loop_that_does_not_come_back_is_hopeless(looks: Looks) -> None:
    looks.at(3.0, seen=1.0)

    assert [looks.at(now, seen=1.0) for now in (10.9, 11.0)] == [None, Hopeless(10.0)]


def test_no_loop_is_hopeless_without_a_limit() -> None:
    looks = Looks(exit_after=None)
    looks.at(3.0, seen=1.0)

    assert looks.at(1e6, seen=1.0) is None


def test_the_absence_is_reported_before_it_is_hopeless(looks: Looks) -> None:
    assert [looks.at(50.0, seen=1.0), looks.at(50.2, seen=1.0)] == [Missing(49.0), Hopeless(49.2)]


# --- a process that was stopped --------------------------------------------------------------------


def test_a_judge_that_was_stopped_itself_does_not_complain(looks: Looks) -> None:
    assert looks.at(3600.0, seen=1.0, late=3598.0, computed=0.1) is None


def test_after_a_stop_the_time_begins_anew(looks: Looks) -> None:
    looks.at(100.0, seen=1.0, late=98.0)

    assert [looks.at(now, seen=1.0) for now in (101.9, 102.0)] == [None, Missing(2.0)]


def test_a_stop_is_not_a_reason_to_leave_either(looks: Looks) -> None:
    looks.at(3.0, seen=1.0)

    assert [looks.at(500.0, seen=1.0, late=490.0), looks.at(509.9, seen=1.0), looks.at(510.0, seen=1.0)] == [None, None, Hopeless(10.0)]


def test_a_judge_that_is_kept_from_running_by_a_process_that_computes_does_complain(looks: Looks) -> None:
    assert looks.at(8.0, seen=1.0, late=6.9, computed=6.8) == Missing(7.0)


def test_a_judge_that_only_had_to_wait_its_turn_complains(looks: Looks) -> None:
    assert looks.at(3.0, seen=1.0, late=0.9) == Missing(2.0)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 30), st.floats(0, 1), st.booleans(), st.floats(0, 1)),
        max_size=60,
    )
)
def test_every_absence_begins_once_and_ends_once(steps: list[tuple[float, float, bool, float]]) -> None:
    """Whatever the moments of the looks, the loop's marks, the judge's lateness."""
    looks = Looks(exit_after=None)
    now, seen, missing = 0.0, 0.0, False
    for passed, late, runs, computed in steps:
        now += passed
        seen = now if runs else seen
        change = looks.at(now, seen=seen, late=late * passed, computed=computed * passed)
        if isinstance(change, Missing):
            assert not missing
            assert now - seen >= change.seconds >= REPORT
        elif isinstance(change, Back):
            assert missing
            assert runs
        missing = isinstance(change, Missing) or (missing and not isinstance(change, Back))
        assert not (missing and runs)
