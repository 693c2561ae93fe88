"""What all parts of the config have in common: they are frozen, know their keys, and refuse others."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


def wrong(message: str, *at: str | int) -> PydanticCustomError:
    """An error of several keys together, at the one that has to change."""
    return PydanticCustomError("hopd", "{message}", {"message": message, "at": at})


class Section(BaseModel):
    """A part of the config. A key without a value counts as left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if value is not None or key not in cls.known_keys()}

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """The keys of this section as the file spells them."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())
