"""What a soak makes of what it counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.soak.verdict import Evidence, violations
from tests.support.node_control import QueueDepth

DONE, GRAVE = "quick-0-1-5", "doomed-0-2-5"
EMPTY = QueueDepth(0, 0, 0)

GOOD = Evidence(
    attempted=frozenset({DONE, GRAVE, "quick-0-3-5"}),
    confirmed=frozenset({DONE, GRAVE}),
    handled=Counter({DONE: 2}),
    buried=Counter({GRAVE: 1}),
    queues={"quick": EMPTY, "doomed": EMPTY, "doomed.buried": QueueDepth(1, 0, 0)},
    bound=1,
)


def test_a_soak_that_kept_every_promise_has_no_violations() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (replace(GOOD, handled=Counter()), "lost"),
        (replace(GOOD, buried=Counter()), "lost"),
        (replace(GOOD, handled=Counter({DONE: 1, GRAVE: 1})), "nobody put them for"),
        (replace(GOOD, buried=Counter({DONE: 1, GRAVE: 1})), "nobody put them for"),
        (replace(GOOD, handled=Counter({DONE: 1, "early-delayed-0-1-5": 1})), "nobody put them for"),
        (replace(GOOD, handled=Counter({DONE: 3})), "duplicates"),
        (replace(GOOD, buried=Counter({GRAVE: 2})), "duplicates"),
        (replace(GOOD, queues={"quick": QueueDepth(1, 0, 0)}), "the queue quick holds"),
        (replace(GOOD, queues={"doomed.retry.100": QueueDepth(1, 0, 0)}), "the queue doomed.retry.100 holds"),
        (replace(GOOD, queues={"doomed.buried": QueueDepth(1, 1, 0)}), "the queue doomed.buried holds"),
        (replace(GOOD, troubles=("daemon 1 ended by itself",)), "daemon 1 ended by itself"),
    ],
)
def test_each_broken_promise_is_told(evidence: Evidence, word: str) -> None:
    found = violations(evidence)

    assert len(found) >= 1
    assert any(word in each for each in found)


def test_a_job_that_was_not_confirmed_may_be_missing_or_there() -> None:
    assert violations(replace(GOOD, handled=Counter({DONE: 1, "quick-0-3-5": 1}))) == []
