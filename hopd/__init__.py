"""hopd: RabbitMQ messages as jobs, thousands at a time.

The names below are loaded when they are first used (PEP 562): the daemon must monkey-patch before pika, ssl or socket
are imported, and `hopctl` must start without any of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hopd.version import __version__

if TYPE_CHECKING:
    from hopd.buried import BuriedJob as BuriedJob
    from hopd.job import Job as Job
    from hopd.message import Message as Message
    from hopd.topic import Topic as Topic
    from hopd.workqueue import WorkQueue as WorkQueue
    from hopd.workqueue import connect as connect

_HOMES = {
    "BuriedJob": "hopd.buried",
    "Job": "hopd.job",
    "Message": "hopd.message",
    "Topic": "hopd.topic",
    "WorkQueue": "hopd.workqueue",
    "connect": "hopd.workqueue",
}

_ERRORS = (
    "AlreadySettled",
    "BrokerBlocked",
    "BrokerError",
    "BrokerRefused",
    "BrokerTimeout",
    "BrokerUnreachable",
    "Bury",
    "ConfigError",
    "ConnectionLost",
    "Drop",
    "ForkedProcess",
    "HopError",
    "NotBuried",
    "JobTimeout",
    "PullTimeout",
    "PutError",
    "PutManyFailed",
    "PutRefused",
    "PutTimeout",
    "PutTooLarge",
    "PutUncertain",
    "Retry",
    "Unroutable",
    "WorkQueueClosed",
)
_HOMES.update(dict.fromkeys(_ERRORS, "hopd.errors"))

__all__ = ["BuriedJob", "Job", "Message", "Topic", "WorkQueue", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hopd' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
