"""Taking up a changed config while everything runs: looked at as a whole first, and only then followed."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from typing import Any

from gevent import getcurrent
from gevent.hub import get_hub

from hopd.config.changes import Changes, compare
from hopd.config.load import Loaded, load
from hopd.engine.handler_check import check
from hopd.engine.topics import Topics
from hopd.errors import ConfigError, ControlError, Problem

LOGGER = logging.getLogger(__name__)

#: How long each import of the changed config may take. Seconds.
IMPORT_TIMEOUT = 30.0


class Reload:
    """From the config that is followed, `loaded`, to the one that its file has now. One at a time; the caller sees to that."""

    def __init__(self, loaded: Loaded, topics: Topics) -> None:
        self.loaded = loaded
        #: Whether it is under way.
        self.busy = False
        self._started = loaded
        self._topics = topics
        self._looking: Any = None  # the greenlet that looks at a config
        self._given_up = False

    def run(self) -> dict[str, list[str]]:
        """Follow the config as it is now; returns what is different, as `Changes`. `ConfigError`: then nothing has changed.

        What it names is imported in another process first: that may hang, leave or crash, and no running job is to notice.
        """
        self.busy = True
        try:
            return self._run()
        finally:
            self.busy = False

    def _run(self) -> dict[str, list[str]]:
        loaded, changes = self._look()
        try:
            made = self._topics.make(loaded, changes.to_make)
        except ConfigError as error:
            raise ConfigError(tuple(map(_older_code, error.problems))) from error
        self._refuse_when_given_up()  # importing may have taken its time
        self._topics.change(changes, made, loaded.settings.topics)
        logging.getLogger().setLevel(loaded.settings.logging.level.upper())
        self.loaded = loaded
        told = {kind: list(names) for kind, names in asdict(changes).items()}
        LOGGER.info("Took up %s: %s", loaded.path, _summary(told), extra={"event": "reloaded", "config": loaded.path, **told})
        if changes.restart:
            text = "Only a restart takes up what is new in %s"
            LOGGER.warning(text, ", ".join(changes.restart), extra={"event": "restart_needed", "keys": told["restart"]})
        return told

    def give_up(self) -> None:
        """hopd leaves: who still looks at a config stops, and with it the process that imports."""
        self._given_up = True
        get_hub().loop.run_callback(self._interrupt)

    def _interrupt(self) -> None:
        """In the hub, where it is certain that who looks waits for something. Once: it needs its time to end the other process."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.throw(_leaving())

    def _look(self) -> tuple[Loaded, Changes]:
        self._refuse_when_given_up()
        self._looking = getcurrent()
        try:
            loaded = load(self.loaded.path, os.environ)
            changes = compare(self.loaded.settings, loaded.settings, self._started.settings)
            problems = check(loaded, IMPORT_TIMEOUT, changes.to_make)
        finally:
            self._looking = None
        if problems:
            raise ConfigError(tuple(problems))
        return loaded, changes

    def _refuse_when_given_up(self) -> None:
        if self._given_up:
            raise _leaving()


def _leaving() -> ControlError:
    return ControlError("shutting_down", "hopd is leaving; its config stays as it is")


def _older_code(problem: Problem) -> Problem:
    """Another process could import it, so the file is right: this one has the module as it was when it was imported first."""
    message = f"{problem.message} (hopd has an older version of this code: new code is taken up by a restart)"
    return Problem(problem.file, problem.line, problem.column, problem.path, message)


def _summary(told: dict[str, list[str]]) -> str:
    words = [f"{kind} {', '.join(told[kind])}" for kind in ("added", "changed", "removed") if told[kind]]
    return "; ".join(words) or "no topic is different"
