"""How hopctl shows a status to people.

The whole table where it fits. Where it does not, columns of nothing but zeros go first (a line below says so), then the
counters move under their topic, and names are cut. Numbers are never cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hopd import names, units
from hopd.cli.instances import Answer, Status, merge, name_of
from hopd.cli.table import GAP, Cell, Column, Screen, clean, columns, lines, table_width, wrap

#: What went otherwise than well, in the order of a job's life, and how a count above zero looks.
_TROUBLE: Mapping[str, str] = {
    "failed": "warn",
    "retried": "",
    "requeued": "",
    "buried": "bad",
    "dropped": "bad",
    "lost": "bad",
    "redelivered": "",
}

_STATES: Mapping[str, str] = {
    **dict.fromkeys(("running", "open", "consuming"), "good"),
    **dict.fromkeys(("starting", "reloading", "draining", "connecting", "paused", "idle"), "warn"),
    **dict.fromkeys(("recovering", "blocked", "failed", "closed", "stopped"), "bad"),
}

#: A name is cut to this many columns before a column goes, and to the lesser number when all else has gone.
_NAME_COLUMNS = 28
_SHORT_NAME_COLUMNS = 12

#: Blanks before what stands under a topic.
_INDENT = 4

#: Under this width wrapping makes no text more readable.
_LEAST_COLUMNS = 40

Topics = Mapping[str, Status]


@dataclass(frozen=True)
class _Layout:
    """One way to show the topics: counters with a column, how far names may be cut, and whether counters stand below."""

    shown: Sequence[str]
    least_name: int
    counters_under: bool = False


def render_status(answers: Sequence[Answer], screen: Screen) -> str:
    """The status of one or more instances, for a person. Answers that are errors are left out: hopctl reports them."""
    answered = [answer for answer in answers if answer.error is None]
    one = len(answered) == 1
    head = _render_instance(answered[0], screen) if one else _render_instances(answered, screen)
    topics = answered[0].result.get("topics") or {} if one else merge(answered)["topics"]
    body = _render_topics(topics, screen) if topics else ["no topics are configured"]
    return "\n".join([*head, "", *body]) + "\n"


def _render_instance(answer: Answer, screen: Screen) -> list[str]:
    status = answer.result
    name = clean(f"hopd {status.get('instance') or ''}").rstrip()
    facts = [
        *(_state(status.get("state")), Cell(clean(f"version {status.get('version')}")), Cell(clean(f"pid {status.get('pid')}"))),
        *(Cell(f"up {_uptime(status)}"), Cell(clean(answer.socket), "quiet")),
    ]
    links = {"broker": status.get("broker") or {}}
    publisher = status.get("publisher") or {}
    if publisher.get("state") not in (None, "open", "closed"):
        links["publisher"] = {**publisher, "url": None}
    indent = max(columns(label) for label in (name, *links))
    found = _facts(Cell(name, "strong"), facts, screen, indent)
    for label, link in links.items():
        found += _facts(Cell(label, "strong"), [_state(link.get("state")), *_place_of(link)], screen, indent)
        found += _details(_trouble_of(link), screen, indent + GAP)
    return found


def _render_instances(answers: Sequence[Answer], screen: Screen) -> list[str]:
    merged = merge(answers)
    facts = [_state(merged["state"]), Cell(clean(f"version {merged['version']}"))]
    title = f"hopd, {len(answers)} instances"
    found = _facts(Cell(title, "strong"), facts, screen, columns(title))
    links = [answer.result.get("broker") or {} for answer in answers]
    table = [
        Column("instance", [Cell(clean(name_of(answer.result, number))) for number, answer in enumerate(answers, 1)], right=False),
        Column("state", [_state(answer.result.get("state")) for answer in answers], right=False),
        Column("pid", [Cell(clean(answer.result.get("pid"))) for answer in answers]),
        Column("up", [Cell(_uptime(answer.result)) for answer in answers]),
        Column("broker", [_state(link.get("state")) for link in links], right=False),
        Column("socket", [Cell(clean(answer.socket), "quiet") for answer in answers], right=False),
    ]
    if not screen.fits(table_width(table)):
        table.pop()
    titles, *rows = lines(table, screen)
    found.append(titles)
    for row, link in zip(rows, links, strict=True):
        found.append(row)
        found += _details(_trouble_of(link), screen, indent=table[0].width + GAP)
    urls = sorted({clean(link.get("url")) for link in links if link.get("url")})
    return [*found, *_facts(Cell("broker", "strong"), [Cell(url) for url in urls], screen, columns("broker"))]


def _place_of(link: Status) -> list[Cell]:
    """Where a broker is; of one in the daemon's own process also where it keeps its messages."""
    url = [Cell(clean(link["url"]))] if link.get("url") else []
    return [*url, Cell(clean(f"embedded, in {link['embedded']}"), "quiet")] if link.get("embedded") else url


