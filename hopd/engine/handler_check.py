"""Import the handlers of a config in a child process, and tell what is wrong with them.

One child imports them in the order of the config and reports on each. When it hangs or dies, the topic that it was at is
to blame, and a new child goes on behind that. Never a fork: the caller may run a hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hopd.engine.handler_child import Child
from hopd.errors import HandlerError, Problem

if TYPE_CHECKING:  # the child imports this file by way of handler.py, and has no use for pydantic
    from hopd.config.load import Loaded

#: Seconds for an interpreter and gevent to start, on a machine that is busy with other things.
START_TIMEOUT = 30.0


def check(loaded: Loaded, timeout: float) -> list[Problem]:
    """The problems of a config's handlers, in the order of the file. Each handler has `timeout` seconds for its import.

    Neither the broker nor this process's modules are touched. `HandlerError` when no child process can be started.
    """
    topics = [(name, topic.handler) for name, topic in loaded.settings.topics.items()]
    reasons: dict[str, str] = {}
    guilty: dict[str, str] = {}  # the modules that stopped a child, and the topic that was being imported
    while topics:
        known = [(name, spec) for name, spec in topics if _module(spec) in guilty]
        for name, spec in known:
            reasons[name] = f"not tried: {_module(spec)} stopped the check, as said of topic {guilty[_module(spec)]}"
        topics = [topic for topic in topics if topic not in known]
        results, stopped = _run_child(loaded.settings.import_path, [spec for _, spec in topics], timeout)
        for (name, _), reason in zip(topics, results, strict=False):  # the results end where the child did
            if reason is not None:
                reasons[name] = reason
        topics = topics[len(results) :]
        if topics:
            (name, spec), *topics = topics
            guilty[_module(spec)] = name
            reasons[name] = f"while it was imported, the process {stopped}"
    problems = [
        loaded.problem(f"{loaded.settings.topics[name].handler}: {reason}", "topics", name, "handler") for name, reason in reasons.items()
    ]
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _module(spec: str) -> str:
    return spec.partition(":")[0]


def _run_child(import_path: Sequence[str], specs: Sequence[str], timeout: float) -> tuple[list[str | None], str]:
    """What is wrong with each handler, None for nothing, as far as a child came; and what stopped it before the end."""
    results: list[str | None] = []
    if not specs:
        return results, ""
    with Child(import_path, specs) as child:
        if child.report(START_TIMEOUT) is None:
            raise HandlerError(f"the process that imports the handlers did not start: it {child.ended}")
        while len(results) < len(specs):
            report = child.report(timeout)
            if report is None:
                return results, child.ended
            results.append(report["problem"])
    return results, ""
