from __future__ import annotations

from typing import Any

import pytest

from hopd.cli.instances import Answer, merge
from hopd.errors import ControlError, NotRunning

COUNTERS = ("done", "failed", "retried", "requeued", "buried", "dropped", "lost", "redelivered")


def status(instance: str, **given: Any) -> Answer:
    topic = {"state": "consuming", "reason": None, "handler": "a:b", "concurrency": 5, "prefetch": 15, "running": 1, "waiting": 2}
    about = {"state": "running", "version": "1.0", "instance": instance, "pid": 7, "uptime": 30.0, "broker": {"state": "open", "url": "u"}}
    about["topics"] = {"emails": {**topic, **dict.fromkeys(COUNTERS, 3), **given.pop("emails", {})}}
    return Answer(f"/run/hopd-{instance}.sock", {**about, **given})


def test_counters_are_added_up() -> None:
    emails = merge([status("01"), status("02", emails={"done": 4})])["topics"]["emails"]
    assert emails["done"] == 7
    assert (emails["concurrency"], emails["prefetch"], emails["running"], emails["waiting"], emails["lost"]) == (10, 30, 2, 4, 6)
    assert (emails["state"], emails["reason"], emails["handler"]) == ("consuming", None, "a:b")


def test_every_field_of_the_contract_keeps_its_place() -> None:
    merged = merge([status("01"), status("02")])
    assert {"state", "version", "instance", "pid", "uptime", "broker", "topics"} <= set(merged)
    assert {"state", "url"} <= set(merged["broker"])
    assert {"state", "reason", "concurrency", "prefetch", "running", "waiting", *COUNTERS} <= set(merged["topics"]["emails"])


def test_each_instance_is_listed_with_its_socket() -> None:
    listed = merge([status("01"), Answer("/run/x.sock", error=NotRunning("gone"))])["instances"]
    assert (listed[0]["socket"], listed[0]["instance"]) == ("/run/hopd-01.sock", "01")
    assert listed[1] == {"socket": "/run/x.sock", "error": {"code": "not_running", "message": "gone"}}


@pytest.mark.parametrize(
    ("states", "expected"),
    [(["running", "running"], "running"), (["running", "draining"], "draining"), (["running", "novel"], "novel")],
)
def test_the_state_is_that_of_the_instance_that_needs_a_person_most(states: list[str], expected: str) -> None:
    answers = [status(str(number), state=state) for number, state in enumerate(states)]
    assert merge(answers)["state"] == expected


def test_the_broker_is_that_of_the_instance_that_has_trouble_with_it() -> None:
    away = {"state": "recovering", "url": "u", "reason": "refused"}
    assert merge([status("01"), status("02", broker=away)])["broker"] == away


def test_instances_that_differ_say_which_is_what() -> None:
    emails = merge([status("01", emails={"state": "paused"}), status("02"), status("03")])["topics"]["emails"]
    assert (emails["state"], emails["reason"]) == ("paused", "01 paused; 02, 03 consuming")


def test_a_reason_that_all_share_is_said_once() -> None:
    failed = {"state": "failed", "reason": "no access"}
    assert merge([status("01", emails=failed), status("02", emails=failed)])["topics"]["emails"]["reason"] == "no access"


def test_reasons_that_differ_are_all_said() -> None:
    parts = [status("01", emails={"state": "failed", "reason": "no access"}), status("02")]
    assert merge(parts)["topics"]["emails"]["reason"] == "01 failed: no access; 02 consuming"


def test_a_topic_that_only_some_instances_have_counts_once() -> None:
    other = Answer("/run/b.sock", {**status("02").result, "topics": {}})
    assert merge([status("01"), other])["topics"]["emails"]["done"] == 3


def test_answers_of_another_shape_do_not_stop_the_sum() -> None:
    odd = Answer("/run/b.sock", {"topics": {"emails": {"done": None, "state": 7}}, "broker": None})
    assert merge([status("01"), odd])["topics"]["emails"]["done"] == 3


def test_different_versions_are_both_named() -> None:
    assert merge([status("01"), status("02", version="2.0")])["version"] == "1.0, 2.0"


def test_without_any_answer_there_is_only_the_list() -> None:
    merged = merge([Answer("/run/x.sock", error=ControlError("failed", "no"))])
    assert (merged["state"], merged["topics"], len(merged["instances"])) == (None, {}, 1)
