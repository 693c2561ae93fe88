"""The job that `hopctl put` makes from its arguments and standard input."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from hopd import units
from hopd.control import protocol

#: hopctl's own code for input or output that fails.
CANNOT_READ = "io"


def read_body(argument: str | None) -> bytes:
    """The bytes of BODY, or of standard input for ``-`` and for none."""
    if argument not in (None, "-"):
        return os.fsencode(argument)
    if argument is None and sys.stdin.isatty():
        raise click.UsageError("Give the BODY as an argument, or pipe it in.")
    try:
        # One byte over what can be sent is enough to know that it is too much.
        return sys.stdin.buffer.read(protocol.MAX_LINE + 1)
    except OSError as error:
        raise click.ClickException(f"cannot read the body from standard input: {error.strerror or error}") from error


def body_args(body: bytes) -> dict[str, Any]:
    """The shorter of the two ways to send a body: as text where it is text, else as base64."""
    if len(body) > protocol.MAX_LINE:
        limit = f"{protocol.MAX_LINE // 1024} KiB"
        raise click.ClickException(f"the body is too large for the control socket, which takes {limit}: put it with the library")
    text = _as_text(body)
    if text is not None:
        return {"body": text}
    import base64  # few bodies need it

    return {"body_base64": base64.b64encode(body).decode("ascii")}


def _as_text(body: bytes) -> str | None:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    # JSON writes a control character as six: then base64, four for three, is the shorter.
    return text if len(json.dumps(text, ensure_ascii=False).encode()) <= len(body) * 4 // 3 + 4 else None


def parse_headers(given: Sequence[str]) -> dict[str, str]:
    """Headers from ``NAME=VALUE`` texts."""
    headers: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--header")
        headers[name] = value
    return headers


def moment(text: str) -> str:
    """ISO-TIME with its zone, which is this machine's unless it says another; click's usage error for anything else."""
    try:
        return units.parse_moment(text).astimezone().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(f"expected a time like 2026-12-31T08:00 or 2026-12-31T07:00:00Z, got {text!r}") from error
