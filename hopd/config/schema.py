"""The JSON Schema of a config file, for editors: ``python -m hopd.config.schema > config/hopd.schema.json``."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from hopd.config.model import Settings


class _Plain(GenerateJsonSchema):
    """Without a title at each key that says the key once more."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic names it
        return False


def schema() -> dict[str, Any]:
    """The schema of the file: the model's, without a topic's name, which the loader adds; keys may lack a value, as for the loader."""
    made = Settings.model_json_schema(schema_generator=_Plain)
    topic = made["$defs"]["TopicSettings"]
    del topic["properties"]["name"]
    topic["required"].remove("name")
    made["properties"]["topics"]["minProperties"] = 1
    for section in (made, *made["$defs"].values()):
        for key, value in section["properties"].items():
            if key not in section.get("required", ()):
                section["properties"][key] = _or_null(value)
    made["title"] = "hopd's config"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _or_null(value: dict[str, Any]) -> dict[str, Any]:
    if {"type": "null"} in value.get("anyOf", ()):
        return value
    kept = {key: inner for key, inner in value.items() if key == "default"}
    inner = {key: inner for key, inner in value.items() if key != "default"}
    choices = inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    return {"anyOf": [*choices, {"type": "null"}], **kept}


def text() -> str:
    """The schema as config/hopd.schema.json has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
