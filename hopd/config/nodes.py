"""What a config file is made of, each piece with the place where it stands. Lines and columns count from 1."""

from __future__ import annotations

import re
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass

import yaml

Path = AbstractSequence[str | int]

_YAML_TAG = "tag:yaml.org,2002:"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it was written. What it means is for the field that reads it: `0660` is a mode here and text there.

    `written` is the text before `${…}` was filled in (None when there was none to fill in); messages show it
    instead of the result, which may be a secret.
    """

    text: str
    plain: bool
    line: int
    column: int
    written: str | None = None

    @property
    def kind(self) -> str:
        """What YAML 1.1 takes it for: str, null, bool, int, float, timestamp, merge or value."""
        return yaml_kind(self.text) if self.plain else "str"


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's place and its value."""

    line: int
    column: int
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: dict[str, Entry]
    line: int
    column: int


Node = Scalar | Sequence | Mapping


def yaml_kind(text: str) -> str:
    """What YAML 1.1 takes an unquoted `text` for."""
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            return str(tag).removeprefix(_YAML_TAG)
    return "str"


def spell(path: Path) -> str:
    """A path as people write it: ``topics.emails.handler``, ``broker.urls[1]``, ``topics."a.b"``."""
    parts = [f"[{part}]" if isinstance(part, int) else "." + (part if _IDENTIFIER.fullmatch(part) else f'"{part}"') for part in path]
    return "".join(parts).removeprefix(".")


def entry_at(root: Node, path: Path) -> Entry | None:
    """The entry `path` leads to; an item of a list stands where its value stands. None when there is no such thing."""
    found = Entry(root.line, root.column, root)
    for part in path:
        node = found.value
        if isinstance(node, Mapping) and isinstance(part, str) and part in node.entries:
            found = node.entries[part]
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            item = node.items[part]
            found = Entry(item.line, item.column, item)
        else:
            return None
    return found


def nearest_entry(root: Node, path: Path) -> Entry:
    """The entry `path` leads to, or else the closest one on the way there."""
    for length in range(len(path), 0, -1):
        entry = entry_at(root, path[:length])
        if entry is not None:
            return entry
    return Entry(root.line, root.column, root)
