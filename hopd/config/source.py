"""A config file's bytes become nodes that know their place, or a list of what is wrong with them.

The parser's events are taken one by one and nothing recurses, so that no file, however built, costs more than its size:
depth, nodes after aliases and bytes are capped, and tags, which could construct things, are refused unread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor

from hopd.config.nodes import Entry, Mapping, Node, Scalar, Sequence, spell, yaml_kind
from hopd.config.syntax import Fault, decode, explain
from hopd.errors import Problem

#: A thousand topics with every key written out are about 400 KiB.
MAX_BYTES = 1024 * 1024
#: The deepest value a config knows is five levels down; queue arguments may nest some more.
MAX_DEPTH = 50
#: Nodes once aliases are followed: a thousand topics with every key written out are about 30,000.
MAX_NODES = 100_000
#: Characters of a number; more is text that lacks its quotes (Python refuses to convert 4,300 digits).
MAX_NUMBER = 100

#: libyaml from 0.2.6 on stops at 1,000 levels, and may look that far ahead before it tells of the first.
_LIBYAMLS_LIMIT = "maximum nesting depth"

_NEEDS = "a config needs at least   topics: {emails: {handler: myapp.jobs:send_email}}"
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML has it: twenty times as fast


class Unreadable(Exception):
    """The file cannot be read to its end; `problems` says why, and what was found on the way."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} problems")


def parse(file: str, data: bytes) -> tuple[Mapping, list[Problem]]:
    """The file's top-level mapping and the problems that did not stop the reading; `Unreadable` when one did."""
    builder = _Builder(file)
    if len(data) > MAX_BYTES:
        builder.stop(0, 0, f"larger than {MAX_BYTES // 1024} KiB: this is hardly a config")
    try:
        text = decode(data)
    except Fault as fault:
        builder.stop(fault.line, fault.column, str(fault))
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        syntax = explain(error, text)
        if _LIBYAMLS_LIMIT in (error.problem or ""):
            builder.stop(syntax.line, syntax.column, f"more than {MAX_DEPTH} levels deep")
        builder.stop(syntax.line, syntax.column, str(syntax))
    except yaml.YAMLError as error:
        builder.stop(0, 0, f"not valid YAML: {error}")
    return builder.root(), builder.problems


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet; a mapping's keys and values alternate in `items`."""

    kind: str
    line: int
    column: int
    before: int  # how many nodes there were when it began
    items: list[Node] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)  # of a mapping's keys so far; None for one that was refused
    lines: dict[str, int] = field(default_factory=dict)  # where each of them stands
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchor:
    """What an alias stands for: a node with its size and height once all aliases in it are followed; open while node is None."""

    node: Node | None = None
    size: int = 1
    height: int = 0


