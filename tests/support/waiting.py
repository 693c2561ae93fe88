"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

#: How often a condition is looked at, seconds.
LOOK_INTERVAL = 0.01


def wait_until(condition: Callable[[], Value | None], timeout: float = 10.0, why: str = "") -> Value:
    """The first truthy value of `condition`; AssertionError after `timeout` seconds, with `why` and what it was to the last.

    An AssertionError raised by the condition itself counts as "not yet", so that a whole assertion can be waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = condition()
            seen = f"it was {value!r} to the last"
        except AssertionError as error:
            value, seen = None, f"it failed to the last: {error}"
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{why or 'the condition'}: not within {timeout:g} s; {seen}")
        time.sleep(LOOK_INTERVAL)
