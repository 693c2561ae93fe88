"""Real processes for tests: their output in files, their ends certain."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

#: The checkout: a process that a test starts finds `hopd` and `tests.support` here.
ROOT = Path(__file__).resolve().parents[2]

#: Ends a process with the test run, even when the run is killed (util-linux: part of every Debian).
_LEASH = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()


class Process:
    """One process, its output in `NAME.out` and `NAME.err` of `directory`."""

    def __init__(self, command: Sequence[str], directory: Path, name: str, environment: Mapping[str, str], cwd: Path) -> None:
        self.command = tuple(command)
        self._out = directory / f"{name}.out"
        self._err = directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._popen = subprocess.Popen(
                [*_LEASH, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def stdout(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended is left in peace."""
        self._popen.send_signal(number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit code (negative: the signal that ended it); AssertionError, with the output, when it does not end."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {timeout:g} s: {self.describe()}") from error

    def wait_for(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """Wait until `pattern` (a regular expression) is in the output of either kind; AssertionError when it ends without."""

        def look() -> re.Match[str] | None:
            ended = not self.alive  # asked first: output written just before the end must still be seen
            found = re.search(pattern, self.stdout + self.stderr, re.MULTILINE)
            if found is None and ended:
                raise RuntimeError(f"ended with {self._popen.returncode} without {pattern!r}: {self.describe()}")
            return found

        return wait_until(look, timeout, f"{pattern!r} in the output of {self.describe()}")

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu(self) -> float:
        """Seconds of CPU it has used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def descriptors(self) -> int:
        """How many file descriptors it has open."""
        return int(psutil.Process(self.pid).num_fds())

    def describe(self) -> str:
        """Command and last output, for a failure's message."""
        tail = "\n".join((self.stdout + self.stderr).splitlines()[-30:])
        return f"{' '.join(self.command)} (pid {self.pid})\n{tail}"

    def end(self) -> None:
        """Kill it and everything it started, and reap it."""
        family = []
        if self.alive:
            me = psutil.Process(self.pid)
            family = [*me.children(recursive=True), me]
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue  # it ended by itself meanwhile
        psutil.wait_procs([member for member in family if member.pid != self.pid], timeout=10)
        self._popen.wait(timeout=10)


class Processes:
    """Starts processes for one test, and ends what is left of them with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Process] = []

    def start(self, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start `command`. Its environment is this one with the checkout on PYTHONPATH, and `env` on top."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))), **(env or {})}
        name = f"{len(self._started)}-{Path(command[0]).name}"
        process = Process(command, self._directory, name, environment, cwd or self._directory)
        self._started.append(process)
        return process

    def python(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start this Python with `arguments`."""
        return self.start(sys.executable, *arguments, env=env, cwd=cwd)

    def hopd(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start `hopd ARGUMENTS`, of this checkout."""
        return self.python("-c", "from hopd.cli.hopd import main; main()", *arguments, env=env, cwd=cwd)

    def hopctl(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start `hopctl ARGUMENTS`, of this checkout."""
        return self.python("-c", "import sys; from hopd.cli.hopctl import main; sys.exit(main())", *arguments, env=env, cwd=cwd)

    def end(self) -> None:
        for process in reversed(self._started):
            process.end()
