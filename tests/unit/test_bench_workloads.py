"""What the bench runs: names that lead somewhere, and what is run of them when not all is."""

from __future__ import annotations

import pytest

from tests.bench.contenders import CONTENDERS
from tests.bench.run import rows_of
from tests.bench.trials import KINDS
from tests.bench.workloads import CEILING, WORKLOADS, Row, Workload, chosen, compared, quick

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
    # When only the random workload is chosen
    rows = [row for _, row in rows_of(compared(chosen(["random"])), ())]

    # Then the ceiling is measured as well, and nothing else of its workload
    assert [row for row in rows if row.workload != "random"] == [CEILING]


def test_nothing_is_added_to_what_is_complete() -> None:
    assert compared(WORKLOADS) == WORKLOADS


def test_a_contender_that_is_absent_is_not_run() -> None:
    assert all(row.contender != "celery" for _, row in rows_of(WORKLOADS, {"celery"}))


def test_a_quick_look_takes_fewer_jobs_but_not_where_their_number_is_the_point() -> None:
    jobs = {each.name: each.jobs for each in WORKLOADS}
    fewer = {each.name for each in map(quick, WORKLOADS) if each.jobs < jobs[each.name]}

    assert {"no-op", "random", "put"} <= fewer
    assert {"start", "waiting-100000", "concurrency-10000"}.isdisjoint(fewer)
