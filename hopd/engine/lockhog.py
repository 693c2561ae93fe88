"""Code that computes in C without releasing Python's lock stops every thread of Python, the watchdog's as well.

Only the operating system is left then: its timers count the computing time of the process, so that neither a stopped process nor
a busy machine sets them off, and the watchdog winds them up again as long as it gets to run.
"""

from __future__ import annotations

import faulthandler
import signal
import sys

#: How much longer than the watchdog's own `report_after`: where it gets to run, its report has the topic and this adds nothing. Seconds.
GRACE = 1.0


class LockHog:
    """After `report_after` seconds of computing the stack is written to standard error, after `exit_after` SIGPROF ends the process.

    SIGVTALRM and SIGPROF are left alone when somebody else uses them.
    """

    def __init__(self, report_after: float, exit_after: float | None) -> None:
        self._report_after = report_after + GRACE
        self._exit_after = exit_after
        self._reports = False
        self._exits = False

    def start(self) -> None:
        """Prepare, in the main thread."""
        if sys.stderr is not None and _is_free(signal.SIGVTALRM, signal.ITIMER_VIRTUAL):
            faulthandler.register(signal.SIGVTALRM, file=sys.stderr, all_threads=False, chain=False)
            self._reports = True
        self._exits = self._exit_after is not None

    def renew(self) -> None:
        """Wind the timers up."""
        if self._reports:
            signal.setitimer(signal.ITIMER_VIRTUAL, self._report_after)
        if self._exit_after is not None and self._exits:
            # A profiler may be switched on at any time.
            self._exits = _is_free(signal.SIGPROF, signal.ITIMER_PROF)
            if self._exits:
                signal.setitimer(signal.ITIMER_PROF, self._exit_after)

    def stop(self) -> None:
        """Switch the timers off, for good."""
        reports, self._reports = self._reports, False
        exits, self._exits = self._exits, False
        if reports:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        if exits:
            signal.setitimer(signal.ITIMER_PROF, 0.0)


def _is_free(number: signal.Signals, timer: int) -> bool:
    """Whether nobody but us uses the signal: it has its default effect, and its timer does not repeat."""
    return signal.getsignal(number) == signal.SIG_DFL and signal.getitimer(timer)[1] == 0.0
