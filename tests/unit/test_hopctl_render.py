from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.cli.instances import Answer
from hopd.cli.render import render_status
from hopd.cli.table import Screen, clean, columns
from hopd.errors import NotRunning

BROKER = {"state": "open", "url": "amqp://guest:***@localhost:5672/", "attempt": 0, "next_try": None, "reason": None}
AWAY = {**BROKER, "state": "recovering", "attempt": 3, "next_try": 4.2, "reason": "connection refused by localhost:5672"}
COUNTERS = ("done", "failed", "retried", "requeued", "buried", "dropped", "lost", "redelivered")
REFUSED = "the broker refuses this topic: 403 ACCESS_REFUSED - access to queue 'payments' in vhost '/' refused for user 'guest'"
LONG = "a-topic-with-a-rather-long-name-that-nobody-would-type.twice"


def topic(**given: Any) -> dict[str, Any]:
    about = {"state": "consuming", "reason": None, "concurrency": 50, "prefetch": 150, "running": 0, "waiting": 0}
    return {**about, **dict.fromkeys(COUNTERS, 0), **given}


ORDINARY = {
    "emails": topic(running=50, waiting=100, done=1234567, failed=12, buried=12),
    "images": topic(concurrency=1000, running=873, waiting=2000, done=45100),
    "thumbnails.large": topic(state="paused", done=7, redelivered=3),
    "payments": topic(state="failed", reason=REFUSED),
}
EVENTFUL = topic(running=50, waiting=100, **dict.fromkeys(COUNTERS, 1234567))


def status(**given: Any) -> dict[str, Any]:
    about = {"state": "running", "version": "0.1.0", "instance": None, "pid": 4711, "uptime": 4000.2}
    return {**about, "broker": BROKER, "publisher": {**BROKER, "state": "closed"}, "topics": ORDINARY, **given}


def shown(*statuses: dict[str, Any], width: int | None = None, colours: bool = False) -> str:
    answers = [Answer(f"/run/hopd/hopd-{number:02}.sock", each) for number, each in enumerate(statuses, 1)]
    return render_status(answers, Screen(width, colours))


def test_without_an_end_to_the_line_the_whole_table_is_shown() -> None:
    assert shown(status()) == (
        "hopd    running  version 0.1.0  pid 4711  up 1h6m  /run/hopd/hopd-01.sock\n"
        "broker  open  amqp://guest:***@localhost:5672/\n"
        "\n"
        "topic             state        running  waiting       done  failed  retried  requeued  buried  dropped  lost  redelivered\n"
        "emails            consuming      50/50      100  1,234,567      12        0         0      12        0     0            0\n"
        "images            consuming  873/1,000    2,000     45,100       0        0         0       0        0     0            0\n"
        "thumbnails.large  paused          0/50        0          7       0        0         0       0        0     0            3\n"
        "payments          failed          0/50        0          0       0        0         0       0        0     0            0\n"
        f"    {REFUSED}\n"
        "all topics                   923/1,150    2,100  1,279,674      12        0         0      12        0     0            3\n"
    )


def test_a_broker_in_the_daemon_itself_says_where_it_keeps_its_messages() -> None:
    embedded = {**BROKER, "url": "amqp://guest:***@127.0.0.1:5672", "embedded": "/var/lib/hopd/broker.db"}

    text = shown(status(broker=embedded))

    assert "broker  open  amqp://guest:***@127.0.0.1:5672  embedded, in /var/lib/hopd/broker.db\n" in text


def test_on_100_columns_counters_that_are_all_zero_make_room() -> None:
    assert shown(status(), width=100).partition("\n\n")[2] == (
        "topic             state        running  waiting       done  failed  buried  redelivered\n"
        "emails            consuming      50/50      100  1,234,567      12      12            0\n"
        "images            consuming  873/1,000    2,000     45,100       0       0            0\n"
        "thumbnails.large  paused          0/50        0          7       0       0            3\n"
        "payments          failed          0/50        0          0       0       0            0\n"
        "    the broker refuses this topic: 403 ACCESS_REFUSED - access to queue 'payments' in vhost '/'\n"
        "    refused for user 'guest'\n"
        "all topics                   923/1,150    2,100  1,279,674      12      12            3\n"
        "\n"
        "none retried, requeued, dropped or lost\n"
    )


def test_on_80_columns_counters_stand_under_their_topic() -> None:
    assert shown(status(), width=80).partition("\n\n")[2] == (
        "topic             state        running  waiting       done\n"
        "emails            consuming      50/50      100  1,234,567\n"
        "    failed 12  buried 12\n"
        "images            consuming  873/1,000    2,000     45,100\n"
        "thumbnails.large  paused          0/50        0          7\n"
        "    redelivered 3\n"
        "payments          failed          0/50        0          0\n"
        "    the broker refuses this topic: 403 ACCESS_REFUSED - access to queue\n"
        "    'payments' in vhost '/' refused for user 'guest'\n"
        "all topics                   923/1,150    2,100  1,279,674\n"
        "    failed 12  buried 12  redelivered 3\n"
    )


