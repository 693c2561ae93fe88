"""How one value of the file becomes a value of the model: the field decides what a scalar means, not YAML.

Each reader takes what the file had (a `Scalar`, a list, a dict, None) or a plain Python value, and returns the value or
raises ValueError with a sentence that says what is expected. As `Annotated` metadata it also gives the JSON Schema.
"""

from __future__ import annotations

import math
import os.path
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hopd.config.nodes import Scalar
from hopd.config.places import handler_problem, listen_problem, mask, url_problem
from hopd.names import topic_problem
from hopd.units import format_duration, format_size, parse_duration, parse_size

_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_MODE = re.compile(r"(?:0o?)?([0-7]{3})")
#: YAML 1.1's words for the two truth values.
_TRUTH = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False}
#: A number or a truth value may also come from the environment.
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
#: Longer values are cut in messages.
_SHOWN = 60


class Reader(ABC):
    @abstractmethod
    def read(self, value: object) -> object:
        """The value as the model keeps it; ValueError says what is expected."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what may stand in the file."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema()


def shown(value: object) -> str:
    """A value as messages show it: as it was written, never what a variable brought in."""
    if isinstance(value, Scalar):
        if value.written is not None:
            return f"the value of {value.written}" if value.plain else f"'{value.written}' with its variables filled in"
        text = mask(value.text)
        text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        return text if value.plain else f"'{text}'"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "nothing" if value is None else mask(repr(value))[:_SHOWN]


def _text(value: object) -> str | None:
    """The text of a scalar or string; None for anything else."""
    if isinstance(value, Scalar):
        return value.text
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Text(Reader):
    """Text of 1 to `max_bytes` bytes, as it was written: `012` and `no` are text here."""

    max_bytes: int = 255  # what AMQP's short strings hold

    def read(self, value: object) -> str:
        text = _text(value)
        if text is None:
            raise ValueError(f"expected text, got {shown(value)}")
        if not text:
            raise ValueError("expected text, got an empty one")
        if not text.isprintable():
            raise ValueError("expected text of printable characters on one line")
        if len(text.encode()) > self.max_bytes:
            raise ValueError(f"expected text of at most {self.max_bytes} bytes")
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class TopicName(Reader):
    def read(self, value: object) -> str:
        problem = topic_problem(str(value))
        if problem:
            raise ValueError(problem)
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class HandlerSpec(Reader):
    def read(self, value: object) -> str:
        text = _text(value)
        if text is None:
            raise ValueError(f"expected package.module:name, got {shown(value)}")
        problem = handler_problem(text)
        if problem is not None:
            raise ValueError(f"expected package.module:name, got {shown(value)}{problem}")
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[^\s:]+:[^\s:]+$|\$\{"}


@dataclass(frozen=True)
class Url(Reader):
    """A broker's URL. Messages never show it: it holds a password."""

    def read(self, value: object) -> str:
        text = _text(value)
        if text is None:
            what = "a list" if isinstance(value, list) else "keys and values" if isinstance(value, dict) else "nothing"
            raise ValueError(f"expected amqp://user:password@host:port/vhost, got {what}")
        problem = url_problem(text)
        if problem:
            raise ValueError(problem)
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^amqps?://|\$\{"}


@dataclass(frozen=True)
class FilePath(Reader):
    """A file or directory; a relative one starts at the directory given as context, that of the config file."""

    def read(self, value: object) -> str:
        return Text(max_bytes=4096).read(value)

    def resolve(self, value: object, info: core_schema.ValidationInfo) -> str:
        directory = info.context.get("directory", "") if info.context else ""
        return os.path.normpath(os.path.join(directory, self.read(value)))

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self.resolve)


#: The word for a broker's store that is none: nothing outlives the process.
MEMORY = "memory"


@dataclass(frozen=True)
class StorePath(FilePath):
    """A file, or the word `memory`; a file of that name is written ./memory."""

    def resolve(self, value: object, info: core_schema.ValidationInfo) -> str:
        return MEMORY if _text(value) == MEMORY else super().resolve(value, info)


@dataclass(frozen=True)
class Listen(Reader):
    """`host:port` of this machine's loopback interface."""

    def read(self, value: object) -> str:
        text = _text(value)
        problem = "an address is written like 127.0.0.1:5672" if text is None else listen_problem(text)
        if text is None or problem is not None:
            raise ValueError(f"expected an address of this machine alone, like 127.0.0.1:5672, got {shown(value)}: {problem}")
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r":[0-9]{1,5}$|\$\{"}


