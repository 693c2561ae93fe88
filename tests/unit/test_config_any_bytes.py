"""Whatever a config file holds, what comes out of it is settings or a `ConfigError`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hopd.config.load import load
from hopd.config.model import Settings
from hopd.errors import ConfigError

PIECES = st.sampled_from(
    ["topics:", "broker:", "defaults:", "control:", "a:", "handler: m:f", "url: amqp://u:p@h/", "mode: 0660", "concurrency: 012",
     "paused: no", "arguments:", "x: 1e3", "\n", "\n  ", "\n    ", "\t", "- ", "? ", ": ", "[", "]", "{", "}", ",", "&a ", "*a", "<<: ",
     "!!str ", "|", ">", "'", '"', "${A}", "${A:-1}", "${", "~", "#", "---\n", "...\n", "%YAML 1.1\n", "12:30", "2001-99-99", ".nan",
     "\\", "@", "é", "\u2028", "\ufeff", "\0"]
)  # fmt: skip
KEYS = st.sampled_from(
    [*Settings.model_fields, "a", "handler", "url", "urls", "tls", "concurrency", "durable", "queue_type", "", "amq.x", "retry", "breaker",
     "backoff", "on", "first", "max", "timeout", "max_body"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25)

in_one_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


def outcome_of(directory: Path, data: bytes, environ: Mapping[str, str] | None = None) -> Settings | ConfigError:
    file = directory / "any.yaml"
    file.write_bytes(data)
    try:
        return load(str(file), environ or {}).settings
    except ConfigError as error:
        return error


@in_one_directory
@given(data=st.binary(max_size=200))
def test_any_bytes_are_settings_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    assert isinstance(outcome_of(tmp_path, data), (Settings, ConfigError))


@in_one_directory
@given(pieces=st.lists(PIECES, max_size=30), value=st.text(max_size=10))
def test_any_pieces_of_a_config_are_settings_or_a_config_error(tmp_path: Path, pieces: list[str], value: str) -> None:
    data = "".join(pieces).encode()

    assert isinstance(outcome_of(tmp_path, data, {"A": value}), (Settings, ConfigError))


@in_one_directory
@given(tree=st.dictionaries(KEYS, TREES, max_size=6))
def test_any_keys_and_values_are_settings_or_a_config_error(tmp_path: Path, tree: dict[str, object]) -> None:
    assert isinstance(outcome_of(tmp_path, yaml.safe_dump(tree).encode()), (Settings, ConfigError))


@in_one_directory
@given(tree=st.dictionaries(KEYS, TREES, min_size=1, max_size=6))
def test_every_problem_of_keys_and_values_has_a_place_in_the_file(tmp_path: Path, tree: dict[str, object]) -> None:
    data = yaml.safe_dump(tree)
    outcome = outcome_of(tmp_path, data.encode())

    if isinstance(outcome, ConfigError):
        assert all(1 <= problem.line <= data.count("\n") + 1 and problem.column >= 1 for problem in outcome.problems)


@pytest.mark.parametrize("parser", ["CSafeLoader", "SafeLoader"])
@in_one_directory
@given(pieces=st.lists(PIECES, max_size=30))
def test_either_parser_ends_in_settings_or_a_config_error(tmp_path: Path, parser: str, pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hopd.config.source._PARSER", getattr(yaml, parser))
        outcome = outcome_of(tmp_path, "".join(pieces).encode())

    assert isinstance(outcome, (Settings, ConfigError))
