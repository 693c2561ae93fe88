"""Code in C that keeps Python's lock: what is left to do about it. In processes of their own, whose signals these are."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.process import Process, Processes

#: Winds the timers up and then computes in C, keeping the lock, for ever as far as the test is concerned; or does something else.
_SCRIPT = """
import signal, sys
from hopd.engine.lockhog import LockHog

def computes_in_c():
    sum(range(10**12))

def winds_up_in_time():
    from time import process_time
    while process_time() < 2.0:
        hog.renew()
    hog.stop()
    print("still here", flush=True)

{before}
hog = LockHog({report_after}, {exit_after})
hog.start()
hog.renew()
{then}()
signal.setitimer(signal.ITIMER_PROF, 0.0)  # Python gives up its signal handlers before it ends
"""


def run(processes: Processes, then: str, *, report_after: float, exit_after: float | None, before: str = "") -> Process:
    return processes.python("-c", _SCRIPT.format(then=then, report_after=report_after, exit_after=exit_after, before=before))


def test_the_stack_is_written_to_standard_error_and_then_the_process_ends(processes: Processes) -> None:
    process = run(processes, "computes_in_c", report_after=0.1, exit_after=2.0)

    assert process.wait() == -signal.SIGPROF
    assert "in computes_in_c" in process.stderr


def test_a_thread_that_gets_to_run_keeps_it_from_happening(processes: Processes) -> None:
    process = run(processes, "winds_up_in_time", report_after=0.1, exit_after=1.5)

    assert process.wait() == 0
    assert process.stdout == "still here\n"
    assert process.stderr == ""


def test_without_a_limit_the_process_goes_on(processes: Processes) -> None:
    process = run(processes, "computes_in_c", report_after=0.1, exit_after=None)

    process.wait_for("in computes_in_c")

    assert process.alive


def test_a_profiler_keeps_its_timer(processes: Processes, tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGPROF, lambda *_: None); signal.setitimer(signal.ITIMER_PROF, 1.0, 1.0)"
    process = run(processes, "winds_up_in_time", report_after=0.1, exit_after=1.5, before=before)

    assert process.wait() == 0


def test_a_handler_of_sigvtalrm_is_kept(processes: Processes) -> None:
    before = "signal.signal(signal.SIGVTALRM, lambda *_: print('mine', flush=True)); signal.setitimer(signal.ITIMER_VIRTUAL, 0.1)"
    process = run(processes, "winds_up_in_time", report_after=60.0, exit_after=None, before=before)

    assert process.wait() == 0
    assert process.stdout == "mine\nstill here\n"