@dataclass(frozen=True)
class Whole(Reader):
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def read(self, value: object) -> int:
        number = _whole(value)
        if number is None or not self.low <= number <= self.high:
            raise ValueError(f"expected a whole number from {self.low} to {self.high}, got {shown(value)}{_number_hint(value)}")
        return number

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer", "minimum": self.low, "maximum": self.high}, _VARIABLE]}


def _whole(value: object) -> int | None:
    if isinstance(value, Scalar):
        return int(value.text) if value.plain and len(value.text) < 20 and _WHOLE.fullmatch(value.text) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number_hint(value: object) -> str:
    if not isinstance(value, Scalar) or value.written is not None:
        return ""
    if not value.plain and _WHOLE.fullmatch(value.text):
        return ": remove the quotes"
    if value.plain and _LEADING_ZERO.fullmatch(value.text):
        return ": write it without leading zeros, YAML takes them for octal"
    return ""


@dataclass(frozen=True)
class Flag(Reader):
    def read(self, value: object) -> bool:
        found = _TRUTH.get(value.text.lower()) if isinstance(value, Scalar) and value.plain else value
        if not isinstance(found, bool):
            quoted = isinstance(value, Scalar) and not value.plain and value.text.lower() in _TRUTH
            raise ValueError(f"expected true or false, got {shown(value)}{': remove the quotes' if quoted else ''}")
        return found

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, _VARIABLE]}


@dataclass(frozen=True)
class Choice(Reader):
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, value: object) -> str:
        text = _text(value)
        if text is None or text not in self.words:
            hint = f"; did you mean {text.lower()}?" if text and text.lower() in self.words else ""
            raise ValueError(f"expected one of {', '.join(self.words)}; got {shown(value)}{hint}")
        return text

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "enum": list(self.words)}, _VARIABLE]}


@dataclass(frozen=True)
class Seconds(Reader):
    """A duration, `30s` or `1h30m` or a plain number of seconds, as float seconds from `low` to `high`."""

    low: float
    high: float
    whole: bool = False  # AMQP's heartbeat has no fractions

    def read(self, value: object) -> float:
        expected = f"expected a duration from {format_duration(self.low)} to {format_duration(self.high)}, like 30s, 5m or 250ms"
        try:
            seconds = self._parse(value)
        except ValueError:
            raise ValueError(f"{expected}; got {shown(value)}") from None
        if not self.low <= seconds <= self.high:
            raise ValueError(f"{expected}; got {shown(value)}")
        if self.whole and seconds != int(seconds):
            raise ValueError(f"expected whole seconds, got {shown(value)}")
        return seconds

    def _parse(self, value: object) -> float:
        text = _text(value)
        if text is not None:
            return float(text) if _DECIMAL.fullmatch(text) else parse_duration(text)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise ValueError("not a duration")

    def schema(self) -> dict[str, Any]:
        pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$|\$\{"
        number = {"type": "number", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [{"type": "string", "pattern": pattern}, number]}


@dataclass(frozen=True)
class Size(Reader):
    """A size, `16MiB` or `1.5GB` or a plain number of bytes, as whole bytes from `low` to `high`."""

    low: int
    high: int

    def read(self, value: object) -> int:
        number = _whole(value)
        text = _text(value)
        try:
            size = number if number is not None else parse_size(text or "")
        except ValueError:
            size = -1
        if not self.low <= size <= self.high:
            limits = f"from {format_size(self.low)} to {format_size(self.high)}"
            raise ValueError(f"expected a size {limits}, like 16MiB, 500kB or 1.5GB; got {shown(value)}")
        return size

    def schema(self) -> dict[str, Any]:
        pattern = r"^[0-9]+(\.[0-9]+)? ?(B|kB|MB|GB|KiB|MiB|GiB)$|\$\{"
        return {"anyOf": [{"type": "string", "pattern": pattern}, {"type": "integer", "minimum": self.low, "maximum": self.high}]}


@dataclass(frozen=True)
class Mode(Reader):
    """A socket's mode: `"0660"`, `0660` and `0o660` all mean the same."""

    def read(self, value: object) -> int:
        text = _text(value)
        match = _MODE.fullmatch(text) if text is not None else None
        mode = int(match[1], 8) if match else value
        if not isinstance(mode, int) or isinstance(mode, bool):
            raise ValueError(f'expected a file mode like "0660", got {shown(value)}')
        if mode & ~0o666:
            raise ValueError(f'expected a mode of read and write bits, at most "0666", got {shown(value)}: a socket is not executed')
        if mode & 0o600 != 0o600:
            raise ValueError(f'expected a mode that lets the owner read and write, like "0660", got {shown(value)}')
        return mode

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": r"^(0o?)?[0-7]{3}$|\$\{"}, {"type": "integer"}]}