class _Builder:
    """Puts nodes together from events.

    1. counts nodes and depth, aliases followed, and stops at the caps;
    2. resolves aliases itself, so that a thing within itself is seen;
    3. refuses tags, and values that YAML promises but cannot deliver;
    4. makes mappings: text as keys, each once, `<<` merged in.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchor] = {}
        self._anchor_of: list[str | None] = []
        self._nodes = 0
        self._documents = 0
        self._root: Node | None = None
        self._takers: dict[type[yaml.Event], Callable[[Any], None]] = {
            yaml.DocumentStartEvent: self._document,
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.SequenceStartEvent: self._begin,
            yaml.MappingStartEvent: self._begin,
            yaml.SequenceEndEvent: self._end,
            yaml.MappingEndEvent: self._end,
        }

    def take(self, event: yaml.Event) -> None:
        taker = self._takers.get(type(event))
        if taker is not None:
            taker(event)

    def root(self) -> Mapping:
        root = self._root
        if root is None or (isinstance(root, Scalar) and root.kind == "null"):
            self.stop(0, 0, f"the file is empty; {_NEEDS}")
        if not isinstance(root, Mapping):
            what = "a list" if isinstance(root, Sequence) else "a single value"
            self.stop(root.line, root.column, f"expected keys and values at the top of the file, got {what}; {_NEEDS}")
        return root

    def stop(self, line: int, column: int, message: str) -> NoReturn:
        self._found(line, column, message)
        raise Unreadable(self.problems) from None

    def _found(self, line: int, column: int, message: str) -> None:
        self.problems.append(Problem(self.file, line, column, spell(list(self._path())), message))

    def _path(self) -> Iterator[str | int]:
        """Where the next node goes: the key at hand of each open mapping, the index in each open list."""
        for collection in self._open:
            last = collection.items[-1] if collection.items else None
            if collection.kind == "list":
                yield len(collection.items)
            elif len(collection.items) % 2 and isinstance(last, Scalar):
                yield last.text

    # --- one method for each event --------------------------------------------------------------

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            self.stop(*_place(event), "a second document starts here: a config is one document, remove the '---'")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line, column = _place(event)
        scalar = Scalar(event.value, event.tag is None and event.implicit[0], line, column)
        self._refuse_tag(event)
        if scalar.plain:
            wrong = _undeliverable(scalar.text)
            if wrong:
                self._found(line, column, wrong)
        if event.anchor:
            self._anchors[event.anchor] = _Anchor(scalar)
        self._add(scalar, 1, 0)

    def _alias(self, event: yaml.AliasEvent) -> None:
        line, column = _place(event)
        name = event.anchor or ""
        anchor = self._anchors.get(name)
        if anchor is None:
            self.stop(line, column, f"*{name} stands for nothing: there is no &{name} above it")
        if anchor.node is None:
            self.stop(line, column, f"*{name} stands for something that it is itself a part of")
        self._add(anchor.node, anchor.size, anchor.height, line, column)

    def _begin(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        line, column = _place(event)
        self._refuse_tag(event)
        if len(self._open) >= MAX_DEPTH:
            self.stop(line, column, f"more than {MAX_DEPTH} levels deep")
        self._open.append(_Open("list" if isinstance(event, yaml.SequenceStartEvent) else "mapping", line, column, self._nodes))
        self._anchor_of.append(event.anchor)
        if event.anchor:
            self._anchors[event.anchor] = _Anchor()

    def _end(self, _: yaml.Event) -> None:
        done = self._open[-1]
        node = Sequence(tuple(done.items), done.line, done.column) if done.kind == "list" else self._mapping(done)
        self._open.pop()
        anchor = self._anchor_of.pop()
        if anchor:
            self._anchors[anchor] = _Anchor(node, self._nodes - done.before + 1, done.height)
        self._add(node, 1, done.height)

    def _add(self, node: Node, size: int, height: int, line: int = 0, column: int = 0) -> None:
        """Put a finished node where it belongs. An alias brings the size and height of what it stands for."""
        line, column = line or node.line, column or node.column
        self._nodes += size
        if self._nodes > MAX_NODES:
            self.stop(line, column, f"more than {MAX_NODES} values once the aliases are followed")
        if len(self._open) + height > MAX_DEPTH:
            self.stop(line, column, f"more than {MAX_DEPTH} levels deep once the aliases are followed")
        if not self._open:
            self._root = node
            return
        if self._open[-1].kind == "mapping" and len(self._open[-1].items) % 2 == 0:
            self._open[-1].names.append(self._key(self._open[-1], node, line, column))
        self._open[-1].items.append(node)
        self._open[-1].height = max(self._open[-1].height, height + 1)

    # --- mappings -------------------------------------------------------------------------------

    def _key(self, mapping: _Open, key: Node, line: int, column: int) -> str | None:
        """The name of a key, checked as soon as it comes: a syntax error further down hides nothing."""
        if not isinstance(key, Scalar):
            self._found(line, column, f"a key is text, not {'a list' if isinstance(key, Sequence) else 'keys and values'}")
            return None
        if key.kind not in ("str", "merge", "value") and key.text not in _TEXT_AS_KEY:
            written = f"'{key.text}'" if key.text else "nothing"
            read = _READS.get(key.text.lower()) or _KINDS[key.kind]
            self._found(line, column, f'a key is text, but YAML reads {written} as {read}: quote it, "{key.text}"')
            return None
        if key.text in mapping.lines:
            self._found(line, column, f"duplicate key '{key.text}': it is set in line {mapping.lines[key.text]} already")
            return None
        if "${" in key.text:
            self._found(line, column, "${…} is filled in in values, not in keys")
        mapping.lines[key.text] = line
        return key.text

    def _mapping(self, done: _Open) -> Mapping:
        entries: dict[str, Entry] = {}
        merged: list[Mapping] = []
        for name, key, value in zip(done.names, done.items[::2], done.items[1::2], strict=True):
            if isinstance(key, Scalar) and key.kind == "merge":
                merged.extend(self._merge_sources(value))
            elif name is not None:
                entries[name] = Entry(key.line, key.column, value)
        for source in merged:  # the mapping's own keys win, then the first of several sources
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)
        return Mapping(entries, done.line, done.column)

    def _merge_sources(self, value: Node) -> list[Mapping]:
        sources = value.items if isinstance(value, Sequence) else (value,)
        for source in sources:
            if not isinstance(source, Mapping):
                self._found(source.line, source.column, "<< merges keys and values: it takes an alias of a mapping, or a list of them")
        return [source for source in sources if isinstance(source, Mapping)]

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._found(*_place(event), f"the tag {tag} has no place in a config: remove it, and quote what is meant as text")


#: `retry.on`: true to YAML 1.1, text to YAML 1.2 and to whoever writes it.
_TEXT_AS_KEY = frozenset({"on"})
_READS = dict.fromkeys(("no", "off", "false"), "false") | dict.fromkeys(("yes", "on", "true"), "true")
_KINDS = {"null": "null", "bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a date"}


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)


def _undeliverable(text: str) -> str | None:
    """Why an unquoted value is none, although it looks like one (no such date, a number beyond all measure)."""
    kind = yaml_kind(text)
    if kind in ("int", "float") and len(text) > MAX_NUMBER:
        return f"YAML reads this as a number, and one of {len(text)} characters is none: quote it if it is text"
    if kind == "timestamp":
        try:
            SafeConstructor().construct_yaml_timestamp(yaml.ScalarNode("", text))
        except (ValueError, OverflowError):
            return f'YAML reads {text} as a date, and there is no such date: quote it if it is text, "{text}"'
    return None
