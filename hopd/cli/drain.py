"""`hopd broker drain-to`: moves what is in a store to another broker, with a progress bar."""

from __future__ import annotations

import logging
import os
import sys
from time import monotonic
from typing import TYPE_CHECKING

from hopd.cli import exitcodes
from hopd.errors import BrokerError, StoreError

if TYPE_CHECKING:
    from hopd.amqp.recovery import Link
    from hopd.broker.drain import Drained
    from hopd.broker.model import Restored
    from hopd.broker.store import Store

#: How long a broker that does not answer is asked again. Seconds.
GIVE_UP_AFTER = 30.0

EPILOG = """\b
Stop the broker that has the store first: one at a time can have it. Queues,
exchanges and bindings are made there where they are missing, and used as they
are where they exist. Every job is confirmed there before it is gone here, so it
may be interrupted and run again; jobs of the last moment may then come twice.

\b
Exit codes:
  0    everything is there, and the store is empty
  1    something is left, and why; run it again when that is mended
  2    wrong usage
  78   the store cannot be used
  130  interrupted
"""


def keep_quiet() -> None:
    """Have nothing logged in this process: what goes wrong is told in sentences at the end."""
    for noisy in ("pika", "hopd"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def drain(store_path: str, url: str) -> int:
    """Move everything; the exit code."""
    from hopd.amqp.endpoint import Options, parse
    from hopd.amqp.recovery import Backoff, Link
    from hopd.broker.store import Store

    try:
        endpoint = parse(url)
    except BrokerError as error:
        return _refuse(error, exitcodes.USAGE)
    if not os.path.isfile(store_path):
        return _refuse(f"there is no store at {store_path}", exitcodes.BAD_CONFIG)
    try:
        store = Store(store_path)
    except StoreError as error:
        return _refuse(error, exitcodes.BAD_CONFIG)
    link = Link([endpoint], Options("hopd-drain"), backoff=Backoff(cap=1.0), give_up_after=GIVE_UP_AFTER)
    try:
        restored = store.load()
        drained = _with_progress(store, link, restored)
    except BrokerError as error:
        return _refuse(error, exitcodes.CRASHED_OR_FORCED)
    except StoreError as error:
        return _refuse(error, exitcodes.BAD_CONFIG)
    except KeyboardInterrupt:
        return _refuse("interrupted; what was moved is moved, run it again for the rest", exitcodes.INTERRUPTED)
    finally:
        link.close(monotonic() + 2.0)
        store.close()
    return _report(drained, sum(len(queue.ids) for queue in restored.queues), len(restored.queues), str(endpoint))


def _with_progress(store: Store, link: Link, restored: Restored) -> Drained:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hopd.broker.clock import WallClock
    from hopd.broker.drain import Drain

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {queue.name: progress.add_task(queue.name, total=len(queue.ids)) for queue in restored.queues if queue.ids}
        return Drain(store, link, WallClock(), lambda queue, count: progress.advance(tasks[queue], count)).run(restored)


def _report(drained: Drained, total: int, queues: int, where: str) -> int:
    print(f"moved {drained.moved:,} of {total:,} jobs in {queues} queue{'' if queues == 1 else 's'} to {where}")
    for problem in drained.problems:
        print(f"hopd broker drain-to: {problem}", file=sys.stderr)
    return exitcodes.CRASHED_OR_FORCED if drained.problems else exitcodes.STOPPED


def _refuse(error: object, code: int) -> int:
    print(f"hopd broker drain-to: {error}", file=sys.stderr)
    return code
