"""`hopd broker`: the embedded broker as a process of its own."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from hopd.cli import exitcodes
from hopd.errors import CannotListen, StoreError
from hopd.units import format_size, parse_size

if TYPE_CHECKING:
    from hopd.broker.server import Broker

#: Where it listens when it is told neither an address nor a Unix socket.
ADDRESS = "127.0.0.1:5672"

#: Publishers are blocked when messages take more memory.
MAX_MEMORY = "256MiB"

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: How often it is looked whether the broker still serves, while nobody asks it to stop. Seconds.
_LOOK_INTERVAL = 1.0

#: How long the log may take to be written at the end. Seconds.
_LOG_TIMEOUT = 2.0

EPILOG = f"""\b
It serves this machine only, with one process and one file. For several
machines, or jobs that must outlive a disk, run RabbitMQ, and change the URL of
whoever uses this one; `hopd broker drain-to URL` moves what is left.

\b
Clients connect to amqp://{ADDRESS} (user guest, password guest). Without
--store everything is in memory, and lost when it stops.

\b
Exit codes:
  0   stopped as it was asked to
  1   crashed
  2   wrong usage
  73  cannot listen there
  78  the address, the size or the store cannot be used
"""


def serve(listen: str | None, unix: str | None, store: str | None, max_memory: str) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    import threading

    from hopd import logs
    from hopd.broker.alarms import Bounds
    from hopd.broker.server import Broker

    # Before there are threads, which inherit it: the main one alone is told, when it waits for that.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    if listen is None and unix is None:
        listen = ADDRESS
    try:
        broker = Broker(listen=listen, unix=unix, store=store, bounds=Bounds(memory=parse_size(max_memory)))
    except (CannotListen, ValueError) as error:
        return _refuse(error, exitcodes.BAD_CONFIG)
    try:
        broker.start()
    except CannotListen as error:
        return _refuse(error, exitcodes.NO_SOCKET)
    except StoreError as error:
        return _refuse(error, exitcodes.BAD_CONFIG)
    writer = logs.configure("info", "text", None, lambda run: threading.Thread(target=run, name="hopd-log", daemon=True).start())
    try:
        return _serve_until_signal(broker, store, max_memory)
    finally:
        writer.stop(_LOG_TIMEOUT)


def _serve_until_signal(broker: Broker, store: str | None, max_memory: str) -> int:
    import logging

    logger = logging.getLogger(__name__)
    where = " and ".join(broker.addresses)
    kept = f"durable jobs are kept in {store}" if store else "jobs are kept in memory, and lost when it stops"
    most = format_size(parse_size(max_memory))
    text = "Serving AMQP on %s, this machine only: %s, publishers wait at %s. For more machines run RabbitMQ, and change the URL"
    logger.info(text, where, kept, most, extra={"event": "broker_started", "url": broker.addresses[0]})
    while signal.sigtimedwait(_STOP_SIGNALS, _LOOK_INTERVAL) is None:
        if not broker.running:
            logger.critical("The broker serves no more", extra={"event": "broker_failed"})
            return exitcodes.CRASHED_OR_FORCED
    broker.stop()
    logger.info("The broker has stopped", extra={"event": "broker_stopped"})
    return exitcodes.STOPPED


def _refuse(error: Exception, code: int) -> int:
    print(f"hopd broker: {error}", file=sys.stderr)
    return code
