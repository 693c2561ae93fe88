"""The house stands: imports point to a lower floor only, there is no circle, and some rooms keep their doors shut.

Run with -s to see the floors.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.process import ROOT

#: The floor of each module, found by its longest prefix here. A module that is not mentioned has no place in the house.
FLOORS: Mapping[str, int] = {
    "hopd.errors": 0,
    "hopd.lifecycle": 0,
    "hopd.logs": 0,
    "hopd.names": 0,
    "hopd.units": 0,
    "hopd.version": 0,
    "hopd.control": 0,  # the package itself: empty
    "hopd.control.client": 0,
    "hopd.control.paths": 0,
    "hopd.control.protocol": 0,
    "hopd.demo": 6,
    "tests.support.private_node": 0,
    "tests.support.node_control": 0,
    "hopd.config": 1,
    "hopd.amqp": 2,
    "hopd.aside": 3,
    "hopd.broker": 3,
    "hopd.browse": 3,
    "hopd.buried": 3,
    "hopd.delay": 3,
    "hopd.failure": 3,
    "hopd.job": 3,
    "hopd.message": 3,
    "hopd.pull": 3,
    "hopd.topic": 3,
    "hopd.workqueue": 3,
    "hopd": 3,  # the public face of the library; it loads nothing by itself
    "hopd.engine": 4,
    "hopd.control.arguments": 5,
    "hopd.control.commands": 5,
    "hopd.control.peer": 5,
    "hopd.control.server": 5,
    "hopd.control.socketfile": 0,
    "hopd.observe": 5,
    "hopd.cli": 6,
    "hopd.testing": 6,
}

#: Packages whose own __init__ is imported with everything in them, so it must import nothing of the house.
EMPTY_INITS = {"hopd.control", "hopd.demo", "hopd.cli", "hopd.broker"}

#: Who may import what from outside. Everything else is free.
ROOMS: Mapping[str, tuple[str, ...]] = {
    "pika": ("hopd.amqp",),
    "gevent": (
        "hopd.broker.commits",
        "hopd.broker.server",
        "hopd.broker.switchboard",
        "hopd.engine",
        "hopd.control.server",
        "hopd.observe",
        "hopd.cli.hopd",
    ),
}

#: What hopctl must not load, even indirectly: it has to start in well under 150 ms.
TOO_HEAVY_FOR_HOPCTL = ("gevent", "pika", "pydantic", "yaml", "ssl")

#: Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}

MODULES: Mapping[str, Path] = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in sorted((ROOT / "hopd").rglob("*.py"))
}


def floor_of(module: str) -> int | None:
    """The floor of a module of ours, from the longest prefix in the table; `hopd` itself stands only for itself."""
    name = module
    while name != "hopd":
        if name in FLOORS:
            return FLOORS[name]
        name = name.rpartition(".")[0]
    return FLOORS["hopd"] if module == "hopd" else None


def imports_of(module: str, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that `module` imports, wherever in the file (also for types only), with the line."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in MODULES else base), node.lineno


def parse() -> dict[str, list[tuple[str, int]]]:
    return {module: sorted(set(imports_of(module, ast.parse(path.read_text())))) for module, path in MODULES.items()}


IMPORTS = parse()
INSIDE = {
    module: sorted({target for target, _ in targets if target in MODULES and target != module}) for module, targets in IMPORTS.items()
}


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_every_module_has_a_floor() -> None:
    for floor in sorted({floor for floor in map(floor_of, MODULES) if floor is not None}, reverse=True):
        print(floor, *(module.removeprefix("hopd.") for module in MODULES if floor_of(module) == floor))

    assert [module for module in MODULES if floor_of(module) is None] == []


def test_imports_never_point_to_a_higher_floor() -> None:
    upward = [
        f"{MODULES[module].relative_to(ROOT)}:{line}: {module} (floor {floor_of(module)}) imports {target} (floor {floor_of(target)})"
        for module, targets in IMPORTS.items()
        for target, line in targets
        if target in MODULES and target != "hopd" and module != "hopd" and (floor_of(target) or 0) > (floor_of(module) or 0)
    ]

    assert upward == []


def test_there_is_no_circle() -> None:
    finished: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "a circle: " + " → ".join((*path[path.index(module) :], module))
        if module not in finished:
            for target in INSIDE[module]:
                if target != "hopd":  # loads lazily: test_importing_hopd_loads_nothing_else
                    follow(target, (*path, module))
            finished.add(module)

    for module in MODULES:
        follow(module, ())


@pytest.mark.parametrize("library", ROOMS)
def test_a_library_stays_in_its_rooms(library: str) -> None:
    outside = [
        f"{MODULES[module].relative_to(ROOT)}:{line}: imports {target}"
        for module, targets in IMPORTS.items()
        for target, line in targets
        if target.partition(".")[0] == library and not within(module, ROOMS[library])
    ]

    assert outside == []


@pytest.mark.parametrize("package", sorted(EMPTY_INITS))
def test_a_package_of_several_floors_imports_nothing_itself(package: str) -> None:
    assert INSIDE[package] == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    files = [path for top in ("hopd", "tests") for path in (ROOT / top).rglob("*.py")]

    assert [str(path.relative_to(ROOT)) for path in files if EMPTY_NAMES.intersection([path.stem, path.parent.name])] == []


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh Python has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_importing_hopd_loads_nothing_else() -> None:
    loaded = loaded_by("import hopd")

    assert {module for module in loaded if module.startswith("hopd")} == {"hopd", "hopd.version"}
    assert not loaded.intersection({"pika", "gevent", "ssl", "socket", "threading"})


def test_the_names_of_the_library_are_found_when_asked_for() -> None:
    loaded_by("from hopd import Job, Topic, WorkQueue, connect, HopError, Unroutable")


def test_hopctl_starts_light() -> None:
    loaded = loaded_by("import hopd.cli.hopctl")

    assert {module.partition(".")[0] for module in loaded}.intersection(TOO_HEAVY_FOR_HOPCTL) == set()


def test_the_hopd_command_can_patch_before_anything_is_loaded() -> None:
    loaded = loaded_by("import hopd.cli.hopd")

    assert not loaded.intersection({"pika", "ssl", "gevent"})


def test_a_daemon_does_not_load_a_broker_that_it_may_not_need() -> None:
    loaded = loaded_by("from gevent import monkey; monkey.patch_all(); import hopd.engine.daemon")

    assert {module for module in loaded if module.startswith("hopd.broker")} == set()


def test_the_private_node_needs_only_the_standard_library() -> None:
    loaded = loaded_by("import tests.support.private_node")
    ours = {module for module in loaded if module.startswith("hopd")}

    assert ours == {"hopd", "hopd.version", "hopd.errors", "hopd.units"}
    assert not {module.partition(".")[0] for module in loaded}.intersection({"pika", "gevent", "yaml", "pydantic", "click", "rich"})
