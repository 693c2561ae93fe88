"""What is different in a changed config, and what of that a running hopd can take up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hopd.config.model import Settings

#: What is taken up while hopd runs, by section or section and key. All else is made once, at the start: connections, sockets, files.
LIVE = frozenset({"topics", "defaults", "shutdown", "import_path", "logging.level"})


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of topics, in the order of the config they are in; and the keys whose new values only a restart takes up."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    restart: tuple[str, ...]

    @property
    def to_make(self) -> tuple[str, ...]:
        """The topics that begin anew."""
        return self.added + self.changed


def compare(running: Settings, new: Settings, started: Settings) -> Changes:
    """What to do to get from `running` to `new`. `started` is what the process began with: a key that needs a restart needs it until then.

    Topics are compared as they are in the end, so that a default that is changed changes the topics that rely on it.
    """
    old = running.topics
    return Changes(
        added=tuple(name for name in new.topics if name not in old),
        changed=tuple(name for name, topic in new.topics.items() if name in old and topic.model_dump() != old[name].model_dump()),
        removed=tuple(name for name in old if name not in new.topics),
        restart=tuple(key for key in _different("", started.model_dump(), new.model_dump()) if key not in LIVE),
    )


def _different(section: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys with different values, to two levels: what is below changes with what is above it."""
    keys = []
    for key in old:
        before, after = old[key], new[key]
        if before == after:
            continue
        if not section and key not in LIVE and isinstance(before, dict) and isinstance(after, dict):
            keys += _different(f"{key}.", before, after)
        else:
            keys.append(f"{section}{key}")
    return keys
