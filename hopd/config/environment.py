"""``${VAR}`` and ``${VAR:-default}`` in values; ``$${`` stands for a literal ``${``.

The default is used when the variable is unset or empty, as in a shell. What comes in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Environ
from dataclasses import replace

from hopd.config.nodes import Entry, Mapping, Node, Path, Scalar, Sequence, spell
from hopd.errors import Problem

_PIECE = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


def fill(text: str, environ: Environ[str, str]) -> tuple[str, list[str]]:
    """The text with its variables filled in, and what is wrong with them (naming variables, never their values)."""
    problems: list[str] = []

    def piece(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        inside = _INSIDE.fullmatch(match["inside"])
        if not match["end"] or inside is None:
            problems.append("not understood: write ${NAME} or ${NAME:-default}, and $${ for a literal ${")
            return ""
        name, default = inside["name"], inside["default"]
        if default is not None and "${" in default:
            problems.append(f"the default of ${{{name}}} cannot hold another variable")
            return ""
        if default is None and name not in environ:
            problems.append(f"the environment variable {name} is not set: set it, or give a default, ${{{name}:-…}}")
            return ""
        return environ.get(name, "") if default is None else environ.get(name) or default

    return _PIECE.sub(piece, text), problems


def expand(file: str, node: Node, environ: Environ[str, str], path: Path = ()) -> tuple[Node, list[Problem]]:
    """The node with the variables of all its values filled in, and the problems with that."""
    if isinstance(node, Scalar):
        return _expand_scalar(file, node, environ, path)
    problems: list[Problem] = []

    def inner(child: Node, step: str | int) -> Node:
        done, found = expand(file, child, environ, (*path, step))
        problems.extend(found)
        return done

    if isinstance(node, Sequence):
        return replace(node, items=tuple(inner(item, index) for index, item in enumerate(node.items))), problems
    entries = {key: Entry(entry.line, entry.column, inner(entry.value, key)) for key, entry in node.entries.items()}
    return Mapping(entries, node.line, node.column), problems


def _expand_scalar(file: str, scalar: Scalar, environ: Environ[str, str], path: Path) -> tuple[Scalar, list[Problem]]:
    if "${" not in scalar.text:
        return scalar, []
    text, wrong = fill(scalar.text, environ)
    # A value that is one variable and nothing else is read as if its content had been written there: a number may be one.
    alone = _PIECE.fullmatch(scalar.text)
    plain = scalar.plain or bool(alone and not alone["escaped"])
    problems = [Problem(file, scalar.line, scalar.column, spell(path), message) for message in wrong]
    return Scalar(text, plain, scalar.line, scalar.column, written=scalar.text), problems
