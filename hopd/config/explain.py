"""pydantic's errors as sentences about our keys, each at its place in the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from hopd.config.broker import BrokerSettings, EmbeddedSettings, TlsSettings
from hopd.config.failure import BreakerSettings, RetrySettings
from hopd.config.fields import shown
from hopd.config.model import (
    NO_TOPICS,
    ControlSettings,
    LoggingSettings,
    Settings,
    ShutdownSettings,
    TopicOptions,
    TopicSettings,
    WatchdogSettings,
)
from hopd.config.nodes import Mapping, entry_at, nearest_entry, spell
from hopd.config.section import Section
from hopd.errors import Problem

_SECTIONS: dict[tuple[str, ...], type[Section]] = {
    (): Settings,
    ("broker",): BrokerSettings,
    ("broker", "tls"): TlsSettings,
    ("broker", "embedded"): EmbeddedSettings,
    ("control",): ControlSettings,
    ("shutdown",): ShutdownSettings,
    ("logging",): LoggingSettings,
    ("watchdog",): WatchdogSettings,
    ("defaults",): TopicOptions,
    ("defaults", "retry"): RetrySettings,
    ("defaults", "breaker"): BreakerSettings,
    ("topics", "*"): TopicSettings,
    ("topics", "*", "retry"): RetrySettings,
    ("topics", "*", "breaker"): BreakerSettings,
}

_MISSING = {
    ("topics",): NO_TOPICS,
    ("topics", "*", "handler"): "has no handler: set handler: package.module:name",
}


def explain(file: str, root: Mapping, errors: Iterable[ErrorDetails], above: Sequence[str] = ()) -> list[Problem]:
    """The problems that `errors` are, their locations taken to start at the section `above`."""
    return [_problem(file, root, (*above, *error["loc"]), error) for error in errors if error["type"] != "default_factory_not_called"]


def _problem(file: str, root: Mapping, location: tuple[str | int, ...], error: ErrorDetails) -> Problem:
    context: dict[str, Any] = error.get("ctx", {})
    path = (*location, *context.get("at", ()))
    at_key = path[-1:] == ("[key]",) or _shape(path) == ("topics", "*", "name")  # a topic's name is its key
    if at_key:
        path = path[:-1]
    entry = locate(root, path)
    if entry is None:  # something is missing: the key it is missing from
        near = nearest_entry(root, path)
        line, column = near.line, near.column
    elif at_key or error["type"] == "extra_forbidden":
        line, column = entry.line, entry.column
    else:
        line, column = entry.value.line, entry.value.column
    return Problem(file, line, column, spell(path), _sentence(path, error, context))


def locate(root: Mapping, path: Sequence[str | int]) -> Any:
    """The entry at `path`, or what stands for it: a topic's option may be in `defaults`."""
    entry = entry_at(root, path)
    if entry is None and len(path) > 2 and path[0] == "topics":
        return entry_at(root, ("defaults", *path[2:]))
    return entry


def _sentence(path: Sequence[str | int], error: ErrorDetails, context: dict[str, Any]) -> str:
    kind = error["type"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "hopd":
        return str(context["message"])
    if kind == "missing":
        return _MISSING.get(_shape(path), "is missing")
    if kind == "extra_forbidden":
        return unknown_key(path)
    if kind in ("model_type", "dict_type"):
        return f"expected keys and values, got {_what(path, error)}"
    if kind == "tuple_type":
        return f"expected a list, like [first, second], got {_what(path, error)}"
    return error["msg"]


def _what(path: Sequence[str | int], error: ErrorDetails) -> str:
    """The value as messages show it; what stands where a broker's URL may be is only named by its kind."""
    return "a single value" if path[:1] == ("broker",) else shown(error["input"])


def _shape(path: Sequence[str | int]) -> tuple[str, ...]:
    """The path with the name of a topic left open."""
    parts = [str(part) for part in path]
    if len(parts) > 1 and parts[0] == "topics":
        parts[1] = "*"
    return tuple(parts)


def unknown_key(path: Sequence[str | int]) -> str:
    """What to say about a key that is not there: the one that was meant, or where it belongs, or what there is."""
    key = str(path[-1])
    shape = _shape(path[:-1])
    if shape == ("topics", "*") and key == "name":
        return "unknown key 'name': a topic's name is the key it stands under"
    known = (_SECTIONS[shape].known_keys() if shape in _SECTIONS else frozenset()) - {"name"}
    close = difflib.get_close_matches(key.lower().replace("-", "_"), sorted(known), n=1)
    if close:
        return f"unknown key '{key}'; did you mean '{close[0]}'?"
    homes = [spell(home).replace('"*"', "NAME") for home, section in _SECTIONS.items() if key in section.known_keys() and home != shape]
    if homes:
        return f"unknown key '{key}'; it belongs in {' or '.join(home or 'the top level' for home in homes)}"
    return f"unknown key '{key}'; known here: {', '.join(sorted(known))}"
