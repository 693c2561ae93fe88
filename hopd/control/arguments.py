"""The arguments of control commands: typed readers that say what was expected. Each raises `ControlError` `bad_args`."""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import time
from typing import Any

from hopd import delay, names, units
from hopd.control import protocol
from hopd.errors import ControlError

#: A day: whoever waits longer for a drain has forgotten it.
MAX_SECONDS = 86_400.0

#: As long as a job may wait. Seconds.
MAX_DELAY = delay.MAX_DELAY / 1000

#: AMQP's short strings, which header names and message ids are, hold 255 bytes.
_MAX_SHORT_STRING = 255

#: How many topics an error lists.
_SHOWN_TOPICS = 10

Args = Mapping[str, Any]


def bad(message: str) -> ControlError:
    """The error for arguments that cannot be used."""
    return ControlError(protocol.BAD_ARGS, message)


def check_known(cmd: str, args: Args, known: frozenset[str]) -> None:
    """Refuse arguments the command does not have."""
    unknown = sorted(set(args) - known)
    if unknown:
        takes = f"takes {', '.join(sorted(known))}" if known else "takes no arguments"
        raise bad(f"{cmd} {takes}, got {_shown(unknown[0])}")


def topics(args: Args, known: Sequence[str], *, default_all: bool = False) -> list[str]:
    """The topics named in `topics`, or every known one for `all`; `no_such_topic` for one that hopd does not run."""
    named, every = args.get("topics"), boolean(args, "all")
    if every and named:
        raise bad("name topics or say all, not both")
    if every or (default_all and not named):
        return list(known)
    if not isinstance(named, list) or not named or not all(isinstance(topic, str) for topic in named):
        raise bad('topics is a list of one or more names, like ["emails"]; {"all": true} means every topic')
    for topic in named:
        if topic not in known:
            raise _no_such_topic(topic, known)
    return list(dict.fromkeys(named))


def topic(args: Args) -> str:
    """The name in `topic`."""
    name = text(args, "topic")
    if name is None:
        raise bad('topic is the name of a topic, like "emails"')
    if problem := names.topic_problem(name):
        raise bad(problem)
    return name


def boolean(args: Args, key: str) -> bool:
    """True or false; false when absent."""
    value = args.get(key, False)
    if not isinstance(value, bool):
        raise bad(f"{key} is true or false, got {_shown(value)}")
    return value


def seconds(args: Args, key: str, most: float = MAX_SECONDS) -> float | None:
    """Seconds from a number or a text like ``"1m30s"``, `most` at most; None when absent."""
    value = args.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise bad(f"{key} is a duration like 30, '30s' or '5m', got {_shown(value)}")
    try:
        duration = units.parse_duration(value)
    except (ValueError, OverflowError) as error:
        raise bad(f"{key}: expected a duration like 30, '30s' or '5m', got {_shown(value)}") from error
    if duration > most:
        raise bad(f"{key} is at most {units.format_duration(most)}, got {_shown(value)}")
    return duration


def moment(args: Args, key: str) -> datetime | None:
    """A time with its zone, from a text as ISO 8601 has it, at most `MAX_DELAY` from now; None when absent."""
    value = args.get(key)
    if value is None:
        return None
    try:
        when = units.parse_moment(value if isinstance(value, str) else "")
    except ValueError as error:
        raise bad(f"{key}: expected a time like 2026-12-31T08:00:00+01:00, got {_shown(value)}") from error
    if when.tzinfo is None:
        raise bad(f"{key} needs its time zone, as in 2026-12-31T08:00:00+01:00 or 2026-12-31T07:00:00Z, got {_shown(value)}")
    if when.timestamp() - time() > MAX_DELAY:
        raise bad(f"{key} is at most {units.format_duration(MAX_DELAY)} from now, got {_shown(value)}")
    return when


def text(args: Args, key: str) -> str | None:
    """A string of at most 255 bytes; None when absent."""
    value = args.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad(f"{key} is a string, got {_shown(value)}")
    if len(value.encode()) > _MAX_SHORT_STRING:
        raise bad(f"{key} has at most {_MAX_SHORT_STRING} bytes")
    return value


def body(args: Args) -> bytes:
    """A job's body: `body` as text or `body_base64` as bytes."""
    plain, encoded = args.get("body"), args.get("body_base64")
    if isinstance(plain, str) and encoded is None:
        return plain.encode()
    if isinstance(encoded, str) and plain is None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise bad(f"body_base64 is not base64: {error}") from error
    raise bad("a job has either body, a string, or body_base64, a string of base64")


def headers(args: Args) -> dict[str, Any]:
    """A job's headers: names to strings, numbers, booleans or null; empty when absent."""
    value = args.get("headers", {})
    if not isinstance(value, dict):
        raise bad(f"headers is an object, got {_shown(value)}")
    for name, content in value.items():
        if not name or len(name.encode()) > _MAX_SHORT_STRING:
            raise bad(f"a header's name has 1 to {_MAX_SHORT_STRING} bytes")
        if not isinstance(content, (str, int, float, type(None))) or (isinstance(content, int) and abs(content) >= 2**63):
            raise bad(f"the header {_shown(name)} is a string, a number of 64 bits, a boolean or null, got {_shown(content)}")
    return value


def _no_such_topic(name: str, known: Sequence[str]) -> ControlError:
    similar = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known[:_SHOWN_TOPICS]) + (", …" if len(known) > _SHOWN_TOPICS else "")
    hint = f"did you mean {similar[0]}?" if similar else f"it runs {listed}" if known else "it runs none"
    return ControlError(protocol.NO_SUCH_TOPIC, f"hopd runs no topic {_shown(name)}: {hint}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"
