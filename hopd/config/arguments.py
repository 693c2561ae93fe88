"""Arguments of a queue: the one place of a config where YAML, and not the field, decides what a value is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hopd.config.fields import Reader, Text, shown
from hopd.config.nodes import Scalar
from hopd.names import QUEUE_TYPE

_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
#: Text to YAML 1.1, a number to everybody else.
_EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")
_TRUE = frozenset({"yes", "true", "on"})
#: AMQP's longest integer has 64 bits.
_LONGEST = 2**63


@dataclass(frozen=True)
class ArgumentName(Reader):
    def read(self, value: object) -> str:
        if value == QUEUE_TYPE:
            raise ValueError("set queue_type of the topic instead")
        return Text().read(value)

    def schema(self) -> dict[str, Any]:
        return Text().schema()


@dataclass(frozen=True)
class Argument(Reader):
    """Text, a whole number, true or false, a list or a table of these. AMQP has more types, RabbitMQ's queues no use for them."""

    def read(self, value: object) -> Any:
        if isinstance(value, Scalar):
            return _read_scalar(value)
        if isinstance(value, (list, tuple)):
            return [self.read(item) for item in value]
        if isinstance(value, dict):
            return {str(key): self.read(item) for key, item in value.items()}
        if isinstance(value, bool) or (isinstance(value, str) and value.isprintable()):
            return value
        if isinstance(value, int) and -_LONGEST <= value < _LONGEST:
            return value
        raise ValueError(f"expected text, a whole number, true or false, got {shown(value)}")

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "integer", "boolean", "array", "object"]}


def _read_scalar(scalar: Scalar) -> str | int | bool:
    kind = scalar.kind
    if kind == "bool":
        return scalar.text.lower() in _TRUE
    if kind == "int" and len(scalar.text) < 20 and _DECIMAL.fullmatch(scalar.text) and -_LONGEST <= int(scalar.text) < _LONGEST:
        return int(scalar.text)
    if kind == "str" and not (scalar.plain and _EXPONENT.fullmatch(scalar.text)):
        if not scalar.text.isprintable():
            raise ValueError("expected text of printable characters on one line")
        return scalar.text
    raise ValueError(f"expected text, a whole number, true or false, got {shown(scalar)}{_hint(scalar, kind)}")


def _hint(scalar: Scalar, kind: str) -> str:
    if scalar.written is not None or kind == "null":
        return ""
    if kind == "int":
        return ", which YAML reads as another number than it looks like, or none: write it out in decimal, or quote it if it is text"
    return f', which YAML reads as {_READS.get(kind, "something else")}: quote it if it is text, "{scalar.text}"'


_READS = {"float": "a fraction", "timestamp": "a date", "str": "text, others as a number"}
