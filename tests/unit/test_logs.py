"""The daemon's log: lines for people and for machines, and a writer that nothing can stop and that stops nobody."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hopd import logs
from hopd.logs import RUNNING, JsonFormatter, LogWriter, QueueingHandler, TextFormatter
from tests.support.process import ROOT
from tests.support.waiting import wait_until


class Sink(io.StringIO):
    """A stream that can get stuck and fail."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.stuck = threading.Event()
        self.fails = False

    def write(self, text: str) -> int:
        if not self.open.is_set():
            self.stuck.set()
        self.open.wait()
        if self.fails:
            raise OSError(28, "No space left on device")
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


class Log:
    """A logger with the daemon's handler, and its writer in a thread."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.sink = Sink()
        self.handler = QueueingHandler()
        self.writer = LogWriter(self.handler, formatter, lambda: self.sink)
        self.logger = logging.getLogger("hopd.test")
        self.logger.handlers[:] = [self.handler]
        self.logger.propagate = False
        self.logger.setLevel(logging.DEBUG)
        self.thread = threading.Thread(target=self.writer.run, daemon=True)
        self.thread.start()

    def written(self) -> list[str]:
        """All that was logged so far, written; ends the writer."""
        self.writer.stop(10.0)
        self.thread.join(10.0)
        return self.sink.lines

    def entry(self) -> dict[str, Any]:
        """The only line, as JSON."""
        (line,) = self.written()
        entry: dict[str, Any] = json.loads(line)
        return entry


@pytest.fixture
def text() -> Iterator[Log]:
    log = Log(TextFormatter())
    yield log
    log.sink.open.set()
    log.written()


@pytest.fixture(name="json_log")
def _json_log() -> Iterator[Log]:
    log = Log(JsonFormatter())
    yield log
    log.sink.open.set()
    log.written()


class Job:
    topic = "emails"
    log_id = "m-1"


@pytest.fixture
def running_job() -> Iterator[None]:
    token = RUNNING.set(Job())
    yield
    RUNNING.reset(token)


def divide_by_zero(logger: logging.Logger) -> None:
    try:
        print(1 / 0)
    except ZeroDivisionError:
        logger.exception("It broke", extra={"event": "broke"})


# --- the lines ------------------------------------------------------------------------------------


def test_a_text_line_has_time_level_sentence_and_details(text: Log) -> None:
    text.logger.info("Paused %s", "emails", extra={"event": "topic_paused", "topic": "emails"})

    (line,) = text.written()
    time, rest = line.split(" ", 1)
    assert rest == "INFO    Paused emails  event=topic_paused topic=emails"
    assert len(time) == len("2026-11-23T09:15:02.123Z")
    assert time.endswith("Z")


@pytest.mark.parametrize(("value", "shown"), [("two words", '"two words"'), ("a\nb", '"a\\nb"'), ("", '""'), ('say "x"', '"say \\"x\\""')])
def test_a_detail_that_is_not_one_word_is_quoted(text: Log, value: str, shown: str) -> None:
    text.logger.info("Hello", extra={"about": value})

    assert text.written()[0].endswith(f"Hello  about={shown}")


def test_a_text_line_has_its_traceback_below(text: Log) -> None:
    divide_by_zero(text.logger)

    lines = text.written()
    assert lines[0].endswith("It broke  event=broke")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1].startswith("ZeroDivisionError")


def test_a_json_line_is_one_object_with_everything(json_log: Log) -> None:
    json_log.logger.warning("No %s", "luck", extra={"event": "unlucky", "count": 3, "names": ["a", "b"], "none": None})

    entry = json_log.entry()
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "logger": "hopd.test",
        "message": "No luck",
        "event": "unlucky",
        "count": 3,
        "names": ["a", "b"],
        "none": None,
    }


def test_a_json_line_holds_its_traceback(json_log: Log) -> None:
    divide_by_zero(json_log.logger)

    assert "ZeroDivisionError" in json_log.entry()["traceback"].splitlines()[-1]


def test_what_a_handler_logs_names_its_job(json_log: Log, running_job: None) -> None:
    json_log.logger.info("Sent")

    entry = json_log.entry()
    assert (entry["topic"], entry["job"]) == ("emails", "m-1")


def test_a_line_that_names_its_topic_keeps_it(json_log: Log, running_job: None) -> None:
    json_log.logger.info("Paused", extra={"topic": "images"})

    assert json_log.entry()["topic"] == "images"


# --- what people log ---------------------------------------------------------------------------------


def test_a_line_is_what_it_was_when_it_was_logged(json_log: Log) -> None:
    names = ["a"]
    json_log.sink.open.clear()

    json_log.logger.info("Names: %s", names, extra={"names": names})
    names.append("b")
    json_log.sink.open.set()

    entry = json_log.entry()
    assert (entry["message"], entry["names"]) == ("Names: ['a']", ["a"])


def test_a_log_call_with_wrong_arguments_does_not_raise_in_the_handler_that_made_it(text: Log) -> None:
    text.logger.info("%d jobs", "many")
    text.logger.info("%s and %s", "one")

    first, second = text.written()
    assert "%d jobs" in first
    assert "many" in first
    assert "one" in second


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("cannot be shown")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize("kind", ["circular", "unprintable", "keys", "deep", "surrogate", "bytes", "message", "number"])
def test_whatever_is_logged_the_writer_goes_on(formatter: logging.Formatter, kind: str) -> None:
    circular: list[Any] = []
    circular.append(circular)
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    values = {
        "circular": circular,
        "unprintable": Unprintable(),
        "keys": {(1, 2): 3, None: 4},
        "deep": deep,
        "surrogate": "\udc80",
        "bytes": b"\xff",
        "message": "x",
        "number": 10**5000,
    }
    log = Log(formatter)

    log.logger.info("%s", Unprintable() if kind == "message" else "odd", extra={"value": values[kind]})
    log.logger.info("and then", extra={"event": "next"})

    assert "and then" in log.written()[-1]


def test_logging_takes_no_lock(text: Log) -> None:
    """A lock held by a greenlet that cannot run would stop the hub; and from Python 3.13 on a handler without one cannot log."""

    class Poisoned:
        def acquire(self, *_: object) -> None:
            raise AssertionError("logging waited for a lock")

        __enter__ = acquire

        def release(self, *_: object) -> None:
            raise AssertionError("logging gave back a lock")

        __exit__ = release

    text.handler.lock = Poisoned()  # type: ignore[assignment]

    text.logger.info("Hello")

    text.handler.lock = None
    assert len(text.written()) == 1


def test_a_filter_of_the_handler_counts(text: Log) -> None:
    text.handler.addFilter(lambda record: record.levelno > logging.INFO)

    text.logger.info("no")
    text.logger.warning("yes")

    assert len(text.written()) == 1


# --- a writer that is stuck, a disk that is full -------------------------------------------------------


def test_a_stuck_stream_blocks_nobody_and_what_finds_no_room_is_counted(text: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a writer that is stuck in its first line
    monkeypatch.setattr(logs, "MAX_WAITING", 100)
    text.sink.open.clear()
    text.logger.info("first")
    assert text.sink.stuck.wait(10.0)

    # When more is logged than may wait
    for number in range(150):
        text.logger.info("line %d", number)

    # Then nobody waited, and what was too much is counted
    assert text.handler.dropped == 50
    text.sink.open.set()
    wait_until(lambda: "line 99" in text.sink.getvalue())


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_dropped_lines_are_reported_once_in_the_logs_own_format(formatter: logging.Formatter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 1)
    log = Log(formatter)
    log.sink.open.clear()
    log.logger.info("first")
    assert log.sink.stuck.wait(10.0)
    for _ in range(8):
        log.logger.info("line")

    log.sink.open.set()
    reports = [line for line in log.written() if "log_dropped" in line]

    assert len(reports) == 1
    if isinstance(formatter, JsonFormatter):
        assert json.loads(reports[0])["count"] == 7
        assert json.loads(reports[0])["level"] == "warning"
    else:
        assert "count=7" in reports[0]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_a_full_disk_is_survived_and_told_when_there_is_room_again(formatter: logging.Formatter) -> None:
    log = Log(formatter)
    log.sink.fails = True
    for _ in range(5):
        log.logger.info("lost")
    wait_until(lambda: log.handler.queue.empty())

    wait_until(lambda: log.writer.failed == 5)
    log.sink.fails = False
    log.logger.info("kept")
    lines = log.written()

    assert len(lines) == 2
    assert "kept" in lines[0]
    assert "log_failed" in lines[1]
    if isinstance(formatter, JsonFormatter):
        assert json.loads(lines[1])["count"] == 5
    else:
        assert "count=5" in lines[1]


def test_stop_writes_what_is_queued(text: Log) -> None:
    for number in range(1000):
        text.logger.info("line %d", number)

    text.writer.stop(10.0)

    assert text.writer.finished
    assert len(text.sink.lines) == 1000


def test_stop_does_not_wait_for_a_stuck_stream(text: Log) -> None:
    text.sink.open.clear()
    text.logger.info("stuck")
    assert text.sink.stuck.wait(10.0)

    text.writer.stop(0.02)

    assert not text.writer.finished


# --- as the daemon sets it up -----------------------------------------------------------------------------


def configured(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a process whose log was configured by `configure(level, style, file)`."""
    start = """\
import logging, sys, _thread
from hopd import logs
level, style, file = sys.argv[1], sys.argv[2], sys.argv[3] or None
writer = logs.configure(level, style, file, lambda run: _thread.start_new_thread(run, ()))
"""
    command = [sys.executable, "-c", start + script + "\nwriter.stop(10.0)\n", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_everything_goes_to_standard_error_from_the_level_on() -> None:
    result = configured("logging.getLogger('app').debug('no'); logging.getLogger('app').info('yes')", "info", "text", "")

    (line,) = result.stderr.splitlines()
    assert line.endswith("yes")
    assert result.stdout == ""


def test_everything_goes_to_the_file_behind_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "hopd.log"
    file.write_text("before\n")

    result = configured("logging.info('after \\udc80')", "info", "json", str(file))

    before, after = file.read_text().splitlines()
    assert before == "before"
    assert json.loads(after)["message"].startswith("after")
    assert result.stderr == ""


def test_warnings_are_logged() -> None:
    result = configured("import warnings; warnings.warn('old')", "info", "json", "")

    assert json.loads(result.stderr.splitlines()[0])["logger"] == "py.warnings"


def test_a_thread_that_fails_is_logged_and_not_printed() -> None:
    script = "import threading; thread = threading.Thread(target=lambda: 1 / 0, name='theirs'); thread.start(); thread.join()"

    result = configured(script, "info", "json", "")

    entry = json.loads(result.stderr)
    assert (entry["event"], entry["thread_name"]) == ("thread_failed", "theirs")
    assert "ZeroDivisionError" in entry["traceback"]


def test_an_error_that_nobody_can_be_told_of_is_logged() -> None:
    script = """
class Broken:
    def __del__(self): raise ValueError("in a finalizer")
Broken()
"""

    result = configured(script, "info", "json", "")

    entry = json.loads(result.stderr)
    assert entry["event"] == "error_ignored"
    assert "in a finalizer" in entry["traceback"]


def test_pika_does_not_repeat_what_hopd_says() -> None:
    result = configured("logging.getLogger('pika.connection').error('disconnected')", "debug", "text", "")

    assert result.stderr == ""


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    result = configured("", "info", "text", str(tmp_path / "missing" / "hopd.log"))

    assert "FileNotFoundError" in result.stderr


def test_a_disk_that_is_full_does_not_end_the_process() -> None:
    result = configured("[logging.info('x' * 10000) for _ in range(100)]\nprint('alive')", "info", "text", "/dev/full")

    assert (result.returncode, result.stdout) == (0, "alive\n")
