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
from hopd.config.broker import BrokerSettings, EmbeddedSettings, TlsSettings
from hopd.config.failure import BreakerSettings, RetrySettings
from hopd.config.ladder import STEPS
from hopd.config.load import load
from hopd.config.model import (
    ControlSettings,
    LoggingSettings,
    Settings,
    ShutdownSettings,
    TopicOptions,
    WatchdogSettings,
)
from hopd.config.section import Section
from hopd.errors import ConfigError
from hopd.units import format_duration

CONFIG = Path(__file__).parents[2] / "config"
REFERENCE = CONFIG / "hopd.yaml"
SCHEMA = CONFIG / "hopd.schema.json"

MINIMAL = "topics:\n  emails:\n    handler: myapp.jobs:send_email\n"
SECTIONS: dict[str, type[Section]] = {
    "broker": BrokerSettings,
    "control": ControlSettings,
    "shutdown": ShutdownSettings,
    "logging": LoggingSettings,
    "watchdog": WatchdogSettings,
    "defaults": TopicOptions,
}
#: Sections that change something just by being there, and so shown as comments.
BLOCKS: dict[str, type[Section]] = {"tls": TlsSettings, "embedded": EmbeddedSettings, "retry": RetrySettings, "breaker": BreakerSettings}
#: With them, ways to say something else instead.
ALTERNATIVES = {"url", "urls", "url_file", *BLOCKS, *(key for block in BLOCKS.values() for key in block.known_keys())}


def fits(text: str) -> bool:
    return not list(jsonschema.Draft202012Validator(schema.schema()).iter_errors(yaml.safe_load(text)))


def test_the_reference_is_equal_to_what_a_minimal_config_yields(tmp_path: Path) -> None:
    minimal = tmp_path / "minimal.yaml"
    minimal.write_text(MINIMAL)

    assert load(str(REFERENCE), {}).settings == load(str(minimal), {}).settings


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_stands_in_the_reference(section: str) -> None:
    written = yaml.safe_load(REFERENCE.read_text())[section]

    assert set(written) == SECTIONS[section].known_keys() - ALTERNATIVES


@pytest.mark.parametrize("key", sorted(ALTERNATIVES))
def test_every_alternative_stands_in_the_reference_as_a_comment(key: str) -> None:
    assert re.search(rf"^ +# +{key}:|^  # {key}:", REFERENCE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["retry", "breaker"])
def test_a_section_in_comments_is_equal_to_one_without_keys(tmp_path: Path, name: str) -> None:
    shown = re.search(rf"^  # {name}:\n(?:  #   .+\n)+", REFERENCE.read_text(), re.MULTILINE)
    assert shown
    (tmp_path / "shown.yaml").write_text(MINIMAL + "defaults:\n" + re.sub("^  # ", "  ", shown[0], flags=re.MULTILINE))
    (tmp_path / "empty.yaml").write_text(f"{MINIMAL}defaults:\n  {name}:\n")

    defaults = load(str(tmp_path / "shown.yaml"), {}).settings.defaults

    assert defaults == load(str(tmp_path / "empty.yaml"), {}).settings.defaults
    assert getattr(defaults, name).model_fields_set == BLOCKS[name].known_keys()


def test_the_reference_shows_the_steps_of_the_ladder() -> None:
    text = " ".join(REFERENCE.read_text().replace("#", " ").split())

    assert " ".join(format_duration(step / 1000) for step in STEPS) in text.replace(",", "")


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


@pytest.mark.parametrize(
    "text",
    [REFERENCE.read_text(), MINIMAL, "topics: {a: {handler: m:f, concurrency: '${N:-5}', ack_window: 0}}",
     "topics: {a: {handler: m:f, timeout: none, max_body: 16MiB, keep_buried: 14d, retry: , breaker: none}}",
     "topics: {a: {handler: m:f, timeout: 30, max_body: 100, retry: {backoff: fixed, 'on': [KeyError]}}}",
     "topics: {a: {handler: m:f, retry: {backoff: [1s, 5m], max: 30d, never: [m.n:E]}, breaker: {pause: 5}}}"],
)  # fmt: skip
def test_the_schema_takes_what_the_loader_takes(tmp_path: Path, text: str) -> None:
    (tmp_path / "hopd.yaml").write_text(text)
    load(str(tmp_path / "hopd.yaml"), {})

    assert fits(text)


@pytest.mark.parametrize(
    "text",
    ["topics: {}", "broker: {}", "topics: {a: {}}", "topics: {a: {handler: m:f, name: a}}",
     "topics: {a: {handler: m:f, concurency: 5}}", "topics: {a: {handler: m:f, concurrency: 0}}",
     "topics: {a: {handler: m:f, on_failure: explode}}", "topics: {a: {handler: m:f, ack_window: soon}}",
     "topics: {a: {handler: m:f, timeout: off}}", "topics: {a: {handler: m:f, max_body: 16M}}", "topics: {a: {handler: m:f, retry: 5}}",
     "topics: {a: {handler: m:f, retry: {backoff: linear}}}", "topics: {a: {handler: m:f, retry: {never: [a.B]}}}",
     "topics: {a: {handler: m:f, retry: {backoff: []}}}", "topics: {a: {handler: m:f, retry: {first: 31}, breaker: {failures: 0}}}"],
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(tmp_path: Path, text: str) -> None:
    (tmp_path / "hopd.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load(str(tmp_path / "hopd.yaml"), {})

    assert not fits(text)


def test_every_key_of_the_schema_is_a_key_of_the_model() -> None:
    definitions: dict[str, Any] = schema.schema()["$defs"]

    assert {name: set(definitions[name]["properties"]) for name in definitions if name != "TopicSettings"} == {
        section.__name__: section.known_keys() for section in (*SECTIONS.values(), *BLOCKS.values())
    }
