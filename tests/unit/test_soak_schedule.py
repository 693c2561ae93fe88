"""The schedule of a soak: a pure function of its seed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.soak.faults import INJECTORS
from tests.soak.schedule import ALL, FIRST_AT, KINDS, LAST_BEFORE, plan

SEEDS = range(20)


def test_the_same_seed_gives_the_same_faults() -> None:
    assert plan(7, 600, 3) == plan(7, 600, 3)


def test_another_seed_gives_other_faults() -> None:
    assert plan(7, 600, 3) != plan(8, 600, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_minutes_hold_every_kind_of_fault(seed: int) -> None:
    assert {fault.kind for fault in plan(seed, 600, 3)} == set(KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_come_in_order_and_leave_time_at_both_ends(seed: int) -> None:
    times = [fault.at for fault in plan(seed, 120, 3)]

    assert times == sorted(times)
    assert times[0] >= FIRST_AT
    assert times[-1] < 120 - LAST_BEFORE


@pytest.mark.parametrize("seed", SEEDS)
def test_some_faults_happen_together_but_never_to_the_same_thing(seed: int) -> None:
    faults = plan(seed, 600, 3)
    together = [(one, other) for one, other in pairwise(faults) if other.at < one.at + one.seconds]

    assert together
    assert all(one.done_to != other.done_to for one, other in together)


@pytest.mark.parametrize("daemons", [1, 3])
def test_every_fault_hits_a_daemon_that_there_is_or_everybody(daemons: int) -> None:
    for fault in plan(1, 600, daemons):
        assert fault.target in range(daemons) if KINDS[fault.kind].one_daemon else fault.target == ALL


def test_only_the_kinds_that_were_asked_for_happen() -> None:
    assert {fault.kind for fault in plan(1, 300, 3, ["reset", "poison"])} == {"reset", "poison"}


def test_somebody_knows_how_to_do_each_kind() -> None:
    assert INJECTORS.keys() == KINDS.keys()
