"""The errors, by whose fault they are."""

from __future__ import annotations

import inspect

import pytest

import hopd
from hopd import errors
from hopd.errors import ConfigError, HopError, JobTimeout, Problem, PullTimeout, PutError, PutManyFailed, Unroutable

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BaseException)]
OF_OWN_SHAPE = (ConfigError, PutManyFailed, errors.ControlError)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_a_hop_error(kind: type[BaseException]) -> None:
    assert issubclass(kind, HopError)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OF_OWN_SHAPE])
def test_an_error_without_a_message_says_the_first_line_of_its_docstring(kind: type[HopError]) -> None:
    assert str(kind()) == (kind.__doc__ or "").splitlines()[0]


def test_a_pull_that_waited_too_long_is_a_timeout_to_python_too() -> None:
    assert issubclass(PullTimeout, TimeoutError)


def test_a_job_timeout_is_not_taken_for_a_failed_call_of_the_handlers_own() -> None:
    assert not issubclass(JobTimeout, OSError)


def test_what_a_handler_may_raise_is_part_of_the_public_face() -> None:
    assert (hopd.Retry, hopd.Bury, hopd.Drop, hopd.JobTimeout) == (errors.Retry, errors.Bury, errors.Drop, JobTimeout)


def test_a_problem_is_written_as_file_line_column_path_message() -> None:
    assert str(Problem("hopd.yaml", 3, 5, "topics.a", "is wrong")) == "hopd.yaml:3:5: topics.a: is wrong"


def test_a_problem_of_the_file_as_a_whole_has_no_line() -> None:
    assert str(Problem("hopd.yaml", 0, 0, "", "is empty")) == "hopd.yaml: is empty"


def test_a_config_error_lists_all_its_problems() -> None:
    error = ConfigError((Problem("f", 1, 1, "a", "x"), Problem("f", 2, 1, "b", "y")))

    assert str(error).splitlines() == ["f:1:1: a: x", "f:2:1: b: y"]


def test_a_failed_put_many_names_the_first_job_that_was_not_put() -> None:
    failures: dict[int, PutError] = {7: Unroutable(), 3: Unroutable("no such topic")}

    assert "number 3: no such topic" in str(PutManyFailed(5, failures))
