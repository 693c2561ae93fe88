"""The process that imports what a config names for `hopd check`, seen from both ends: `Child` from outside, `main` from inside.

It reports on a pipe of its own, a JSON object a line: first ``{}`` when it is ready, then ``{"problem": null | "…"}`` for
each name. What the modules print goes to standard error and confuses nobody.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from hopd.errors import HandlerError
from hopd.units import format_duration

#: Milliseconds between two looks at whether the child lives while its pipe is silent: a grandchild may hold the pipe open.
POLL_INTERVAL = 50
#: The child takes over our search path before all else. It runs isolated (-I): the working directory adds nothing to that.
_START = """\
import json, sys
request = json.load(sys.stdin)
sys.path[:] = request["path"]
from hopd.engine.handler_child import main
main(request)
"""


class Child:
    """A running child process.

    1. starts with our search path and the names to import;
    2. hands out its reports one by one, or says in `ended` why there are no more;
    3. at the end is gone, together with everything its modules started.

    `HandlerError` when it cannot be started.
    """

    def __init__(self, import_path: Sequence[str], names: Sequence[tuple[str, str]]) -> None:
        self.ended = ""
        self._buffer = b""
        self._silent = False
        self._pipe, writing = os.pipe()
        request = {"path": sys.path, "import_path": list(import_path), "names": list(names), "report_to": writing}
        try:
            with tempfile.TemporaryFile("w+") as stdin:  # a file, so that a child that reads nothing cannot block us
                json.dump(request, stdin)
                stdin.seek(0)
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _START], stdin=stdin, stdout=2, pass_fds=(writing,), start_new_session=True
                )
        except OSError as error:
            os.close(self._pipe)
            raise HandlerError(f"the process that imports the handlers cannot be started: {error}") from error
        finally:
            os.close(writing)

    def report(self, timeout: float) -> dict[str, Any] | None:
        """The next report, waited for at most `timeout` seconds; None when there is none, and `ended` says why."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            exited = self._exit_status()  # asked before the pipe is: what it wrote last is read all the same
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self.ended = f"hung for more than {format_duration(timeout)}"
                return None
            data = self._read(min(int(remaining * 1000) + 1, POLL_INTERVAL))
            if exited is not None and not data:
                self.ended = _how_it_ended(exited)
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        report: dict[str, Any] = json.loads(line)
        return report

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.ended = self.ended or "had left"
        self._process.wait()
        os.close(self._pipe)

    def _read(self, milliseconds: int) -> bytes:
        """What the pipe has within that time. A pipe that the child has closed has nothing, and is not asked again."""
        poll = select.poll()
        if not self._silent:
            poll.register(self._pipe, select.POLLIN)
        if not poll.poll(milliseconds):
            return b""
        data = os.read(self._pipe, 65536)
        self._silent = not data
        return data

    def _exit_status(self) -> int | None:
        """None while it runs; minus the signal it died of. It is not reaped yet, so its process group stays its own."""
        try:
            result = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return self._process.wait()  # gevent's loop was faster and has reaped it
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _how_it_ended(status: int) -> str:
    return f"left with exit status {status}" if status >= 0 else f"died of signal {-status} ({signal.strsignal(-status)})"


def main(request: dict[str, Any]) -> None:
    """Import the names that `request` lists with their kinds, in order, and report on each. Does not return."""
    report_to = request["report_to"]
    os.set_inheritable(report_to, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.argv[:] = ["hopd"]
    _patch()
    from hopd.engine.handler import LOADERS, add_import_path

    add_import_path(request["import_path"])
    _send(report_to, {})
    for kind, spec in request["names"]:
        try:
            LOADERS[kind](spec)
            problem = None
        except HandlerError as error:
            problem = str(error)
        _send(report_to, {"problem": problem})
    os._exit(0)  # threads the modules have started must not keep the process


def _patch() -> None:
    """As the daemon does before it imports handlers, so that both see the same world."""
    try:
        from gevent import monkey
    except ImportError:
        return
    monkey.patch_all()


def _send(report_to: int, report: dict[str, Any]) -> None:
    os.write(report_to, json.dumps(report).encode() + b"\n")
