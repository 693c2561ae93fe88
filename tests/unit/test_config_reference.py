"""config/hopd.yaml and config/hopd.schema.json say what the model says."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hopd.config import schema
from hopd.config.load import load
from hopd.config.model import (
    BrokerSettings,
    ControlSettings,
    LoggingSettings,
    Section,
    Settings,
    ShutdownSettings,
    TlsSettings,
    TopicOptions,
)

CONFIG = Path(__file__).parents[2] / "config"
REFERENCE = CONFIG / "hopd.yaml"
SCHEMA = CONFIG / "hopd.schema.json"

MINIMAL = "topics:\n  emails:\n    handler: myapp.jobs:send_email\n"
SECTIONS: dict[str, type[Section]] = {
    "broker": BrokerSettings,
    "tls": TlsSettings,
    "control": ControlSettings,
    "shutdown": ShutdownSettings,
    "logging": LoggingSettings,
    "defaults": TopicOptions,
}
#: Ways to say something else instead, and so shown as comments.
ALTERNATIVES = {"urls", "url_file", "tls", *TlsSettings.known_keys()}


def fits(text: str) -> bool:
    return not list(jsonschema.Draft202012Validator(schema.schema()).iter_errors(yaml.safe_load(text)))


def test_the_reference_is_equal_to_what_a_minimal_config_yields(tmp_path: Path) -> None:
    minimal = tmp_path / "minimal.yaml"
    minimal.write_text(MINIMAL)

    assert load(str(REFERENCE), {}).settings == load(str(minimal), {}).settings


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "tls"])
def test_every_key_stands_in_the_reference(section: str) -> None:
    written = yaml.safe_load(REFERENCE.read_text())[section]

    assert set(written) == SECTIONS[section].known_keys() - ALTERNATIVES


@pytest.mark.parametrize("key", sorted(ALTERNATIVES))
def test_every_alternative_stands_in_the_reference_as_a_comment(key: str) -> None:
    assert re.search(rf"^ +# +{key}:|^  # {key}:", REFERENCE.read_text(), re.MULTILINE)


def test_every_section_stands_in_the_reference() -> None:
    assert set(yaml.safe_load(REFERENCE.read_text())) == Settings.known_keys()


def test_every_key_of_the_reference_has_a_comment_above_it() -> None:
    lines = REFERENCE.read_text().splitlines()
    bare = [key for above, key in pairwise(lines) if re.match(r"  \w+:", key) and not above.lstrip().startswith("#")]

    assert bare == []


def test_the_schema_in_the_repository_is_current() -> None:
    assert SCHEMA.read_text() == schema.text(), "run: python -m hopd.config.schema > config/hopd.schema.json"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("text", [REFERENCE.read_text(), MINIMAL, "topics: {a: {handler: m:f, concurrency: '${N:-5}', ack_window: 0}}"])
def test_the_schema_takes_what_the_loader_takes(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    ["topics: {}", "broker: {}", "topics: {a: {}}", "topics: {a: {handler: m:f, name: a}}",
     "topics: {a: {handler: m:f, concurency: 5}}", "topics: {a: {handler: m:f, concurrency: 0}}",
     "topics: {a: {handler: m:f, on_failure: explode}}", "topics: {a: {handler: m:f, ack_window: soon}}"],
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    assert not fits(text)


def test_every_key_of_the_schema_is_a_key_of_the_model() -> None:
    definitions: dict[str, Any] = schema.schema()["$defs"]

    assert {name: set(definitions[name]["properties"]) for name in ("BrokerSettings", "TlsSettings", "TopicOptions")} == {
        "BrokerSettings": BrokerSettings.known_keys(),
        "TlsSettings": TlsSettings.known_keys(),
        "TopicOptions": TopicOptions.known_keys(),
    }
