"""The names hopd gives to things in the broker."""

from __future__ import annotations

import pytest

from hopd import names

#: AMQP's short strings.
SHORT_STRING = 255


@pytest.mark.parametrize("name", ["emails", "a.b-c_d", "größer", "with space", "x" * names.MAX_TOPIC_BYTES, "123"])
def test_an_ordinary_name_is_a_topics(name: str) -> None:
    assert names.topic_problem(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("x" * 201, "bytes"),
        ("ü" * 101, "bytes"),
        ("amq.topic", "reserved"),
        ("a\nb", "printable"),
        ("a\0", "printable"),
        ("\ud800", "printable"),
    ],
)
def test_a_name_that_cannot_be_says_why(name: str, reason: str) -> None:
    assert reason in (names.topic_problem(name) or "")


def test_the_longest_topic_leaves_room_for_every_name_made_of_it() -> None:
    topic = "x" * names.MAX_TOPIC_BYTES
    a_century = 100 * 365 * 24 * 3600 * 1000

    assert max(len(names.buried(topic)), len(names.retry(topic, a_century))) <= SHORT_STRING


def test_buried_and_retried_jobs_wait_in_queues_named_after_their_topic() -> None:
    assert (names.buried("emails"), names.retry("emails", 5000)) == ("emails.buried", "emails.retry.5000")
