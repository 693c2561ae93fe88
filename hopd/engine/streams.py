"""Standard output and error while handlers run: what they print becomes lines of the log, and what they close stays open.

A print to a pipe that nobody reads would stop the one thread in which every job and every heartbeat runs; one to a full disk
or to a reader that is gone would fail the job. The log is written by a thread of its own, which may be stuck. And a
standard descriptor that is closed would be the number of the next connection, into which others then print.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LOGGER = logging.getLogger(__name__)

#: A line is cut here, so that what prints no end of line does not grow for ever. Bytes.
LONGEST_LINE = 16_384


def occupy() -> None:
    """Have something at 0, 1 and 2: /dev/null where nothing is."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing == descriptor:
                os.set_inheritable(nothing, True)
            else:
                os.dup2(nothing, descriptor)
                os.close(nothing)


@contextmanager
def printing_to_the_log() -> Iterator[None]:
    """What Python code prints in this block goes to the log, with the topic and the job that printed it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Printed(1, "stdout", logging.INFO), _Printed(2, "stderr", logging.WARNING)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Printed(io.TextIOWrapper):
    """Looks like a standard stream, to `print` as to what writes bytes to its `buffer` or asks for its `fileno()`."""

    def __init__(self, descriptor: int, name: str, level: int) -> None:
        super().__init__(_Lines(descriptor, name, level), encoding="utf-8", errors="backslashreplace", write_through=True)

    def close(self) -> None:
        """It is not only the caller's."""


class _Lines(io.RawIOBase):
    """Bytes in, lines to the log; each greenlet and each thread has a line of its own under way."""

    def __init__(self, descriptor: int, name: str, level: int) -> None:
        super().__init__()
        self.name = f"<{name}>"
        self._descriptor = descriptor
        self._extra = {"event": "printed", "stream": name}
        self._level = level
        self._begun = threading.local()

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The real one, for child processes that are to inherit it."""
        return self._descriptor

    def write(self, data: ReadableBuffer, /) -> int:
        """Log the lines that are whole now."""
        data = bytes(data)
        *lines, rest = (getattr(self._begun, "line", b"") + data).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._begun.line = rest
        for line in lines:
            if line:
                LOGGER.log(self._level, "%s", line.decode("utf-8", "replace"), extra=self._extra)
        return len(data)
