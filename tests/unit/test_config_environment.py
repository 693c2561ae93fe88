"""Variables in the values of a config."""

from __future__ import annotations

from pathlib import Path

import pytest

from hopd.config.environment import fill
from hopd.config.load import Loaded, load
from hopd.errors import ConfigError

ENVIRON = {"A": "one", "B": "two", "EMPTY": "", "RAW": "${A}"}


def load_text(directory: Path, text: str, environ: dict[str, str]) -> Loaded:
    file = directory / "hopd.yaml"
    file.write_text(text)
    return load(str(file), environ)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${A}", "one"),
        ("x-${A}-${B}", "x-one-two"),
        ("${NONE:-default}", "default"),
        ("${A:-default}", "one"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-amqp://u:p@h:5672/}", "amqp://u:p@h:5672/"),
        ("$${A}", "${A}"),
        ("$A $ $$ {A}", "$A $ $$ {A}"),
        ("${RAW}", "${A}"),
    ],
)
def test_variables_are_filled_in(text: str, filled: str) -> None:
    assert fill(text, ENVIRON) == (filled, [])


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${1A}", "${A-B}", "${A:?x}", "${ A }"])
def test_what_looks_like_a_variable_and_is_none_is_refused(text: str) -> None:
    _, problems = fill(text, ENVIRON)

    assert problems == ["not understood: write ${NAME} or ${NAME:-default}, and $${ for a literal ${"]


def test_a_variable_in_a_default_is_refused() -> None:
    assert "cannot hold another variable" in fill("${A:-${B}}", ENVIRON)[1][0]


def test_a_variable_that_is_not_set_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(tmp_path, "topics:\n  a:\n    handler: m:f\n    concurrency: ${JOBS}\n", {})

    assert [str(problem).removeprefix(str(tmp_path)) for problem in raised.value.problems] == [
        "/hopd.yaml:4:18: topics.a.concurrency: the environment variable JOBS is not set: set it, or give a default, ${JOBS:-…}"
    ]


def test_every_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(tmp_path, "broker: {url: '${URL}'}\ntopics: {a: {handler: 'm:${F}${G}'}}\n", {})

    assert [problem.message.split()[3] for problem in raised.value.problems] == ["URL", "F", "G"]


@pytest.mark.parametrize("written", ["${JOBS}", "'${JOBS}'", "${NONE:-50}"])
def test_a_value_that_is_one_variable_may_become_a_number(tmp_path: Path, written: str) -> None:
    loaded = load_text(tmp_path, f"topics: \n a: {{handler: m:f}}\n b:\n  handler: m:f\n  concurrency: {written}\n", {"JOBS": "50"})

    assert loaded.settings.topics["b"].concurrency == 50


def test_a_value_that_is_one_variable_may_become_true_or_false(tmp_path: Path) -> None:
    assert load_text(tmp_path, "topics:\n a:\n  handler: m:f\n  paused: ${P}\n", {"P": "yes"}).settings.topics["a"].paused


def test_a_value_that_is_one_empty_variable_counts_as_left_out(tmp_path: Path) -> None:
    assert load_text(tmp_path, "logging: {file: '${F:-}'}\ntopics: {a: {handler: m:f}}\n", {}).settings.logging.file is None


def test_a_message_shows_the_variable_and_never_its_value(tmp_path: Path) -> None:
    text = "broker: {url: '${S}', heartbeat: '${S}', tls: '${S}'}\ntopics: {a: {handler: '${S}', concurrency: '${S}', paused: 'x${S}'}}\n"

    with pytest.raises(ConfigError) as raised:
        load_text(tmp_path, text, {"S": "s3cret"})

    assert len(raised.value.problems) == 6
    assert "the value of ${S}" in str(raised.value)
    assert "s3cret" not in str(raised.value)
