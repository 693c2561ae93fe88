"""The life cycles are tables."""

from __future__ import annotations

import pytest

from hopd import lifecycle
from hopd.errors import IllegalMove
from hopd.lifecycle import LifeCycle, Table

TABLES = {"connection": lifecycle.CONNECTION, "consumer": lifecycle.CONSUMER, "job": lifecycle.JOB, "daemon": lifecycle.DAEMON}
FIRST = {"connection": "closed", "consumer": "idle", "job": "ready", "daemon": "starting"}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_move_leads_to_a_state_of_the_table(table: Table) -> None:
    assert {target for moves in table.values() for target in moves.values()} <= set(table)


@pytest.mark.parametrize("name", TABLES)
def test_every_state_can_be_reached_from_the_first(name: str) -> None:
    reached, new = set[str](), {FIRST[name]}
    while new:
        reached |= new
        new = {target for state in new for target in TABLES[name][state].values()} - reached

    assert reached == set(TABLES[name])


@pytest.mark.parametrize(
    ("name", "events", "end"),
    [
        ("connection", ["connect", "opened", "lost", "opened", "blocked", "unblocked", "close", "closed"], "closed"),
        ("consumer", ["consume", "pause", "resume", "consume", "lost", "consume", "drain", "stopped"], "stopped"),
        ("consumer", ["refused", "consume", "drain", "stopped"], "stopped"),
        ("job", ["start", "retry", "due", "start", "bury", "kick", "start", "done"], "done"),
        ("daemon", ["started", "reload", "reloaded", "reload", "shutdown", "stopped"], "stopped"),
        ("daemon", ["started", "shutdown", "shutdown", "stopped"], "stopped"),
    ],
)
def test_a_life_runs_through_its_table(name: str, events: list[str], end: str) -> None:
    life = LifeCycle(name, TABLES[name], FIRST[name])

    for event in events:
        life.move(event)

    assert life.state == end


def test_an_illegal_move_names_state_event_and_what_could_be() -> None:
    life = LifeCycle("job 7", lifecycle.JOB, "ready")

    with pytest.raises(IllegalMove, match="job 7 is ready and cannot done: from here it can start"):
        life.move("done")


def test_an_illegal_move_leaves_the_state_alone() -> None:
    life = LifeCycle("job 7", lifecycle.JOB, "done")

    with pytest.raises(IllegalMove):
        life.move("start")

    assert life.state == "done"


def test_a_connection_that_is_lost_while_it_closes_is_closed() -> None:
    life = LifeCycle("connection", lifecycle.CONNECTION, "closing")

    assert life.move("lost") == "closed"


@pytest.mark.parametrize(("event", "can"), [("pause", True), ("resume", False)])
def test_what_can_be_is_known_without_trying(event: str, can: bool) -> None:
    assert LifeCycle("topic", lifecycle.CONSUMER, "consuming").can(event) is can
