"""Where bytes stop being text and text stops being YAML, in words that help."""

from __future__ import annotations

import yaml
from yaml.reader import Reader

#: What to try, by words of the parser's message (libyaml's and PyYAML's own differ).
_HINTS = (
    ("mapping values are not allowed", "; is the indentation right? A value that contains ': ' needs quotes"),
    ("cannot start any token", "; a value that starts with this character needs quotes"),
    ("end of stream", "; is there a closing quote or bracket?"),
    ("did not find expected ',' or", "; a value that contains { } [ ] or , needs quotes here"),
    ("expected ',' or", "; a value that contains { } [ ] or , needs quotes here"),
)


class Fault(Exception):
    """Reading ends here. Line and column count from 1; 0 means the file as a whole."""

    def __init__(self, line: int, column: int, message: str) -> None:
        self.line = line
        self.column = column
        super().__init__(message)


def decode(data: bytes) -> str:
    """The text of a file, without its byte order mark; `Fault` where it is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        raise _fault_at(before, len(before), "not UTF-8: save the file in that encoding") from error
    match = Reader.NON_PRINTABLE.search(text)
    if match:
        name = "a NUL character" if match[0] == "\0" else f"the control character U+{ord(match[0]):04X}"
        raise _fault_at(text, match.start(), f"{name} has no place in YAML: this is hardly a config")
    return text


def explain(error: yaml.MarkedYAMLError, text: str) -> Fault:
    """What a syntax error is about. The parser's words quote a character at most, so they cannot give a secret away."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Fault(0, 0, f"not valid YAML: {error.problem}")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return Fault(mark.line + 1, indent.index("\t") + 1, "a tab: YAML is indented with spaces")
    if line[mark.column : mark.column + 1] == "\t":
        return Fault(mark.line + 1, mark.column + 1, "a tab: YAML separates with spaces")
    hint = next((hint for words, hint in _HINTS if words in (error.problem or "")), "")
    since = f" ({error.context} from line {error.context_mark.line + 1})" if error.context and error.context_mark else ""
    return Fault(mark.line + 1, mark.column + 1, f"not valid YAML: {error.problem}{since}{hint}")


def _fault_at(text: str, index: int, message: str) -> Fault:
    return Fault(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index), message)
