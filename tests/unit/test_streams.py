"""What becomes of what jobs print, and of standard descriptors that are closed."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hopd.engine import streams
from hopd.engine.streams import LONGEST_LINE, printing_to_the_log
from tests.support.process import ROOT

Lines = list[tuple[str, str]]


@contextmanager
def printed() -> Iterator[Lines]:
    """What is printed in the block, as (stream, line). No fixture: pytest has streams of its own for each phase of a test."""
    seen: Lines = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert vars(record)["event"] == "printed"
            seen.append((vars(record)["stream"], record.getMessage()))

    logger, collector = logging.getLogger(streams.__name__), Collector()
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    try:
        with printing_to_the_log():
            yield seen
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(collector)


def test_a_line_is_logged_when_it_is_whole() -> None:
    with printed() as lines:
        print("one", 2, end=" ")
        assert not lines
        print("three")
        assert lines == [("stdout", "one 2 three")]


def test_standard_error_is_told_apart() -> None:
    with printed() as lines:
        sys.stderr.write("one\ntwo\n\nthree\n")
        assert lines == [("stderr", "one"), ("stderr", "two"), ("stderr", "three")]


def test_each_thread_has_its_own_line_under_way() -> None:
    with printed() as lines:
        print("main", end=" ")
        other = threading.Thread(target=lambda: print("other"))
        other.start()
        other.join()
        print("goes on")
        assert lines == [("stdout", "other"), ("stdout", "main goes on")]


def test_bytes_can_be_printed() -> None:
    with printed() as lines:
        sys.stdout.buffer.write(b"caf\xc3\xa9 \xff\n")
        assert lines == [("stdout", "café \ufffd")]


def test_half_a_surrogate_pair_can_be_printed() -> None:
    with printed() as lines:
        print("\ud800")
        assert lines == [("stdout", "\\ud800")]


def test_a_line_without_an_end_does_not_grow_for_ever() -> None:
    with printed() as lines:
        for _ in range(LONGEST_LINE + 1):
            sys.stdout.write("x")
        assert lines == [("stdout", "x" * (LONGEST_LINE + 1))]


def test_closing_it_closes_nothing() -> None:
    with printed() as lines:
        sys.stdout.close()
        print("still there")
        assert lines == [("stdout", "still there")]
        assert not sys.stdout.closed


def test_a_child_process_can_inherit_the_real_one() -> None:
    with printed():
        assert (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
        assert not sys.stdout.isatty()


def test_afterwards_all_is_as_it_was() -> None:
    before = sys.stdout, sys.stderr
    with printing_to_the_log():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_nothing_can_take_the_place_of_a_closed_standard_stream(closed: tuple[int, ...]) -> None:
    code = """
import os, sys
from hopd.engine.streams import occupy
result = os.dup(int(sys.argv[1]))
closed = [int(number) for number in sys.argv[2:]]
for number in closed:
    os.close(number)
occupy()
assert os.open(os.devnull, os.O_RDONLY) > 2
assert all(os.get_inheritable(number) for number in closed)
os.write(1, b"") and os.write(2, b"")
os.write(result, b"good")
"""
    process = subprocess.run([sys.executable, "-c", code, "1", *map(str, closed)], cwd=ROOT, capture_output=True, check=False)
    assert (process.returncode, process.stdout) == (0, b"good"), process.stderr
