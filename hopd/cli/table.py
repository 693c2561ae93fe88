"""Text tables for terminals: columns that line up, colours that can be left out, names that are cut where space is short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: ANSI codes by the word for what they mean here.
_COLOURS: Mapping[str, str] = {"good": "32", "warn": "33", "bad": "31;1", "quiet": "2", "strong": "1"}

#: Blanks between two columns.
GAP = 2


@dataclass(frozen=True)
class Screen:
    """Where the text is shown. `width` is in columns, None where there is no end to a line."""

    width: int | None = None
    colours: bool = False
    ellipsis: str = "…"

    def paint(self, text: str, style: str) -> str:
        """`text` in the colour of `style`; as it is where colours are off or the style is empty."""
        if not self.colours or not style or not text.strip():
            return text
        return f"\033[{_COLOURS[style]}m{text}\033[0m"

    def fits(self, width: int) -> bool:
        """Whether a line of `width` columns fits."""
        return self.width is None or width <= self.width

    def cut(self, text: str, width: int) -> str:
        """`text` in at most `width` columns, the end replaced by an ellipsis where it is cut."""
        if columns(text) <= width:
            return text
        kept = ""
        for character in text:
            if columns(kept + character + self.ellipsis) > width:
                break
            kept += character
        return kept + self.ellipsis


@dataclass(frozen=True)
class Cell:
    """One text in a table and how it looks."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its title and its cells, all of the same number of rows. Numbers stand on the right."""

    title: str
    cells: Sequence[Cell]
    right: bool = True

    @property
    def width(self) -> int:
        """Columns of the widest text in it."""
        return max(columns(text) for text in (self.title, *(cell.text for cell in self.cells)))


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    import unicodedata  # a megabyte of tables that few topic names need

    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def clean(text: object) -> str:
    """`text` on one line and without anything that could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def table_width(table: Sequence[Column]) -> int:
    """Columns of the whole table."""
    return sum(column.width for column in table) + GAP * (len(table) - 1)


def lines(table: Sequence[Column], screen: Screen) -> list[str]:
    """The title line and one line a row."""
    titles = [_placed(Cell(column.title, "quiet"), column, screen) for column in table]
    rows = [[_placed(column.cells[row], column, screen) for column in table] for row in range(len(table[0].cells))]
    return [(" " * GAP).join(cells).rstrip() for cells in (titles, *rows)]


def wrap(words: Sequence[str], width: int | None, indent: int) -> list[str]:
    """Lines of at most `width` columns, each after `indent` blanks; a word that is longer gets a line of its own."""
    found: list[str] = []
    for word in words:
        if found and (width is None or columns(found[-1]) + 1 + columns(word) <= width):
            found[-1] += " " + word
        else:
            found.append(" " * indent + word)
    return found


def _placed(cell: Cell, column: Column, screen: Screen) -> str:
    blanks = " " * (column.width - columns(cell.text))
    painted = screen.paint(cell.text, cell.style)
    return blanks + painted if column.right else painted + blanks
