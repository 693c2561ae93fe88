"""The demo's handlers, to copy from: a handler is a callable that takes a job. Returning means done, raising means failed."""

from __future__ import annotations

import hashlib
import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hopd import Job


class CardRefused(Exception):
    """The customer's bank said no."""


def fingerprint(job: Job) -> None:
    """A quick job: a little computing, no waiting."""
    hashlib.sha256(job.body).hexdigest()


def call_webhook(job: Job) -> None:  # noqa: ARG001 - the demo calls nobody
    """A job that waits, as one that calls a web service does. While it sleeps, hundreds of others run."""
    time.sleep(random.uniform(0.1, 0.5))


def charge_card(job: Job) -> None:
    """A job that sometimes fails: one in twenty. hopd sets it aside in `<topic>.buried`, with the reason and the traceback."""
    order = job.json()
    time.sleep(0.005)
    if order["number"] % 20 == 0:
        raise CardRefused(f"order {order['number']}: insufficient funds")
