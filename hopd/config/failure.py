"""What becomes of jobs that fail, as the file says it: the sections `retry` and `breaker` of a topic, and how they are read."""

from __future__ import annotations

import builtins
import difflib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema, core_schema

from hopd.config.fields import Choice, Flag, Reader, Seconds, Whole, shown
from hopd.config.ladder import STEPS
from hopd.config.nodes import Scalar
from hopd.config.places import handler_problem
from hopd.config.section import Section, wrong
from hopd.units import format_duration

Growth = Literal["exponential", "fixed"]

#: The word that takes a default back.
NONE = "none"
#: Sections that are in force as soon as they are named: without keys of their own they consist of their defaults.
BLOCKS = frozenset({"retry", "breaker"})
#: What a delay may be: jobs wait in the broker, in queues of these delays. Seconds.
SHORTEST, LONGEST = STEPS[0] / 1000, STEPS[-1] / 1000


def is_none(value: object) -> bool:
    """Whether `value` takes a default back."""
    return value is None or value == NONE or (isinstance(value, Scalar) and value.plain and value.text == NONE)


@dataclass(frozen=True)
class OrNone(Reader):
    """What `reader` reads, or none."""

    reader: Reader

    def read(self, value: object) -> object:
        if is_none(value):
            return None
        try:
            return self.reader.read(value)
        except ValueError as error:
            raise ValueError(str(error).replace("expected ", f"expected {NONE} or ", 1)) from None

    def schema(self) -> dict[str, Any]:
        inner = self.reader.schema()
        return {"anyOf": [*inner.get("anyOf", [inner]), {"const": NONE}, {"type": "null"}]}


class Block:
    """A section that may be none."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(lambda value: None if is_none(value) else value, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [*handler(core)["anyOf"], {"const": NONE}]}


@dataclass(frozen=True)
class Delays(Reader):
    """`exponential`, `fixed`, or the delays themselves, one for each attempt that failed."""

    kind = Choice(get_args(Growth))
    delay = Seconds(SHORTEST, LONGEST)

    def read(self, value: object) -> str | tuple[float, ...]:
        if not isinstance(value, (list, tuple)):
            try:
                return self.kind.read(value)
            except ValueError as error:
                raise ValueError(str(error).replace(";", ", or a list like [1s, 10s, 5m];", 1)) from None
        if not value:
            raise ValueError("expected at least one delay, like [1s, 10s, 5m]")
        return tuple(self._item(index, item) for index, item in enumerate(value))

    def _item(self, index: int, item: object) -> float:
        try:
            return self.delay.read(item)
        except ValueError as error:
            raise wrong(str(error), index) from None

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [*self.kind.schema()["anyOf"], {"type": "array", "items": self.delay.schema(), "minItems": 1}]}


@dataclass(frozen=True)
class ErrorClass(Reader):
    """The name of an exception: of a built-in one, or ``package.module:name``, which is looked up when the handlers are."""

    def read(self, value: object) -> str:
        text = value.text if isinstance(value, Scalar) else value
        expected = f"expected a built-in exception or package.module:name, got {shown(value)}"
        if not isinstance(text, str):
            raise ValueError(expected)
        if ":" not in text and text.isidentifier():
            if text not in _BUILT_IN:
                close = difflib.get_close_matches(text, sorted(_BUILT_IN), n=1)
                raise ValueError(expected + (f"; did you mean {close[0]}?" if close else ""))
            return text
        problem = handler_problem(text)
        if problem is not None:
            raise ValueError(expected + problem)
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[^\s:.]+$|^[^\s:]+:[^\s:]+$|\$\{"}


_BUILT_IN = frozenset(name for name, what in vars(builtins).items() if isinstance(what, type) and issubclass(what, BaseException))


class RetrySettings(Section):
    """How often a failed job is tried again, and when. Delays are rounded up to the steps of `ladder`."""

    max_attempts: Annotated[int, Whole(1, 10_000)] = 8
    backoff: Annotated[Growth | tuple[float, ...], Delays()] = "exponential"
    first: Annotated[float, Seconds(SHORTEST, LONGEST)] = 1.0
    max: Annotated[float, Seconds(SHORTEST, LONGEST)] = 3600.0
    jitter: Annotated[bool, Flag()] = True
    on: tuple[Annotated[str, ErrorClass()], ...] = ("Exception",)
    never: tuple[Annotated[str, ErrorClass()], ...] = ()

    @model_validator(mode="after")
    def _delays_that_agree(self) -> RetrySettings:
        given = self.model_fields_set
        longest = f"max, which is {format_duration(self.max)}"
        if isinstance(self.backoff, tuple):
            if "first" in given:
                raise wrong("has no meaning where backoff is a list: the list has the first delay", "first")
            for index, delay in enumerate(self.backoff):
                if delay > self.max:
                    raise wrong(f"is longer than {longest}", "backoff", index)
        elif self.first > self.max and "first" in given:
            raise wrong(f"is longer than {longest}", "first")
        elif self.first > self.max:
            raise wrong(f"is shorter than first, which is {format_duration(self.first)}", "max")
        return self

    @field_validator("on")
    @classmethod
    def _at_least_one(cls, on: tuple[str, ...]) -> tuple[str, ...]:
        if not on:
            raise ValueError(f"expected at least one exception; to try nothing again, set retry to {NONE}")
        return on


class BreakerSettings(Section):
    """When a topic whose jobs keep failing rests, and for how long."""

    failures: Annotated[int, Whole(1, 100_000)] = 20
    within: Annotated[float, Seconds(0.1, 86_400)] = 10.0
    pause: Annotated[float, Seconds(0.1, 86_400)] = 30.0
