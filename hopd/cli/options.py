"""The options every hopctl command takes, before or after its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from hopd import units
from hopd.cli.table import Screen
from hopd.control import client, paths

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Options:
    """What the command line said about where, how long and how."""

    named: list[str] = field(default_factory=list)
    as_json: bool = False
    given_timeout: float | None = None

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer."""
        return client.TIMEOUT if self.given_timeout is None else self.given_timeout

    def sockets(self) -> tuple[list[str], list[tuple[str, str]]]:
        """The sockets to ask, and the places looked at with why they have none."""
        if not self.named:
            found, places = paths.search(os.environ)
        else:
            found, places = list(dict.fromkeys(socket for path in self.named for socket in paths.expand(path))), self.named
        return found, [(place, f"{place}: {_emptiness(place)}") for place in places]


def duration(text: str) -> float:
    """Seconds from 30s, 5m, 1h30m or a plain number; click's usage error for anything else and for nothing."""
    seconds = duration_or_zero(text)
    if seconds == 0:
        raise click.BadParameter("expected a duration of more than nothing")
    return seconds


def duration_or_zero(text: str) -> float:
    """Seconds from 0, 30s, 5m, 1h30m or a plain number; click's usage error for anything else."""
    try:
        return units.parse_duration(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def shared(function: F) -> F:
    """Give a command the options that all commands have."""
    for option in (
        click.option("--json", "as_json", is_flag=True, expose_value=False, callback=_store_json, help="Print one JSON document."),
        click.option(
            *("--timeout", "timeout"),
            type=duration,
            metavar="DURATION",
            expose_value=False,
            callback=_store_timeout,
            help="How long to wait, like 30s or 5m. [default: 5s; drain, reload: 1m]",
        ),
        click.option(
            *("-s", "--socket", "sockets"),
            multiple=True,
            metavar="SOCKET",
            expose_value=False,
            callback=_store_sockets,
            help=f"Control socket, or a directory of them; repeatable. [default: {paths.VARIABLE}, else every instance in the usual place]",
        ),
    ):
        function = option(function)
    return function


def options_of(ctx: click.Context) -> Options:
    """The options of this run of hopctl."""
    options = ctx.find_root().ensure_object(Options)
    assert isinstance(options, Options)
    return options


def screen() -> Screen:
    """What standard output is: its width, whether it shows colours, and whether it can write an ellipsis."""
    ellipsis = "…" if (sys.stdout.encoding or "").lower().startswith("utf") else "~"
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return Screen(_columns_variable(), False, ellipsis)
    colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Screen(_columns_variable() or width or None, colours, ellipsis)


def _columns_variable() -> int | None:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _emptiness(place: str) -> str:
    if os.path.isdir(place):
        return "no hopd has a socket in this directory" if os.access(place, os.R_OK | os.X_OK) else "this directory may not be read"
    return "there is no such socket" if place.endswith(".sock") else "there is no such directory"


def _store_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    options_of(ctx).as_json |= value


def _store_timeout(ctx: click.Context, _param: click.Parameter, value: float | None) -> None:
    if value is not None:
        options_of(ctx).given_timeout = value


def _store_sockets(ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> None:
    options_of(ctx).named.extend(value)
