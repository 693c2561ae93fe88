"""What a config names in the users' code, handlers and exceptions, each with its place in the file; and what the names become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hopd.config.load import Loaded
from hopd.config.model import TopicSettings
from hopd.config.nodes import entry_at
from hopd.config.retry import FailurePolicy, RetryPolicy
from hopd.engine.handler import LOADERS, add_import_path, load_error
from hopd.errors import ConfigError, HandlerError, Problem

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """``package.module:name`` at a place of the config; `kind` is a key of `LOADERS`."""

    kind: str
    spec: str
    path: Path


def named(loaded: Loaded, topics: Iterable[str] | None = None) -> list[Named]:
    """Everything that has to be imported for these topics of a config, or all, each place once: exceptions of the defaults belong to the
    defaults."""
    found: dict[Path, Named] = {}
    for name in loaded.settings.topics if topics is None else topics:
        topic = loaded.settings.topics[name]
        found[("topics", name, "handler")] = Named("handler", topic.handler, ("topics", name, "handler"))
        retry = topic.retry
        for key, specs in (("on", retry.on), ("never", retry.never)) if retry is not None else ():
            for index, spec in enumerate(specs):
                if ":" in spec:  # the others are built in
                    own: Path = ("topics", name, "retry", key, index)
                    path = own if entry_at(loaded.root, own) else ("defaults", "retry", key, index)
                    found[path] = Named("error", spec, path)
    return list(found.values())


def load_named(loaded: Loaded, topics: Iterable[str] | None = None) -> dict[Path, Any]:
    """The callables and exceptions that a config names for these topics, or all, by their places; `ConfigError` tells of all that cannot
    be had."""
    add_import_path(loaded.settings.import_path)
    objects: dict[Path, Any] = {}
    problems: list[Problem] = []
    for item in named(loaded, topics):
        try:
            objects[item.path] = LOADERS[item.kind](item.spec)
        except HandlerError as error:
            problems.append(loaded.problem(f"{item.spec}: {error}", *item.path))
    if problems:
        raise ConfigError(tuple(sorted(problems, key=lambda problem: (problem.line, problem.column))))
    return objects


def failure_policy(topic: TopicSettings) -> FailurePolicy:
    """A topic's failure policy, its exceptions imported; `HandlerError` when one cannot be."""
    retry = topic.retry
    if retry is None:
        return FailurePolicy(topic.on_failure)
    on, never = (tuple(load_error(spec) for spec in specs) for specs in (retry.on, retry.never))
    return FailurePolicy(topic.on_failure, RetryPolicy(retry.max_attempts, retry.backoff, retry.first, retry.max, retry.jitter, on, never))
