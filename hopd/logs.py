"""Logs of the daemon: a sentence, a stable `event` word, and the ids that find the job; as text for people or JSON for machines.

Whoever logs only appends to a queue. A thread of the operating system writes: a full pipe or a slow disk must not stop
the one thread in which every greenlet, and the heartbeats, run.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from _queue import SimpleQueue  # the C type itself: gevent patches queue.SimpleQueue, and this one has to reach a real thread
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, Protocol, TextIO

#: Lines that may wait for a writer that is stuck; beyond it lines are dropped and counted.
MAX_WAITING = 10_000

_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


class Context(Protocol):
    """What names the job that is being run here."""

    @property
    def topic(self) -> str:
        """The job's topic."""

    @property
    def log_id(self) -> str:
        """What finds the job: its message id."""


#: The job that the current greenlet runs; set once a job, looked at only when something is logged.
RUNNING: ContextVar[Context | None] = ContextVar("hopd_running_job", default=None)


def _details(record: logging.LogRecord) -> dict[str, Any]:
    """What the record carries besides its sentence: its `extra`, and the job it was logged in."""
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


class TextFormatter(logging.Formatter):
    """``2026-11-23T09:15:02.123Z INFO  The topic emails is paused  event=topic_paused topic=emails``"""

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line, with its traceback below."""
        details = " ".join(f"{key}={_shown(value)}" for key, value in _details(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}"
        if details:
            line += "  " + details
        return line + ("\n" + record.exc_text if record.exc_text else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, `event`, and whatever else the record carries."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        entry = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        entry.update(_details(record))
        if record.exc_text:
            entry["traceback"] = record.exc_text
        return json.dumps(entry, default=str, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or "\n" in text or not text else text


class QueueingHandler(logging.Handler):
    """Puts finished records into a queue; never waits. `dropped` counts what found no room."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self.dropped = 0

    def createLock(self) -> None:  # noqa: N802 - the standard library's name
        """No lock: the queue needs none, and a lock held by a greenlet that cannot run would stop the hub."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Make the record independent of what it refers to (the job goes on changing), and queue it."""
        if self.queue.qsize() >= MAX_WAITING:
            self.dropped += 1
            return
        job = RUNNING.get()
        if job is not None and not hasattr(record, "topic"):
            record.topic, record.job = job.topic, job.log_id
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_info = None
        self.queue.put(record)


class LogWriter:
    """Writes what a `QueueingHandler` collects. Its duties: write each line; say when lines were dropped; survive a full disk."""

    def __init__(self, handler: QueueingHandler, formatter: logging.Formatter, open_stream: Callable[[], TextIO]) -> None:
        self._handler = handler
        self._formatter = formatter
        self._open_stream = open_stream
        self._reported = 0
        self._failed = 0
        self.finished = False

    def run(self) -> None:
        """Write until `stop` was called. Runs in a thread of the operating system."""
        stream = self._open_stream()
        while True:
            record = self._handler.queue.get()
            if record is None:
                break
            self._write(stream, self._formatter.format(record))
            if self._handler.dropped > self._reported:
                self._report_dropped(stream)
        self.finished = True

    def _write(self, stream: TextIO, line: str) -> None:
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            # A full disk or a closed pipe has nowhere to be reported but here; counted, and said when writing works again.
            self._failed += 1
        else:
            if self._failed:
                failed, self._failed = self._failed, 0
                self._write(stream, f"({failed} log lines could not be written)")

    def _report_dropped(self, stream: TextIO) -> None:
        dropped = self._handler.dropped
        self._write(stream, f"({dropped - self._reported} log lines were dropped: the log could not be written fast enough)")
        self._reported = dropped

    def stop(self, timeout: float) -> None:
        """Write what is queued, for up to `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self._handler.queue.put(None)
        while not self.finished and time.monotonic() < deadline:
            time.sleep(0.005)


def configure(level: str, style: str, file: str | None, start_thread: Callable[[Callable[[], None]], Any]) -> LogWriter:
    """Send every log record of the process to standard error or `file`. `start_thread` starts a real thread, whatever is patched.

    OSError when the file cannot be opened.
    """
    handler = QueueingHandler()
    stream = sys.stderr if file is None else open(file, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - open for life
    writer = LogWriter(handler, JsonFormatter() if style == "json" else TextFormatter(), lambda: stream)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # pika logs an ordinary disconnect at ERROR, with a traceback; hopd says the same in one line of its own.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    start_thread(writer.run)
    return writer
