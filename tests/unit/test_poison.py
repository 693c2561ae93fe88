"""What a journal tells about who was running when the process died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hopd.amqp.properties import Properties, encode
from hopd.amqp.wire import Delivery
from hopd.engine import poison
from hopd.engine.poison import ENDED, RUNNING, History, InUse, JobKey, Journal, Record, compact, describe, judge, key_of, note, parse
from tests.support.process import ROOT

A, B, C = (JobKey("emails", name) for name in "abc")
NOW = 1_000_000.0


def delivery(body: bytes = b"", message_id: str | None = None, raw: bytes | None = None) -> Delivery:
    return Delivery(1, 1, True, b"", encode(Properties(message_id=message_id)) if raw is None else raw, body)


# --- parsing ------------------------------------------------------------------------------------


def test_a_job_that_started_and_did_not_end_was_running() -> None:
    journal = note(RUNNING, A, alone=True) + note(ENDED, A) + note(RUNNING, B, alone=True)
    assert parse(journal) == History((B,), {}, alone=True)


def test_a_job_that_ran_twice_at_once_was_running_until_both_ended() -> None:
    twice = note(RUNNING, A, alone=True) + note(RUNNING, A, alone=False) + note(ENDED, A)
    assert parse(twice).running == (A,)
    assert parse(twice + note(ENDED, A)).running == ()


def test_a_job_that_ends_is_cleared_of_what_was_known() -> None:
    journal = compact({A: Record(2, 3, NOW), B: Record(1, 1, NOW)}) + note(RUNNING, A, alone=True) + note(ENDED, A)
    assert parse(journal) == History((), {B: Record(1, 1, NOW)})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0\0\0\0",
        b"[]",
        b"17",
        b'{"note": "running"}',
        b'{"note": "running", "topic": 1, "job": "a"}',
        b'{"note": "forgiven", "topic": "emails", "job": "a"}',
        b'{"note": ["running"], "topic": "emails", "job": "a"}',
        b'{"note": "named", "topic": "emails", "job": "a", "crashes": "many"}',
        b'{"note": "named", "topic": "emails", "job": "a", "crashes": 1e999}',
        b'{"note": "named", "topic": "emails", "job": "a", "at": ' + b"9" * 400 + b"}",
        b"[" * 100_000,
    ],
)
def test_a_line_that_makes_no_sense_says_nothing(line: bytes) -> None:
    assert parse(line + b"\n" + note(RUNNING, A, alone=True)) == History((A,), {}, alone=True)


_KEYS = st.builds(JobKey, st.text(max_size=5), st.text(max_size=5))
_NOTES = st.lists(
    st.one_of(
        st.tuples(st.just(RUNNING), _KEYS, st.booleans()),
        st.tuples(st.just(ENDED), _KEYS, st.just(False)),
    ),
    max_size=20,
)


def lines(notes: list[tuple[str, JobKey, bool]]) -> list[bytes]:
    return [note(kind, key, alone=alone) for kind, key, alone in notes]


@given(_NOTES, st.data())
def test_a_journal_torn_anywhere_tells_what_its_whole_lines_do(notes: list[tuple[str, JobKey, bool]], data: st.DataObject) -> None:
    # Given a journal that ends in the middle of a line
    whole = lines(notes)
    journal = b"".join(whole)
    cut = data.draw(st.integers(0, len(journal)))
    # When it is read, Then the whole lines count and the rest does not (a line without its newline is whole)
    complete, length = [], 0
    for line in whole:
        if length + len(line) - 1 <= cut:
            complete.append(line)
        length += len(line)
    assert parse(journal[:cut]) == parse(b"".join(complete))


@given(st.binary(max_size=200))
@example(b'{"note":"running","topic":"\\ud800","job":"a"}')
def test_no_bytes_are_too_strange_to_be_read(journal: bytes) -> None:
    judge(parse(journal), died=True, now=NOW)


@given(st.dictionaries(_KEYS, st.builds(Record, st.integers(0, 9), st.integers(0, 9), st.floats(0, 2e9)), max_size=9))
def test_a_compact_journal_reads_back_as_it_was(named: dict[JobKey, Record]) -> None:
    assert parse(compact(named)) == History((), named)


# --- judging ------------------------------------------------------------------------------------


def test_the_only_one_that_ran_is_charged() -> None:
    assert judge(History((A,), {}, alone=True), died=True, now=NOW) == {A: Record(1, 1, NOW)}


def test_where_several_ran_all_are_named_and_none_is_charged() -> None:
    history = parse(note(RUNNING, A, alone=True) + note(RUNNING, B, alone=False))
    assert judge(history, died=True, now=NOW) == {A: Record(0, 1, NOW), B: Record(0, 1, NOW)}


def test_the_last_to_start_is_charged_when_the_others_had_their_time() -> None:
    history = parse(note(RUNNING, A, alone=True) + note(RUNNING, B, alone=True))
    assert judge(history, died=True, now=NOW) == {A: Record(0, 1, NOW), B: Record(1, 1, NOW)}


def test_who_is_left_alone_by_the_others_is_charged() -> None:
    history = parse(note(RUNNING, A, alone=True) + note(RUNNING, B, alone=False) + note(ENDED, A))
    assert judge(history, died=True, now=NOW) == {B: Record(1, 1, NOW)}


def test_charges_add_up() -> None:
    named = {A: Record(1, 2, NOW - 60)}
    assert judge(History((A,), named, alone=True), died=True, now=NOW) == {A: Record(2, 3, NOW)}


def test_nobody_is_charged_when_the_process_left_in_order() -> None:
    named = {B: Record(1, 1, NOW)}
    assert judge(History((A,), named, alone=True), died=False, now=NOW) == named


def test_who_was_not_seen_for_a_week_is_forgotten() -> None:
    named = {A: Record(2, 2, NOW - poison.FORGET_AFTER), B: Record(2, 2, NOW - poison.FORGET_AFTER + 1)}
    assert judge(History((), named), died=True, now=NOW) == {B: named[B]}


def test_only_so_many_are_remembered_the_latest() -> None:
    named = {JobKey("emails", str(number)): Record(0, 1, NOW - number) for number in range(poison.MAX_NAMED + 10)}
    assert list(judge(History((), named), died=True, now=NOW).values())[-1] == Record(0, 1, NOW - poison.MAX_NAMED + 1)


def test_a_log_line_names_those_that_were_named_last() -> None:
    assert describe({}) == "nobody"
    assert describe({A: Record(1, 2, NOW)}) == "a of emails (1 of 2 times)"
    many = {JobKey("emails", str(number)): Record(1, 1, NOW) for number in range(9)}
    assert describe(many).endswith("4 of emails (1 of 1 times) and 4 more")


# --- keys ---------------------------------------------------------------------------------------


def test_a_job_is_known_by_its_message_id() -> None:
    assert key_of("emails", delivery(b"x", "id-1")) == key_of("emails", delivery(b"y", "id-1")) == JobKey("emails", "id-1")


@pytest.mark.parametrize("raw", [None, b"\xff\xff broken"])
def test_a_job_without_an_id_that_can_be_read_is_known_by_its_body(raw: bytes | None) -> None:
    assert key_of("emails", delivery(b"x", raw=raw)) == key_of("emails", delivery(b"x"))
    assert key_of("emails", delivery(b"x", raw=raw)) != key_of("emails", delivery(b"y"))


# --- the files ----------------------------------------------------------------------------------


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "hopd")


def test_a_first_start_and_a_clean_end_leave_no_marker(prefix: str) -> None:
    journal = Journal(prefix, NOW)
    assert not journal.died
    assert Path(prefix + ".running").exists()
    journal.close()
    assert not Path(prefix + ".running").exists()
    again = Journal(prefix, NOW)
    assert not again.died
    again.close()


def test_a_process_that_dies_three_times_in_one_job_charges_it_three_times(prefix: str) -> None:
    for _ in range(3):
        journal = Journal(prefix, NOW)
        journal.started(B, alone=True)
        journal.ended(B)
        journal.started(A, alone=True)
        journal.release()
    last = Journal(prefix, NOW)
    assert last.died
    assert last.named == {A: Record(3, 3, NOW)}
    last.close()


def test_what_is_known_outlives_an_end_in_order(prefix: str) -> None:
    journal = Journal(prefix, NOW)
    journal.started(A, alone=True)
    journal.release()
    Journal(prefix, NOW).close()
    last = Journal(prefix, NOW)
    assert not last.died
    assert last.named == {A: Record(1, 1, NOW)}
    last.close()


def test_the_journal_does_not_grow_from_start_to_start(prefix: str) -> None:
    journal = Journal(prefix, NOW)
    for number in range(1000):
        key = JobKey("emails", str(number))
        journal.started(key, alone=True)
        journal.ended(key)
    journal.close()
    Journal(prefix, NOW).close()
    assert Path(prefix + ".suspects").stat().st_size == 0


def test_a_line_that_was_cut_by_a_full_disk_does_not_swallow_the_next(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a disk that takes the half of a line
    journal = Journal(prefix, NOW)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space left"):
        journal.started(A, alone=True)
    # When there is room again
    monkeypatch.undo()
    journal.started(B, alone=True)
    journal.release()
    # Then the next line is whole
    assert parse(Path(prefix + ".suspects").read_bytes()).running == (B,)


def test_a_journal_that_another_process_keeps_is_left_alone(prefix: str) -> None:
    # Given another process with the same files
    code = "import sys; from hopd.engine.poison import Journal; j = Journal(sys.argv[1], 0.0); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, prefix], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        # When we want them too, Then we are told
        with pytest.raises(InUse):
            Journal(prefix, NOW)
        other.kill()
    # And once it is gone they are ours, and it died
    journal = Journal(prefix, NOW)
    assert journal.died
    journal.close()


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OSError):
        Journal(str(tmp_path / "state" / "hopd"), NOW)


def test_people_can_read_the_journal(prefix: str) -> None:
    journal = Journal(prefix, NOW)
    journal.started(JobKey("emails", "übung 1"), alone=True)
    assert json.loads(Path(prefix + ".suspects").read_text()) == {"note": "running", "topic": "emails", "job": "übung 1", "alone": True}
    journal.close()
