"""Logs of the daemon: a sentence, a stable `event` word, and the ids that find the job; as text for people or JSON for machines.

Whoever logs only appends to a queue. A thread of the operating system writes: a full pipe or a slow disk must not stop
the one thread in which every greenlet, and the heartbeats, run.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import threading
import time
import traceback
from _queue import SimpleQueue  # the C type itself: gevent patches queue.SimpleQueue, and this one has to reach a real thread
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, Protocol, TextIO

_LOGGER = logging.getLogger(__name__)

#: Lines that may wait for a writer that is stuck; beyond it lines are dropped and counted.
MAX_WAITING = 10_000

#: 0 to 2 are the standard streams, whatever becomes of them.
_FIRST_FREE = 3

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
        self.pass_on: Callable[[logging.LogRecord], object] = self.queue.put

    def createLock(self) -> None:  # noqa: N802 - the standard library's name
        """No lock: the queue needs none, and a lock held by a greenlet that cannot run would stop the hub."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """As the standard library's, which from Python 3.13 on takes the lock without asking whether there is one."""
        kept: Any = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return kept

    def emit(self, record: logging.LogRecord) -> None:
        """Make the record independent of what it refers to (the job goes on changing), and queue it."""
        if self.queue.qsize() >= MAX_WAITING:
            self.dropped += 1
            return
        job = RUNNING.get()
        if job is not None and not hasattr(record, "topic"):
            record.topic, record.job = job.topic, job.log_id
        vars(record).update({key: _frozen(value) for key, value in _details(record).items()})
        record.msg, record.args = _message(record), None
        if record.exc_info:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_info = None
        self.pass_on(record)


def _message(record: logging.LogRecord) -> str:
    """The record's sentence; a wrong log call is shown as it is, and is no reason for the job that made it to fail."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a message's own __str__ can raise anything
        return f"{record.msg!s} (cannot be filled in with {_printed(record.args)}: {_printed(error)})"


def _frozen(value: Any, depth: int = 4) -> Any:
    """`value` as JSON has it, up to `depth` levels; the rest as it prints now, here: the writer is another thread."""
    if value is None or isinstance(value, (str, float, bool)) or (isinstance(value, int) and value.bit_length() < 64):
        return value
    if depth and isinstance(value, Mapping):
        return {_printed(key): _frozen(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_frozen(item, depth - 1) for item in value]
    return _printed(value)


def _printed(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - somebody's __str__ can raise anything, also RecursionError
        return f"({type(value).__name__}, which cannot be printed: {type(error).__name__})"


class LogWriter:
    """Writes what a `QueueingHandler` collects. Its duties: write each line; say when lines were dropped; survive a full disk.

    `failed` counts the lines that could not be written since one last could.
    """

    def __init__(self, handler: QueueingHandler, formatter: logging.Formatter, open_stream: Callable[[], TextIO]) -> None:
        self._handler = handler
        self._formatter = formatter
        self._open_stream = open_stream
        self._reported = 0
        self.failed = 0
        self.finished = False

    def run(self) -> None:
        """Write until `stop` was called. Runs in a thread of the operating system."""
        stream = self._open_stream()
        while True:
            record = self._handler.queue.get()
            if record is None:
                break
            if _write(stream, self.line(record)):
                self._report(stream)
            else:
                # A full disk or a closed pipe has nowhere to be reported but here: counted, and said when writing works again.
                self.failed += 1
        self.finished = True

    def line(self, record: logging.LogRecord) -> str:
        """The record as it is written."""
        try:
            return self._formatter.format(record)
        except Exception as error:  # noqa: BLE001 - one line that cannot be formatted must not end the log
            return f"(a line of {record.name} could not be formatted: {_printed(error)})"

    def _report(self, stream: TextIO) -> None:
        """Say what is missing from the log, as soon as it can be said there."""
        dropped = self._handler.dropped
        if dropped > self._reported:
            text = "Log lines were dropped: they came faster than they could be written"
            if _write(stream, self.line(_own_record(text, "log_dropped", dropped - self._reported))):
                self._reported = dropped
        if self.failed and _write(stream, self.line(_own_record("Log lines could not be written", "log_failed", self.failed))):
            self.failed = 0

    def stop(self, timeout: float) -> None:
        """Write what is queued, for up to `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self._handler.queue.put(None)
        while not self.finished and time.monotonic() < deadline:
            time.sleep(0.005)


def _write(stream: TextIO, line: str) -> bool:
    """Whether the line could be written."""
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _own_record(text: str, event: str, count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": text, "event": event, "count": count}
    )


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    extra = {"event": "thread_failed", "thread_name": failed.thread.name if failed.thread else None}
    _LOGGER.error("A thread failed", extra=extra, exc_info=(failed.exc_type, failed.exc_value, failed.exc_traceback))  # type: ignore[arg-type]


def _error_ignored(ignored: Any) -> None:
    error = (ignored.exc_type, ignored.exc_value, ignored.exc_traceback)
    message = ignored.err_msg or "An error that nobody can be told of"
    _LOGGER.error("%s: %s", message, _printed(ignored.object), extra={"event": "error_ignored"}, exc_info=error)


def configure(level: str, style: str, file: str | None, start_thread: Callable[[Callable[[], None]], Any]) -> LogWriter:
    """Send every log record of the process to standard error or `file`. `start_thread` starts a real thread, whatever is patched.

    OSError when the file cannot be opened.
    """
    handler = QueueingHandler()
    stream = _open(file)
    writer = LogWriter(handler, JsonFormatter() if style == "json" else TextFormatter(), lambda: stream)
    # Python would print these itself, and wait while the pipe is full.
    threading.excepthook, sys.unraisablehook = _thread_failed, _error_ignored
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # pika logs an ordinary disconnect at ERROR, with a traceback; hopd says the same in one line of its own.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    os.register_at_fork(after_in_child=lambda: _write_directly(handler, writer, stream.fileno()))
    start_thread(writer.run)
    return writer


def _open(file: str | None) -> TextIO:
    """A stream whose descriptor is the log's own: what closes standard error must not put its number, and the log, into a new socket."""
    if file is None:
        descriptor = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    else:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")


def _write_directly(handler: QueueingHandler, writer: LogWriter, descriptor: int) -> None:
    """In a forked child, where no thread empties the queue, and the parent's may hold the stream's lock."""

    def write(record: logging.LogRecord) -> None:
        line = writer.line(record) + "\n"
        try:
            os.write(descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            handler.dropped += 1

    handler.pass_on = write
