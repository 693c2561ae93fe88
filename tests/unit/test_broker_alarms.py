"""When publishers are blocked, and for how long."""

from __future__ import annotations

from hopd.broker.alarms import Alarms, Bounds


def test_an_alarm_lasts_until_there_is_room_again() -> None:
    alarms = Alarms(Bounds(memory=1000))
    seen = []
    for memory in (1000, 1001, 900, 801, 800, 799, 1000):
        alarms.watch(memory, 0)
        seen.append(alarms.reason)

    low = "low on memory"
    assert seen == [None, low, low, low, low, None, None]


def test_the_reason_that_came_first_is_the_one_that_is_told() -> None:
    alarms = Alarms(Bounds(memory=1000, messages=10))
    alarms.watch(0, 11)
    alarms.watch(1001, 11)
    assert alarms.reason == "too many messages"

    alarms.watch(1001, 0)
    assert alarms.reason == "low on memory"


def test_what_an_operator_set_is_not_ended_by_room() -> None:
    alarms = Alarms(Bounds())
    alarms.set("asked for", "maintenance")
    alarms.watch(0, 0)
    assert alarms.reason == "maintenance"

    alarms.set("asked for", None)
    alarms.set("asked for", None)
    assert alarms.reason is None
