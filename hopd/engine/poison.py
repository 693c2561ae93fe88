"""Poison: jobs that kill the process. Who was running when it died, as a journal tells; pure, but for the file itself (`Journal`).

A process that was killed cannot say by what. So after such an end the jobs that come back are suspects: they are run one at a
time, and the journal notes each before it starts and after it ended. Whoever was started and has not ended when the process
dies again was there, and that is what the journal's next reader finds out:

- the one that ran alone is charged with a crash;
- where several ran, because a long one held up the others, all are named and none is charged, and the next time each of
  them is given longer before another starts beside it (suspects.py), until the killer is alone;
- whoever ends is cleared, whatever was known about it.

So a crash is charged only to a job that was running as the only suspect. A SIGKILL from outside charges whatever ran at that
moment, and clears it as soon as it ends the next time: to bury a healthy job it would take `max_crashes` of them, each within
a run of that same job, and none of its runs getting through.

The journal is one JSON object a line, appended with one write each, and without fsync: what a process has written survives its
death, and a machine that dies charges nobody.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

from hopd.amqp.properties import PropertiesError, decode
from hopd.amqp.wire import Delivery

#: Named jobs that were not seen again are forgotten after this time, and beyond this number: another instance has run them, or
#: nobody will. Seconds.
FORGET_AFTER = 7 * 86_400.0
MAX_NAMED = 1000

#: How many names a log line bears.
MAX_TOLD = 5

RUNNING, ENDED, NAMED = "running", "ended", "named"


class JobKey(NamedTuple):
    """What a job is known by over deliveries and processes: its topic, and its message id or else a hash of its body."""

    topic: str
    job: str


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about a job: with how many crashes it is charged, at how many deaths of the process it was running, these among
    them, and when it last was (seconds since 1970)."""

    crashes: int
    deaths: int
    at: float


@dataclass(frozen=True, slots=True)
class History:
    """What a journal says: the jobs that started and did not end, in the order of their start, and the records of earlier deaths.

    `alone` tells whether the last of the running was given the time to be the only one to blame.
    """

    running: tuple[JobKey, ...]
    named: Mapping[JobKey, Record]
    alone: bool = False


def key_of(topic: str, delivery: Delivery) -> JobKey:
    """What the delivered job is known by."""
    try:
        message_id = decode(delivery.raw_properties).message_id
    except PropertiesError:
        message_id = None
    # Jobs without an id that are alike byte for byte are one job here: what one of them does, each of them does.
    return JobKey(topic, message_id or f"sha256:{sha256(delivery.body).hexdigest()}")


def parse(journal: bytes) -> History:
    """Read a journal, however it ends. A line that makes no sense says nothing: the last one may be torn."""
    # Twice, if it was lost and came again; each end ends one of them.
    running: dict[JobKey, list[bool]] = {}
    named: dict[JobKey, Record] = {}
    for line in journal.split(b"\n"):
        entry = _entry(line)
        if entry is None:
            continue
        key = entry.key
        if entry.kind == NAMED:
            named[key] = entry.record
        elif entry.kind == RUNNING:
            running[key] = [*running.pop(key, []), entry.alone]  # the last to start is the last here
        else:
            named.pop(key, None)
            if len(running.get(key, ())) > 1:
                running[key].pop(0)
            else:
                running.pop(key, None)
    alone = len(running) == 1 or (bool(running) and next(reversed(running.values()))[-1])
    return History(tuple(running), named, alone)


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    key: JobKey
    record: Record
    alone: bool


def _entry(line: bytes) -> _Entry | None:
    try:
        entry = json.loads(line)
        kind, key = entry["note"], JobKey(entry["topic"], entry["job"])
        counts = [max(0, int(entry.get(name, 0))) for name in ("crashes", "deaths")]
        record = Record(counts[0], counts[1], float(entry.get("at", 0)))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return None
    sensible = kind in (RUNNING, ENDED, NAMED) and isinstance(key.topic, str) and isinstance(key.job, str)
    return _Entry(kind, key, record, bool(entry.get("alone"))) if sensible else None


def judge(history: History, *, died: bool, now: float) -> dict[JobKey, Record]:
    """Who is named from now on. `died` tells whether the process ended uncleanly: else nobody is charged with anything."""
    named = {key: record for key, record in history.named.items() if now - record.at < FORGET_AFTER}
    if died:
        for key in history.running:
            before = named.get(key, Record(0, 0, now))
            charged = history.alone and key == history.running[-1]
            named[key] = Record(before.crashes + charged, before.deaths + 1, now)
    newest_first = sorted(named.items(), key=lambda item: -item[1].at)
    return dict(newest_first[:MAX_NAMED])


def note(kind: str, key: JobKey, **more: Any) -> bytes:
    """One line of a journal."""
    return json.dumps({"note": kind, "topic": key.topic, "job": key.job, **more}).encode() + b"\n"


def compact(named: Mapping[JobKey, Record]) -> bytes:
    """The shortest journal that says this."""
    return b"".join(note(NAMED, key, **asdict(record)) for key, record in named.items())


class InUse(Exception):
    """Another process that is alive keeps its journal there."""


class Journal:
    """The files `PREFIX.running` and `PREFIX.suspects`, from a process's start to its end. Raises OSError, and `InUse`.

    The first is the marker: it is there as long as the process runs, and afterwards when the process could not take it away.
    """

    def __init__(self, prefix: str, now: float) -> None:
        self._marker, self._path = prefix + ".running", prefix + ".suspects"
        self._torn = False
        self._pid = os.getpid()
        os.makedirs(os.path.dirname(prefix) or ".", mode=0o700, exist_ok=True)
        self.died = os.path.lexists(self._marker)
        self._lock = _claim(self._marker)
        try:
            self.named = judge(parse(_read(self._path)), died=self.died, now=now)
            self._file = self._rewrite()
        except BaseException:
            os.close(self._lock)
            raise

    def started(self, key: JobKey, *, alone: bool) -> None:
        """A suspect is about to start; `alone` as in `History`."""
        self._append(note(RUNNING, key, alone=alone))

    def ended(self, key: JobKey) -> None:
        """A suspect has ended and so is cleared; or it is buried."""
        self.named.pop(key, None)
        self._append(note(ENDED, key))

    def close(self) -> None:
        """A clean exit: nobody who still runs has killed the process."""
        os.unlink(self._marker)
        self.release()

    def release(self) -> None:
        """Give the files back as they are, as death would."""
        os.close(self._file)
        os.close(self._lock)

    def _append(self, line: bytes) -> None:
        if os.getpid() != self._pid:
            return  # a child that a suspect has forked says nothing about the suspect
        if self._torn:
            line = b"\n" + line  # the disk was full in the middle of a line
        self._torn = True
        if os.write(self._file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def _rewrite(self) -> int:
        fresh = self._path + ".new"
        _write(fresh, compact(self.named))
        os.rename(fresh, self._path)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def _claim(marker: str) -> int:
    file = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A lock of this kind is the process's own: a forked child neither has it nor keeps it alive.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
    except BlockingIOError as error:
        os.close(file)
        raise InUse(f"another hopd keeps its journal at {marker}") from error
    except BaseException:
        os.close(file)
        raise
    return file


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _write(path: str, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(file)


def describe(named: Mapping[JobKey, Record]) -> str:
    """Who is charged, for a log line: those last named, and how many more."""
    latest = [f"{key.job} of {key.topic} ({record.crashes} of {record.deaths} times)" for key, record in islice(named.items(), MAX_TOLD)]
    more = len(named) - len(latest)
    return ", ".join(latest) + (f" and {more} more" if more else "") or "nobody"
