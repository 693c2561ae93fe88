"""A config file's bytes become nodes, or a list of what is wrong with them. Everything here holds for both of PyYAML's parsers."""

from __future__ import annotations

import time

import pytest
import yaml

from hopd.config import source
from hopd.config.nodes import Mapping, Scalar, Sequence, entry_at, spell, yaml_kind
from hopd.config.source import MAX_BYTES, MAX_DEPTH, MAX_NODES, Unreadable, parse


@pytest.fixture(autouse=True, params=["CSafeLoader", "SafeLoader"])
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_PARSER", getattr(yaml, request.param))


def read(text: str | bytes) -> Mapping:
    root, problems = parse("f", text if isinstance(text, bytes) else text.encode())
    assert problems == []
    return root


def problems_of(text: str | bytes) -> list[str]:
    try:
        _, problems = parse("f", text if isinstance(text, bytes) else text.encode())
    except Unreadable as unreadable:
        problems = unreadable.problems
    return [str(problem) for problem in problems]


def the_problem(text: str | bytes) -> str:
    (problem,) = problems_of(text)
    return problem


def text_at(root: Mapping, *path: str | int) -> str:
    entry = entry_at(root, path)
    assert entry is not None
    assert isinstance(entry.value, Scalar)
    return entry.value.text


# --- what is read -------------------------------------------------------------------------------


def test_a_value_is_the_text_that_was_written() -> None:
    assert text_at(read("a: {b: [x, 012]}"), "a", "b", 1) == "012"


def test_keys_and_values_know_their_places() -> None:
    entry = entry_at(read("a:\n  b:   5\n"), ("a", "b"))

    assert entry is not None
    assert (entry.line, entry.column, entry.value.line, entry.value.column) == (2, 3, 2, 8)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert text_at(read(b"\xef\xbb\xbfa: 1"), "a") == "1"


def test_an_alias_stands_for_what_its_anchor_marks() -> None:
    assert text_at(read("a: &x {c: 1}\nb: *x"), "b", "c") == "1"


def test_merged_keys_give_way_to_a_mappings_own_and_to_earlier_sources() -> None:
    root = read("p: &p {a: 1, b: 1, c: 1}\nq: &q {b: 2, d: 2}\nr:\n  <<: [*q, *p]\n  a: 0\n")

    assert [text_at(root, "r", key) for key in "abcd"] == ["0", "2", "1", "2"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("no", "bool"),
        ("012", "int"),
        ("12:30", "int"),
        ("1e3", "str"),
        ("~", "null"),
        ("", "null"),
        ("2001-01-01", "timestamp"),
        ("1.5", "float"),
    ],
)
def test_what_yaml_takes_a_text_for_is_known(text: str, kind: str) -> None:
    assert yaml_kind(text) == kind


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("topics", "emails", "handler"), "topics.emails.handler"),
        (("broker", "urls", 1), "broker.urls[1]"),
        (("topics", "a.b"), 'topics."a.b"'),
    ],
)
def test_a_path_is_spelled_as_people_write_it(path: tuple[str | int, ...], text: str) -> None:
    assert spell(path) == text


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n", "---\n...\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert the_problem(text).startswith("f: the file is empty")


def test_a_list_is_no_config() -> None:
    assert "f:1:1: expected keys and values at the top of the file, got a list" in the_problem("- a\n- b\n")


def test_a_single_value_is_no_config() -> None:
    assert "got a single value" in the_problem("hello")


def test_a_second_document_is_refused_where_it_starts() -> None:
    assert the_problem("a: 1\n---\nb: 2\n").startswith("f:2:1: a second document starts here")


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "\ta: 1\n", "a:\n  b: 1\n\tc: 2\n", "a:\n  - b\n \t- c: [\n", "a: |\n\tb\n"])
def test_a_tab_as_indentation_is_called_a_tab(text: str) -> None:
    assert ": a tab: YAML is indented with spaces" in problems_of(text)[-1]


def test_a_duplicate_key_names_the_line_of_the_first() -> None:
    assert the_problem("t:\n  a: 1\n  b: 2\n  a: 3\n") == "f:4:3: t: duplicate key 'a': it is set in line 2 already"


def test_a_key_is_a_duplicate_however_it_is_quoted() -> None:
    assert "duplicate key 'a'" in the_problem("a: 1\n'a': 2\n")


@pytest.mark.parametrize(
    ("key", "reads"), [("no", "false"), ("On", "true"), ("5", "a number"), ("~", "null"), ("2001-01-01", "a date"), ("1.5", "a number")]
)
def test_a_key_that_yaml_does_not_read_as_text_wants_quotes(key: str, reads: str) -> None:
    assert the_problem(f"{key}: 1\n") == f"f:1:1: a key is text, but YAML reads '{key}' as {reads}: quote it, \"{key}\""


