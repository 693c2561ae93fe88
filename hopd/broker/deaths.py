"""What a dead-lettered message carries: its `x-death` record, as `rabbit_dead_letter` of RabbitMQ 3.10 writes and reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from hopd import names
from hopd.amqp.table import Long
from hopd.broker.carbon import CC, carbon_keys
from hopd.broker.headers import split
from hopd.broker.model import Message

EXPIRED, REJECTED, MAX_LENGTH, DELIVERY_LIMIT = "expired", "rejected", "maxlen", "delivery_limit"


class DeadMessage(NamedTuple):
    """A message as it goes to a dead-letter exchange, and its record of deaths, the last one first."""

    message: Message
    deaths: list[dict[Any, Any]]


def dead_lettered(message: Message, queue: str, reason: str, *, exchange: str, key: str | None, now: float) -> DeadMessage:
    """A message that left a queue for an exchange; `key` None: with the key it had. It has no expiration any more."""
    parts = split(message.properties)
    record: dict[str, Any] = {
        "reason": reason,
        "queue": queue,
        "time": datetime.fromtimestamp(int(now), timezone.utc),
        "exchange": message.exchange,
        "routing-keys": [message.routing_key, *carbon_keys(parts.headers)],
    }
    if parts.expiration:
        record["original-expiration"] = parts.expiration[1:].decode("utf-8", "replace")
        parts.expiration = b""
    deaths = _record(parts.headers, record)
    if key is not None:
        parts.headers.pop(CC, None)
    dead = message.carrying(parts.join())
    dead = replace(dead, exchange=exchange, routing_key=message.routing_key if key is None else key, expiration=None)
    return DeadMessage(dead, deaths)


def returns_by_itself(deaths: Iterable[Mapping[Any, Any]], queue: str) -> bool:
    """A dead-lettered message has been in that queue, and nobody rejected it since: it would go round for ever."""
    for death in deaths:
        if death.get("reason") == REJECTED:
            return False
        if death.get("queue") == queue:
            return True
    return False


def counted(message: Message, delivery_count: int) -> Message:
    """The message as a quorum queue delivers it that got it back so often."""
    parts = split(message.properties)
    parts.headers[names.DELIVERY_COUNT] = Long(delivery_count)
    return message.carrying(parts.join())


def _record(headers: dict[Any, Any], record: dict[str, Any]) -> list[dict[Any, Any]]:
    """Add a death to the headers, or count the one that is already there of the same queue and reason. All there are."""
    if names.DEATHS not in headers:
        headers |= {f"x-first-death-{what}": record[what] for what in ("reason", "queue", "exchange")}
    deaths = headers.get(names.DEATHS)
    others = _grouped(deaths if isinstance(deaths, list) else ())
    same = others.pop((record["queue"], record["reason"]), None)
    if same is None:
        same = {"count": Long(1), **record}
    else:
        same["count"] = Long(_count(same) + 1)
    # RabbitMQ turns the others round each time, and so overlooks some circles, which then go on for ever. Not here.
    headers[names.DEATHS] = all_of_them = [same, *others.values()]
    return all_of_them


def _grouped(deaths: Iterable[Any]) -> dict[tuple[Any, Any], dict[Any, Any]]:
    """Deaths by queue and reason; clients may have written anything."""
    grouped: dict[tuple[Any, Any], dict[Any, Any]] = {}
    for death in deaths:
        if isinstance(death, dict):
            named = (str(death.get("queue")), str(death.get("reason")))
            grouped.setdefault(named, death | {"count": Long(_count(death))} if "count" in death else dict(death))
    return grouped


def _count(death: dict[Any, Any]) -> int:
    count = death.get("count")
    return count if isinstance(count, int) else 0
