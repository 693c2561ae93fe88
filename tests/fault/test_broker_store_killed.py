"""A process that writes to the store is killed, again and again: what it said is committed is there, whole, and once."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fault.store_writer import body
from tests.support.process import ROOT
from tests.support.stored import DECLARED, bodies, committed, ids, opened

KILLS = 50

#: The latest commit after which a process is killed: so many take a tenth of a second, and a checkpoint or two.
MAX_COMMITS = 60


class Expected:
    """What should be in the store, from what was reported. `before` and `after` are what is there without and with the last try."""

    def __init__(self) -> None:
        self.before: set[int] = set()
        self.after: set[int] = set()

    def hear(self, line: bytes) -> None:
        """Take up one line of a report."""
        if line == b"done\n":
            self.before = self.after
        elif line.startswith(b"try ") and line.endswith(b"\n"):
            _try, first, last, going = line[:-1].split(b" ")
            gone = set(map(int, going.split(b","))) if going else set()
            self.after = (self.before | set(range(int(first), int(last) + 1))) - gone

    def settle(self, found: set[int]) -> None:
        """The process is dead: its last try has come to all or to nothing."""
        assert found in (self.before, self.after)
        self.before = self.after = found


def write_until_killed(path: Path, seed: int, expected: Expected) -> int:
    """Have a process write, kill it after some commits; how many it reported."""
    command = [sys.executable, "-m", "tests.fault.store_writer", str(path), str(seed)]
    commits, wanted = 0, random.Random(seed).randint(0, MAX_COMMITS)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                expected.hear(line)
                commits += line == b"done\n"
                if commits >= wanted:
                    break
        finally:
            process.kill()
        for line in process.stdout:
            expected.hear(line)
            commits += line == b"done\n"
    assert process.returncode == -9
    return commits


def test_a_store_whose_writer_is_killed_fifty_times_has_every_committed_message_once(tmp_path: Path) -> None:
    path = tmp_path / "dir" / "hopd.store"
    path.parent.mkdir()
    expected = Expected()
    with opened(path) as store:
        committed(store, DECLARED)

    commits = 0
    for kill in range(KILLS):
        commits += write_until_killed(path, kill, expected)
        # Every other time only a copy is looked at, so that the next process finds what the killed one left, and may be killed over it.
        seen = path if kill % 2 else shutil.copytree(path.parent, tmp_path / f"copy-{kill}") / path.name
        with opened(seen) as store:
            found = ids(store.load())
            assert len(found) == len(set(found))
            expected.settle(set(found))
            assert bodies(store, found) == {id_: body(id_) for id_ in found}

    assert commits > KILLS
