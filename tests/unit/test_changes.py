"""What is different between two configs, and which of it takes a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hopd.config.changes import Changes, compare
from hopd.config.model import Settings

TOPICS: Mapping[str, Any] = {"emails": {"name": "emails", "handler": "shop:email"}, "images": {"name": "images", "handler": "shop:image"}}


def settings(topics: Mapping[str, Any] = TOPICS, **sections: Any) -> Settings:
    return Settings.model_validate({"topics": topics, **sections})


def emails(**options: Any) -> dict[str, Any]:
    """The topics with one that is different."""
    return {**TOPICS, "emails": {**TOPICS["emails"], **options}}


NOTHING = Changes((), (), (), ())


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        (settings(), NOTHING),
        (settings(emails(concurrency=10)), NOTHING),  # said, and what it is by default
        (settings({"images": TOPICS["images"], "emails": TOPICS["emails"]}), NOTHING),
        (settings(emails(concurrency=11)), Changes((), ("emails",), (), ())),
        (settings(emails(retry={"max_attempts": 3})), Changes((), ("emails",), (), ())),
        (settings({**TOPICS, "new": {"name": "new", "handler": "shop:new"}}), Changes(("new",), (), (), ())),
        (settings({"images": TOPICS["images"]}), Changes((), (), ("emails",), ())),
        (settings(shutdown={"grace": 3}, import_path=["/srv"], logging={"level": "debug"}), NOTHING),
        (settings(defaults={"timeout": 5}), NOTHING),  # the loader has put defaults into the topics
        (settings(logging={"level": "debug", "format": "json"}), Changes((), (), (), ("logging.format",))),
        (settings(broker={"heartbeat": 7, "recovery_max": 3}), Changes((), (), (), ("broker.heartbeat", "broker.recovery_max"))),
        (settings(state_directory="/var/lib/hopd"), Changes((), (), (), ("state_directory",))),
        (settings(control={"mode": "0600"}), Changes((), (), (), ("control.mode",))),
    ],
)
def test_what_is_different_is_named(new: Settings, changes: Changes) -> None:
    assert compare(settings(), new, settings()) == changes


def test_a_restart_is_needed_until_there_was_one_and_no_longer_when_it_is_taken_back() -> None:
    started, wished = settings(), settings(broker={"heartbeat": 7})

    assert compare(wished, wished, started).restart == ("broker.heartbeat",)
    assert compare(wished, started, started).restart == ()


def test_a_secret_that_is_different_is_not_shown() -> None:
    new = settings(broker={"url": "amqp://hop:hunter2@localhost/"})

    assert "hunter2" not in str(compare(settings(), new, settings()))