@pytest.mark.parametrize("key", ["? [a]\n", "? {a: 1}\n"])
def test_a_key_that_is_a_collection_is_refused(key: str) -> None:
    assert "a key is text, not" in the_problem(f"{key}: 1\n")


def test_a_variable_in_a_key_is_refused() -> None:
    assert "not in keys" in the_problem("${TOPIC}: 1\n")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!str", "!!binary", "!mine", "!"])
def test_a_tag_is_refused_unread(tag: str) -> None:
    assert f"the tag {tag} has no place in a config" in the_problem(f"a: {tag} 'x'\n")


def test_a_tag_on_a_collection_is_refused_too() -> None:
    assert "the tag !!python/tuple" in the_problem("a: !!python/tuple [1]\n")


def test_merging_what_is_no_mapping_is_refused() -> None:
    assert "<< merges keys and values" in the_problem("a: {<<: 5}\n")


def test_an_alias_without_anchor_is_refused() -> None:
    assert the_problem("a: *b\n") == "f:1:4: a: *b stands for nothing: there is no &b above it"


@pytest.mark.parametrize("date", ["2001-99-99", "2001-02-30", "0000-01-01", "2001-01-01 25:61:61"])
def test_a_date_that_does_not_exist_is_refused(date: str) -> None:
    assert f"YAML reads {date} as a date, and there is no such date" in the_problem(f"a: {date}\n")


def test_syntax_errors_come_with_a_place_and_a_hint() -> None:
    problem = the_problem("a: b: c\n")

    assert problem.startswith("f:1:5: not valid YAML: mapping values are not allowed")
    assert "needs quotes" in problem


def test_a_syntax_error_does_not_hide_what_was_found_before_it() -> None:
    assert len(problems_of("a: 1\na: 2\nb: [\n")) == 2


def test_what_is_not_utf_8_is_refused_with_its_place() -> None:
    assert the_problem("a: 1\nü: ".encode() + b"\xff") == "f:2:4: not UTF-8: save the file in that encoding"


def test_a_nul_is_refused_with_its_place() -> None:
    assert the_problem("a: 1\nb: \0\n").startswith("f:2:4: a NUL character")


def test_control_characters_are_refused() -> None:
    assert "U+0007" in the_problem("a: \a\n")


def test_a_file_of_a_megabyte_and_more_is_refused() -> None:
    assert "larger than 1024 KiB" in the_problem(b"a: " + b"x" * MAX_BYTES)


def test_no_level_is_too_deep_until_the_limit() -> None:
    root = read("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))

    assert isinstance(root.entries["a"].value, Sequence)


# --- what would cost more than its size ---------------------------------------------------------

ALIAS_BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(f"k{n}: &k{n} {{<<: [{','.join([f'*k{n - 1}' if n else '*a'] * 10)}]}}\n" for n in range(9))
ALIAS_TOWER = "a0: &a0 []\n" + "".join(f"a{n}: &a{n} {'[' * 40}*a{n - 1}{']' * 40}\n" for n in range(1, 300))

HOSTILE = {
    "an alias bomb": (ALIAS_BOMB, f"more than {MAX_NODES} values"),
    "a merge bomb": (MERGE_BOMB, f"more than {MAX_NODES} values"),
    "a tower of aliases": (ALIAS_TOWER, f"more than {MAX_DEPTH} levels"),
    "a list in itself": ("a: &a [1, *a]\n", "itself a part of"),
    "a mapping in itself": ("a: &a {b: {c: *a}}\n", "itself a part of"),
    "a mapping merged into itself": ("a: &a\n  <<: *a\n", "itself a part of"),
    "1,500 levels on a line": ("a: " + "[" * 1500 + "]" * 1500, f"more than {MAX_DEPTH} levels"),
    "1,500 levels on lines": ("a:\n " + "[\n " * 1500 + "]" * 1500, f"more than {MAX_DEPTH} levels"),
    "1,500 mappings": ("{a: " * 1500 + "}" * 1500, f"more than {MAX_DEPTH} levels"),
    "1,400 indented levels": ("".join(f"{' ' * n}a:\n" for n in range(1400)), f"more than {MAX_DEPTH} levels"),
    "a 5,000-digit number": (f"a: {'9' * 5000}\n", "one of 5000 characters is none"),
    "no such date": ("a: 2001-99-99\n", "no such date"),
    "python objects": ("a: !!python/object/apply:os.system ['true']\n", "the tag !!python/object/apply:os.system"),
    "no as a key": ("no: 1\n", "YAML reads 'no' as false"),
}


@pytest.mark.parametrize(("text", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_in_under_a_second(text: str, reason: str) -> None:
    started = time.process_time()

    problems = problems_of(text)

    assert reason in problems[-1]
    assert time.process_time() - started < 1.0
