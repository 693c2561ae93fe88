"""Which queues a topic needs, as far as that differs by kind and by the broker's version."""

from __future__ import annotations

from typing import Any

import pytest

from hopd.amqp.topology import QueueSpec
from hopd.aside import topic_queues

#: Where jobs go that exceed their delivery limit, and how they get there at least once.
TO_BURIED = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "emails.buried"}
FOR_SURE = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


def own(version: tuple[int, ...], arguments: dict[str, Any]) -> dict[str, Any]:
    """What a quorum topic's own queue is declared with."""
    *_, queue = topic_queues(QueueSpec("emails", True, "quorum", arguments), version)
    assert (queue.name, queue.queue_type) == ("emails", "quorum")
    return dict(queue.arguments)


@pytest.mark.parametrize("version", [(), (3, 10, 8), (4, 3, 0)])
def test_a_classic_topic_is_its_queue_as_it_was_asked_for(version: tuple[int, ...]) -> None:
    topic = QueueSpec("emails", False, "classic", {"x-max-length": 5})

    assert topic_queues(topic, version) == (topic,)


def test_the_buried_queue_is_there_before_the_queue_that_needs_it() -> None:
    queues = topic_queues(QueueSpec("emails", True, "quorum"), (3, 10, 8))

    assert [queue.name for queue in queues] == ["emails.buried", "emails"]


@pytest.mark.parametrize(
    ("version", "arguments", "declared"),
    [
        ((3, 10, 8), {}, {**TO_BURIED, **FOR_SURE}),
        ((4, 3, 0), {}, {**TO_BURIED, **FOR_SURE}),
        ((3, 9, 29), {}, TO_BURIED),
        ((), {}, TO_BURIED),
        ((3, 10, 8), {"x-delivery-limit": 3}, {"x-delivery-limit": 3, **TO_BURIED, **FOR_SURE}),
        ((3, 10, 8), {"x-overflow": "reject-publish"}, {**TO_BURIED, **FOR_SURE}),
        ((3, 10, 8), {"x-overflow": "drop-head"}, {"x-overflow": "drop-head", **TO_BURIED}),
        ((3, 10, 8), {"x-dead-letter-strategy": "at-most-once"}, {**TO_BURIED, **FOR_SURE, "x-dead-letter-strategy": "at-most-once"}),
    ],
)
def test_what_exceeds_its_delivery_limit_is_buried(version: tuple[int, ...], arguments: dict[str, Any], declared: dict[str, Any]) -> None:
    assert own(version, arguments) == declared


def test_a_topic_that_says_itself_where_its_dead_letters_go_is_left_alone() -> None:
    topic = QueueSpec("emails", True, "quorum", {"x-dead-letter-exchange": "morgue"})

    assert topic_queues(topic, (3, 10, 8)) == (topic,)
