from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from hopd.control import arguments
from hopd.errors import ControlError

KNOWN = ["emails", "images"]


def refusal(read: Callable[[], object]) -> ControlError:
    with pytest.raises(ControlError) as caught:
        read()
    assert len(str(caught.value)) < 400
    return caught.value


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"topics": ["images"]}, ["images"]),
        ({"topics": ["images", "emails", "images"]}, ["images", "emails"]),
        ({"all": True}, KNOWN),
    ],
)
def test_topics_are_named_or_all(args: dict[str, Any], expected: list[str]) -> None:
    assert arguments.topics(args, KNOWN) == expected


def test_no_topics_mean_all_where_the_command_says_so() -> None:
    assert arguments.topics({}, KNOWN, default_all=True) == KNOWN


@pytest.mark.parametrize(
    "args",
    [{}, {"topics": []}, {"topics": "emails"}, {"topics": [1]}, {"topics": {"emails": 1}}, {"all": 1}, {"all": True, "topics": ["emails"]}],
)
def test_topics_that_are_not_a_list_of_names_are_bad_args(args: dict[str, Any]) -> None:
    assert refusal(lambda: arguments.topics(args, KNOWN)).code == "bad_args"


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("email", KNOWN, "did you mean emails?"),
        ("zzz", KNOWN, "it runs emails, images"),
        ("zzz", [], "it runs none"),
        ("zzz", [f"t{number}" for number in range(500)], "t9, …"),
        ("\x1b[2J" + "z" * 60_000, KNOWN, r"\x1b"),
    ],
)
def test_an_unknown_topic_is_named_with_what_is_known(name: str, known: list[str], words: str) -> None:
    error = refusal(lambda: arguments.topics({"topics": [name]}, known))
    assert error.code == "no_such_topic"
    assert words in str(error)


@pytest.mark.parametrize(("value", "expected"), [(None, None), (3, 3.0), (0.5, 0.5), ("1m30s", 90.0), (0, 0.0)])
def test_seconds_are_a_number_or_a_duration(value: Any, expected: float | None) -> None:
    assert arguments.seconds({"timeout": value}, "timeout") == expected


@pytest.mark.parametrize("value", [-1, True, "soon", [], {}, 86_401, 10**400, "9" * 1000])
def test_what_is_no_duration_is_bad_args(value: Any) -> None:
    error = refusal(lambda: arguments.seconds({"timeout": value}, "timeout"))
    assert error.code == "bad_args"
    assert "timeout" in str(error)


def test_a_limit_of_its_own_holds_for_seconds_where_it_is_given() -> None:
    assert arguments.seconds({"delay": "300d"}, "delay", arguments.MAX_DELAY) == 300 * 86_400
    assert "at most 366d" in str(refusal(lambda: arguments.seconds({"delay": "367d"}, "delay", arguments.MAX_DELAY)))


@pytest.mark.parametrize("value", ["2026-12-31T08:00:00+01:00", "2026-12-31T07:00:00Z", "2026-12-31T07:00:00.000+00:00"])
def test_a_moment_is_a_time_with_its_zone(value: str) -> None:
    assert arguments.moment({"at": value}, "at") == datetime(2026, 12, 31, 7, tzinfo=timezone.utc)


def test_there_need_be_no_moment() -> None:
    assert arguments.moment({}, "at") is None


@pytest.mark.parametrize(
    "value", [0, True, [], {}, "", "Z", "tomorrow", "2026-12-31T08:00:00", "2026-02-30T08:00:00Z", "9999-12-31T23:59:59Z"]
)
def test_what_is_no_moment_or_too_far_is_bad_args(value: Any) -> None:
    error = refusal(lambda: arguments.moment({"at": value}, "at"))
    assert error.code == "bad_args"
    assert str(error).startswith("at")


@pytest.mark.parametrize("value", [0, 1, "yes", None, []])
def test_a_flag_is_true_or_false(value: Any) -> None:
    assert refusal(lambda: arguments.boolean({"now": value}, "now")).code == "bad_args"


@pytest.mark.parametrize("value", [None, "", 7, "amq.x", "a\x00b", "x" * 256])
def test_a_topic_to_put_to_has_a_topics_name(value: Any) -> None:
    assert refusal(lambda: arguments.topic({"topic": value})).code == "bad_args"


def test_a_body_is_text_or_base64() -> None:
    assert arguments.body({"body": "grüße"}) == "grüße".encode()
    assert arguments.body({"body_base64": base64.b64encode(b"\x00\xff").decode()}) == b"\x00\xff"


@pytest.mark.parametrize(
    "args", [{}, {"body": 1}, {"body": "a", "body_base64": "YQ=="}, {"body_base64": "not base64!"}, {"body_base64": "é"}]
)
def test_a_body_that_is_neither_is_bad_args(args: dict[str, Any]) -> None:
    assert refusal(lambda: arguments.body(args)).code == "bad_args"


def test_headers_hold_what_a_message_can_carry() -> None:
    headers = {"a": "text", "b": 1, "c": 1.5, "d": True, "e": None}
    assert arguments.headers({"headers": headers}) == headers


@pytest.mark.parametrize("headers", [[], "a=b", {"": 1}, {"x" * 256: 1}, {"a": []}, {"a": {}}, {"a": 2**63}])
def test_other_headers_are_bad_args(headers: Any) -> None:
    assert refusal(lambda: arguments.headers({"headers": headers})).code == "bad_args"


def test_an_argument_that_a_command_does_not_have_is_named() -> None:
    error = refusal(lambda: arguments.check_known("drain", {"timeuot": 1}, frozenset({"topics", "timeout"})))
    assert str(error) == "drain takes timeout, topics, got 'timeuot'"
