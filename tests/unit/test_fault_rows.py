"""The register of faults says the truth: every row has tests, and every test it names is there."""

from __future__ import annotations

import ast

import pytest

from tests.fault.rows import EVERYTHING, ROWS
from tests.support.process import ROOT


def names_in(file: str) -> set[str]:
    """The tests of a file below tests/, by reading it."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def there(test: str) -> bool:
    file, _, name = test.partition("::")
    return (ROOT / "tests" / file).is_file() and name in names_in(file)


def test_there_are_forty_rows() -> None:
    assert list(ROWS) == list(range(1, 41))


@pytest.mark.parametrize("number", ROWS)
def test_every_row_is_proven_by_tests_that_are_there(number: int) -> None:
    assert ROWS[number].tests
    assert [test for test in ROWS[number].tests if not there(test)] == []


def test_all_of_it_at_random_is_tested_too() -> None:
    assert all(map(there, EVERYTHING))
