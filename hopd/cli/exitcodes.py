"""What hopd's exit code tells a service manager."""

from __future__ import annotations

STOPPED = 0
CRASHED_OR_FORCED = 1
USAGE = 2
WATCHDOG = 70
NO_SOCKET = 73
BAD_CONFIG = 78
INTERRUPTED = 130