def _trouble_of(link: Status) -> str:
    """Why a connection is not open, and what is being done about it."""
    if link.get("state") == "open":
        return ""
    words = [f"attempt {_count(link, 'attempt'):,}"] if _count(link, "attempt") else []
    if link.get("next_try") is not None:
        words.append(f"next try in {_duration(link['next_try'])}")
    reason = clean(link.get("reason") or "")
    return f"{', '.join(words)}: {reason}" if words and reason else reason or ", ".join(words)


def _facts(name: Cell, facts: Sequence[Cell], screen: Screen, indent: int) -> list[str]:
    """`name` in `indent` columns and facts about it on one line, or on more where they do not fit."""
    found = [screen.paint(name.text, name.style) + " " * (indent - columns(name.text))]
    used = indent
    for fact in facts:
        if not screen.fits(used + GAP + columns(fact.text)) and used > indent:
            found.append(" " * indent)
            used = indent
        found[-1] += " " * GAP + screen.paint(fact.text, fact.style)
        used += GAP + columns(fact.text)
    return found


def _details(text: str, screen: Screen, indent: int) -> list[str]:
    if not text:
        return []
    width = None if screen.width is None else max(screen.width, _LEAST_COLUMNS)
    return wrap(text.split(), width, indent)


def _render_topics(topics: Topics, screen: Screen) -> list[str]:
    trouble = [name for name in _TROUBLE if any(_count(about, name) for about in topics.values())]
    for layout in (
        _Layout(list(_TROUBLE), _NAME_COLUMNS),
        _Layout(trouble, _NAME_COLUMNS),
        _Layout((), _NAME_COLUMNS, counters_under=True),
        _Layout((), _SHORT_NAME_COLUMNS, counters_under=True),
    ):
        table = _table(topics, layout.shown, screen, _room(topics, layout, screen))
        if screen.fits(table_width(table)):
            break
    found = _rows(topics, table, screen, under=layout.counters_under)
    return found if layout.counters_under else found + _footnote(layout, screen)


def _room(topics: Topics, layout: _Layout, screen: Screen) -> int:
    """How wide names may be so that the table fits, but no less than the layout wants."""
    if screen.width is None:
        return names.MAX_TOPIC_BYTES
    return max(layout.least_name, screen.width - GAP - table_width(_table(topics, layout.shown, screen, 1)[1:]))


def _table(topics: Topics, shown: Sequence[str], screen: Screen, name_width: int) -> list[Column]:
    rows = list(topics.items())
    total = [_total(topics)] if len(rows) > 1 else []
    abouts = [about for _, about in rows] + total
    titles = [Cell(screen.cut(clean(name), name_width), "strong") for name, _ in rows] + [Cell("all topics", "quiet")] * len(total)
    return [
        Column("topic", titles, right=False),
        Column("state", [_state(about.get("state")) for about in abouts], right=False),
        Column("running", [Cell(f"{_count(about, 'running'):,}/{_count(about, 'concurrency'):,}") for about in abouts]),
        Column("waiting", [_number(about, "waiting", "") for about in abouts]),
        Column("done", [_number(about, "done", "") for about in abouts]),
        *(Column(name, [_number(about, name, _TROUBLE[name]) for about in abouts]) for name in shown),
    ]


def _rows(topics: Topics, table: Sequence[Column], screen: Screen, *, under: bool) -> list[str]:
    title, *rows = lines(table, screen)
    found = [title]
    for row, about in zip(rows, [*topics.values(), *([_total(topics)] if len(topics) > 1 else [])], strict=True):
        found.append(row)
        counts = [Cell(f"{name} {_count(about, name):,}", style) for name, style in _TROUBLE.items() if _count(about, name)]
        if under and counts:
            found += _facts(Cell(""), counts, screen, _INDENT - GAP)
        found += _details(clean(about.get("reason") or ""), screen, _INDENT)
    return found


def _footnote(layout: _Layout, screen: Screen) -> list[str]:
    hidden = [name for name in _TROUBLE if name not in layout.shown]
    if not hidden:
        return []
    text = f"none {hidden[0]}" if len(hidden) == 1 else f"none {', '.join(hidden[:-1])} or {hidden[-1]}"
    return ["", *(screen.paint(line, "quiet") for line in _details(text, screen, 0))]


def _total(topics: Topics) -> dict[str, Any]:
    keys = ("running", "concurrency", "waiting", "done", *_TROUBLE)
    return {"state": "", **{key: sum(_count(about, key) for about in topics.values()) for key in keys}}


def _state(state: Any) -> Cell:
    text = clean("?" if state is None else state)
    return Cell(text, _STATES.get(text, ""))


def _number(about: Status, key: str, style: str) -> Cell:
    count = _count(about, key)
    return Cell(f"{count:,}", style if count else "quiet")


def _count(about: Status, key: str) -> int:
    value = about.get(key)
    return int(value) if isinstance(value, (int, float)) else 0


def _uptime(status: Status) -> str:
    value = status.get("uptime")
    return units.format_duration(max(0, int(value))) if isinstance(value, (int, float)) else "?"


def _duration(value: Any) -> str:
    return units.format_duration(max(0.0, round(value, 1))) if isinstance(value, (int, float)) else "?"
