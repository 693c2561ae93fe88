"""A config file becomes settings, or a `ConfigError` with everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping as Environ
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError

from hopd.config.environment import expand
from hopd.config.explain import explain, locate, unknown_key
from hopd.config.failure import BLOCKS
from hopd.config.files import broker_files, read, reason
from hopd.config.model import Settings, TopicOptions
from hopd.config.nodes import Mapping, Node, Scalar, nearest_entry, spell
from hopd.config.places import mask
from hopd.config.source import MAX_BYTES, Unreadable, parse
from hopd.errors import ConfigError, Problem

#: A file that is wrong in more places than this is wrong in one way; the rest is counted.
MAX_PROBLEMS = 200


@dataclass(frozen=True)
class Loaded:
    """Settings, and where in the file each of them stands."""

    settings: Settings
    path: str
    root: Mapping = field(repr=False)

    def where(self, *path: str | int) -> str:
        """``file:line:col`` of a key; of the closest thing above it when the file does not have it."""
        line, column = self.place(*path)
        return f"{self.path}:{line}:{column}"

    def place(self, *path: str | int) -> tuple[int, int]:
        """Line and column of a key, as `where`."""
        entry = locate(self.root, path) or nearest_entry(self.root, path)
        return entry.line, entry.column

    def problem(self, message: str, *path: str | int) -> Problem:
        """A problem with a key that shows only later, such as a handler that cannot be imported."""
        line, column = self.place(*path)
        return Problem(self.path, line, column, spell(path), message)


def load(path: str, environ: Environ[str, str]) -> Loaded:
    """Read, check and complete the config at `path`; `ConfigError` names all problems at once.

    `environ` fills in `${VAR}`. Relative files in the config start at its directory, `url_file` is read here.
    """
    try:
        written, problems = parse(path, read(path, MAX_BYTES))
    except Unreadable as unreadable:
        _refuse(unreadable.problems)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        _refuse([Problem(path, 0, 0, "", f"cannot be read: {reason(error)}")])
    root, unset = expand(path, written, environ)
    assert isinstance(root, Mapping)
    problems += unset
    directory = os.path.dirname(os.path.abspath(path))
    settings, found = _settings(path, root, directory)
    secret, found_in_broker = broker_files(path, root, directory)
    problems += _not_yet_reported(found, problems)
    problems += _not_yet_reported(found_in_broker, problems)
    if problems or settings is None:
        _refuse(problems)
    if secret is not None:
        settings = settings.model_copy(update={"broker": settings.broker.model_copy(update={"url": secret})})
    return Loaded(settings, path, root)


def _refuse(problems: list[Problem]) -> NoReturn:
    """Raise the error that lists all problems in the order of the file, each once, without credentials."""
    unique = dict.fromkeys(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    shown = [Problem(p.file, p.line, p.column, mask(p.path), mask(p.message)) for p in unique]
    if len(shown) > MAX_PROBLEMS:
        more = Problem(shown[0].file, 0, 0, "", f"{len(shown) - MAX_PROBLEMS} more problems")
        shown = [*shown[:MAX_PROBLEMS], more]
    raise ConfigError(tuple(shown)) from None  # a cause, pydantic's above all, would show values and so secrets


def _not_yet_reported(found: list[Problem], problems: list[Problem]) -> list[Problem]:
    """What was found in places that have no problem yet: a value that could not be filled in is not wrong a second time."""
    places = {(problem.line, problem.column) for problem in problems}
    return [problem for problem in found if (problem.line, problem.column) not in places]


# --- the model ----------------------------------------------------------------------------------


def _settings(file: str, root: Mapping, directory: str) -> tuple[Settings | None, list[Problem]]:
    data = _plain(root)
    context = {"directory": directory}
    problems: list[Problem] = []
    defaults = _with_blocks(data.pop("defaults", None))
    try:
        TopicOptions.model_validate({} if defaults is None else defaults, context=context)
    except ValidationError as error:
        problems += explain(file, root, error.errors(include_url=False), ("defaults",))
        defaults = None  # left out below, so that they are wrong once and not again in every topic
    topics = data.get("topics")
    if isinstance(topics, dict):
        problems += [
            _at_key(file, root, ("topics", name, "name")) for name, topic in topics.items() if isinstance(topic, dict) and "name" in topic
        ]
        data["topics"] = {name: _complete(name, topic, defaults or {}) for name, topic in topics.items()}
    if defaults:
        data["defaults"] = defaults
    try:
        return Settings.model_validate(data, context=context), problems
    except ValidationError as error:
        return None, problems + explain(file, root, error.errors(include_url=False))


def _complete(name: str, topic: Any, defaults: dict[str, Any]) -> Any:
    """A topic as the model wants it: its name in it, and what it does not say itself from the defaults."""
    if topic is not None and not isinstance(topic, dict):
        return topic
    own = {key: value for key, value in (_with_blocks(topic) or {}).items() if value is not None or key not in defaults}
    return {**defaults, **own, "name": name}


def _with_blocks(options: Any) -> Any:
    """A topic's options with the sections that are named but have no keys."""
    if not isinstance(options, dict):
        return options
    return {key: {} if value is None and key in BLOCKS else value for key, value in options.items()}


def _at_key(file: str, root: Mapping, path: tuple[str, ...]) -> Problem:
    entry = nearest_entry(root, path)
    return Problem(file, entry.line, entry.column, spell(path), unknown_key(path))


def _plain(node: Node) -> Any:
    """Dicts and lists of scalars, and None for what is null to YAML."""
    if isinstance(node, Mapping):
        return {key: _plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, Scalar):
        return None if node.kind == "null" else node
    return [_plain(item) for item in node.items]