def test_a_long_name_is_cut_before_a_number_is() -> None:
    text = shown(status(topics={LONG: EVENTFUL}), width=60)
    assert re.search(r"^a-topic-with-a-\S*…  consuming +50/50 +100  1,234,567$", text, re.MULTILINE)


def test_a_quiet_topic_says_that_nothing_went_wrong() -> None:
    text = shown(status(topics={"emails": topic(done=3)}), width=100)
    assert text.endswith("\nnone failed, retried, requeued, buried, dropped, lost or redelivered\n")


def test_a_single_topic_has_no_totals() -> None:
    assert "all topics" not in shown(status(topics={"emails": topic()}))


def test_a_daemon_without_topics_says_so() -> None:
    assert shown(status(topics={})).endswith("\n\nno topics are configured\n")


def test_a_lost_broker_is_shown_with_attempt_next_try_and_reason() -> None:
    assert shown(status(broker=AWAY)).splitlines()[1:3] == [
        "broker  recovering  amqp://guest:***@localhost:5672/",
        "        attempt 3, next try in 4.2s: connection refused by localhost:5672",
    ]


def test_a_publisher_that_cannot_publish_is_shown() -> None:
    blocked = {**BROKER, "state": "blocked", "reason": "low on memory"}
    assert "publisher  blocked\n           low on memory\n" in shown(status(publisher=blocked))


def test_several_instances_are_listed_and_their_topics_added_up() -> None:
    text = shown(status(instance="01"), status(instance="02", pid=4712, broker=AWAY))
    assert text.partition("\n\n")[0].splitlines() == [
        "hopd, 2 instances  running  version 0.1.0",
        "instance  state     pid    up  broker      socket",
        "01        running  4711  1h6m  open        /run/hopd/hopd-01.sock",
        "02        running  4712  1h6m  recovering  /run/hopd/hopd-02.sock",
        "          attempt 3, next try in 4.2s: connection refused by localhost:5672",
        "broker  amqp://guest:***@localhost:5672/",
    ]
    assert "emails            consuming      100/100      200  2,469,134" in text


def test_an_instance_that_did_not_answer_is_not_counted() -> None:
    answers = [Answer("/run/a.sock", error=NotRunning()), Answer("/run/b.sock", status())]
    assert render_status(answers, Screen()).startswith("hopd    running  version 0.1.0  pid 4711")


def test_colours_change_nothing_but_the_colours() -> None:
    coloured = shown(status(), width=100, colours=True)
    assert "\033[31;1mfailed\033[0m" in coloured
    assert "\033[32mconsuming\033[0m" in coloured
    assert re.sub(r"\033\[[0-9;]*m", "", coloured) == shown(status(), width=100)


@pytest.mark.parametrize("width", [100, 90, 80, 72, 60])
@pytest.mark.parametrize("topics", [ORDINARY, {LONG: EVENTFUL, "b": topic()}, {"日本語の名前がとても長い": EVENTFUL}])
def test_no_line_is_wider_than_the_terminal(width: int, topics: dict[str, Any]) -> None:
    text = shown(status(topics=topics, broker=AWAY), width=width)
    assert max(columns(line) for line in text.splitlines()) <= width


def test_wide_characters_keep_the_columns_in_line() -> None:
    rows = shown(status(topics={"日本": topic(), "ab": topic()})).partition("\n\n")[2].splitlines()[:3]
    assert len({columns(row[: row.index("0/50")]) for row in rows[1:]}) == 1


def test_a_status_with_missing_fields_is_shown_as_far_as_it_goes() -> None:
    assert "?" in render_status([Answer("/run/hopd/hopd.sock", {"topics": {"emails": {}}})], Screen())


NAMES = st.text(min_size=1, max_size=40)
TOPICS = st.dictionaries(NAMES, st.fixed_dictionaries({name: st.integers(0, 10**15) for name in COUNTERS}), max_size=5)


@given(topics=TOPICS, reason=st.text(), width=st.none() | st.integers(1, 200), count=st.integers(1, 3))
def test_nothing_that_the_broker_or_a_topic_says_steers_the_terminal(
    topics: dict[str, Any], reason: str, width: int | None, count: int
) -> None:
    text = shown(*[status(topics=topics, broker={**AWAY, "reason": reason, "url": reason})] * count, width=width)
    assert all(line == clean(line) for line in text.split("\n"))
