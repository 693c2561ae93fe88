"""Import what a config names in a child process, handlers and exceptions, and tell what is wrong with them.

One child imports them in the order of the config and reports on each. When it hangs or dies, what it was at is to blame,
and a new child goes on behind that. Never a fork: the caller may run a hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hopd.config.load import Loaded
from hopd.config.nodes import spell
from hopd.engine.handler_child import Child
from hopd.engine.named import Named, named
from hopd.errors import HandlerError, Problem

#: Seconds for an interpreter and gevent to start, on a machine that is busy with other things.
START_TIMEOUT = 30.0


def check(loaded: Loaded, timeout: float, topics: Iterable[str] | None = None) -> list[Problem]:
    """The problems of what a config names for these topics, or all, in the order of the file. Each import has `timeout` seconds.

    Neither the broker nor this process's modules are touched. `HandlerError` when no child process can be started.
    """
    items = named(loaded, topics)
    reasons: dict[Named, str] = {}
    guilty: dict[str, Named] = {}  # the modules that stopped a child, and what was being imported
    while items:
        known = [item for item in items if _module(item) in guilty]
        for item in known:
            module = _module(item)
            reasons[item] = f"not tried: {module} stopped the check, as said of {spell(guilty[module].path)}"
        items = [item for item in items if item not in known]
        results, stopped = _run_child(loaded.settings.import_path, items, timeout)
        # The results end where the child did.
        reasons |= {item: reason for item, reason in zip(items, results, strict=False) if reason is not None}
        items = items[len(results) :]
        if items:
            item, *items = items
            guilty[_module(item)] = item
            reasons[item] = f"while it was imported, the process {stopped}"
    problems = [loaded.problem(f"{item.spec}: {reason}", *item.path) for item, reason in reasons.items()]
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _module(item: Named) -> str:
    return item.spec.partition(":")[0]


def _run_child(import_path: Sequence[str], items: Sequence[Named], timeout: float) -> tuple[list[str | None], str]:
    """What is wrong with each name, None for nothing, as far as a child came; and what stopped it before the end."""
    results: list[str | None] = []
    if not items:
        return results, ""
    with Child(import_path, [(item.kind, item.spec) for item in items]) as child:
        if child.report(START_TIMEOUT) is None:
            raise HandlerError(f"the process that imports the handlers did not start: it {child.ended}")
        while len(results) < len(items):
            report = child.report(timeout)
            if report is None:
                return results, child.ended
            results.append(report["problem"])
    return results, ""
