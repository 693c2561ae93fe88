"""Durations, sizes and times as people write them, and back. Seconds are floats, sizes are bytes."""

from __future__ import annotations

import re
from datetime import datetime

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,6})?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(B|kB|MB|GB|KiB|MiB|GiB)")
#: Longer than any machine runs (317 years), and short enough that adding one to a clock is exact to the millisecond.
_MAX_SECONDS = 1e10
#: The longest step of the ladder that retried jobs wait on. Seconds.
MAX_RETRY_DELAY = 30 * 86400.0


def parse_duration(text: str | int | float) -> float:
    """Seconds from ``"30s"``, ``"1h30m"``, ``"250ms"`` or a plain number of seconds; ValueError says what is expected."""
    if isinstance(text, bool):
        raise ValueError("expected a duration like 30s, 5m or 1h30m, got a boolean")
    if isinstance(text, (int, float)):
        seconds = float(text) if abs(text) < _MAX_SECONDS else -1.0  # a very long int does not fit a float
    elif _DURATION.fullmatch(text.strip()):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    else:
        raise ValueError(f"expected a duration like 30s, 5m or 1h30m (units: ms, s, m, h, d), got {text!r}")
    if not 0.0 <= seconds < _MAX_SECONDS:  # also refuses nan
        raise ValueError(f"a duration is zero or more seconds, at most {_MAX_SECONDS:.0f}, got {str(text)[:30]}")
    return seconds


def parse_retry_delay(text: str | int | float) -> float:
    """As `parse_duration`, but no longer than a retried job can wait."""
    seconds = parse_duration(text)
    if seconds > MAX_RETRY_DELAY:
        raise ValueError(f"a job can be tried again after a duration of at most {format_duration(MAX_RETRY_DELAY)}, got {str(text)[:30]}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back, in at most two units: ``90`` is ``"1m30s"``."""
    if seconds < 0.9995:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    whole = round(seconds)
    if abs(seconds - whole) > 1e-9 and seconds < 60.0:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def parse_size(text: str | int) -> int:
    """Bytes from ``"16MiB"``, ``"1.5GB"``, ``"100B"`` or a plain number of bytes; ValueError says what is expected."""
    if isinstance(text, bool):
        raise ValueError("expected a size like 16MiB, got a boolean")
    if isinstance(text, int):
        size = text
    else:
        match = _SIZE.fullmatch(text.strip())
        if not match:
            raise ValueError(f"expected a size like 16MiB (units: {', '.join(_BYTES)}), got {text!r}")
        size = int(float(match[1]) * _BYTES[match[2]])
    if size < 0:
        raise ValueError(f"a size is zero or more bytes, got {text!r}")
    return size


def format_size(size: int) -> str:
    """A size for people, in binary units with one decimal: ``"16.0MiB"``."""
    if size < 1024:
        return f"{size}B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            break
    return f"{amount:.1f}{unit}"


def parse_moment(text: str) -> datetime:
    """A time from ISO 8601's ``2026-12-31T08:00:00+01:00``, or with ``Z`` for UTC, or with no zone; ValueError says what is wrong."""
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)  # Python 3.10 knows no Z
