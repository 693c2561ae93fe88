"""The README's library example, run as it is written, on a real broker."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from tests.support.node import Node

README = Path(__file__).parents[2] / "README.md"


def test_the_library_example_of_the_readme_does_what_it_says(broker: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the README's session, and a broker where it looks for one
    monkeypatch.setenv("HOP_BROKER_URL", broker.url)
    session = doctest.DocTestParser().get_doctest(README.read_text(), {}, "README.md", str(README), 0)
    assert len(session.examples) >= 10, "the README shows no session any more"
    # When it is typed in
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(session, out=said.append)
    # Then Python answers what the README shows
    assert results.failed == 0, "".join(said)
