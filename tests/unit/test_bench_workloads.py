"""What the bench runs: names that lead somewhere, and what is run of them when not all is."""

from __future__ import annotations

import pytest

from tests.bench.contenders import CONTENDERS
from tests.bench.run import plan
from tests.bench.trials import KINDS
from tests.bench.workloads import WORKLOADS, Row, Workload, chosen, compared, quick

ROWS = {Row(each.name, contender) for each in WORKLOADS for contender in each.contenders}


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_word_of_a_workload_has_a_meaning(workload: Workload) -> None:
    assert workload.kind in KINDS
    assert set(workload.contenders) <= set(CONTENDERS)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_everything_that_a_target_names_is_run(workload: Workload) -> None:
    assert {target.of for target in workload.targets} <= set(workload.contenders)
    assert workload.rows_compared_with <= ROWS


def test_no_two_workloads_share_a_name() -> None:
    assert len({each.name for each in WORKLOADS}) == len(WORKLOADS)


def test_without_a_choice_everything_is_run() -> None:
    assert chosen([]) == WORKLOADS


def test_a_choice_may_name_a_group() -> None:
    assert [each.name for each in chosen(["topics"])] == ["topics-1", "topics-10", "topics-100", "topics-1000"]


def test_a_choice_of_nothing_that_exists_is_empty() -> None:
    assert chosen(["nonsense"]) == ()


def test_what_chosen_ones_are_compared_with_is_run_too() -> None:
    # When only that with the most topics is chosen
    others = [each for each in compared(chosen(["topics-1000"])) if each.name != "topics-1000"]

    # Then what it is compared with is measured as well, and nothing is asked of that
    assert [(each.name, each.contenders, each.targets) for each in others] == [("topics-1", ("hopd",), ())]


def test_nothing_is_added_to_what_is_complete() -> None:
    assert compared(WORKLOADS) == WORKLOADS


def test_a_contender_that_is_absent_is_not_run() -> None:
    assert all(row.contender != "celery" for _, _, row in plan(WORKLOADS, 1, {"celery"}))


def test_the_rounds_of_what_is_compared_follow_each_other_and_turn() -> None:
    rows = [(number, row.workload) for number, _, row in plan(chosen(["start", "waiting"]), 2, ())]

    assert rows == [
        (0, "start"),
        (1, "start"),
        (0, "waiting-1000"),
        (0, "waiting-100000"),
        (1, "waiting-100000"),
        (1, "waiting-1000"),
    ]


def test_a_quick_look_takes_fewer_jobs_but_not_where_their_number_is_the_point() -> None:
    jobs = {each.name: each.jobs for each in WORKLOADS}
    fewer = {each.name for each in map(quick, WORKLOADS) if each.jobs < jobs[each.name]}

    assert {"no-op", "random", "put"} <= fewer
    assert {"start", "waiting-100000", "concurrency-10000"}.isdisjoint(fewer)
