"""The arguments of queues and consumers: what they mean, and what RabbitMQ says to wrong ones (`rabbit_amqqueue`, 3.10).

Arguments that RabbitMQ does not know it takes and ignores; so does this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from hopd import names
from hopd.broker.model import Arguments
from hopd.broker.refusal import Code, Refused

CLASSIC, QUORUM = "classic", "quorum"
DROP_HEAD, REJECT_PUBLISH, REJECT_PUBLISH_DLX = "drop-head", "reject-publish", "reject-publish-dlx"

_MAX_LENGTH = "x-max-length"
_MAX_BYTES = "x-max-length-bytes"
_MAX_PRIORITY = "x-max-priority"
_SINGLE_ACTIVE = "x-single-active-consumer"
_PRIORITY = "x-priority"

#: Ten years, the longest that RabbitMQ lets anything wait. Milliseconds.
MAX_EXPIRY = 315_360_000_000

#: Deliveries that a consumer of a quorum queue has at most unsettled when it set no prefetch (`rabbit_quorum_queue:consume`).
QUORUM_PREFETCH = 2000


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What a queue's arguments ask for. Times are in seconds; None: not asked for."""

    kind: str = CLASSIC
    message_ttl: float | None = None
    expires: float | None = None
    dead_letter_exchange: str | None = None
    dead_letter_key: str | None = None
    max_length: int | None = None
    max_bytes: int | None = None
    overflow: str = DROP_HEAD
    max_priority: int = 0
    delivery_limit: int | None = None
    single_active: bool = False


#: Says what is wrong with a value, as Erlang would print it, or None.
_Check = Callable[[Any, Arguments], "str | None"]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(value: Any, _: Arguments) -> str | None:
    return None if _is_integer(value) else f'"expected integer, got {type_name(value)}"'


def _not_negative(value: Any, arguments: Arguments) -> str | None:
    return _integer(value, arguments) or (f"{{value_negative,{value}}}" if value < 0 else None)


def _positive(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or (f"{{value_zero,{value}}}" if value == 0 else None)


def _expiry(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or (f"{{value_too_large,{value}}}" if value > MAX_EXPIRY else None)


def _expires(value: Any, arguments: Arguments) -> str | None:
    return _expiry(value, arguments) or _positive(value, arguments)


def _max_priority(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or (f"{{max_value_exceeded,{value}}}" if value > 255 else None)


def _text(value: Any, _: Arguments) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{type_name(value)}}}"


def _flag(value: Any, _: Arguments) -> str | None:
    return None if isinstance(value, bool) else f"{{unacceptable_type,{type_name(value)}}}"


def _dead_letter_key(value: Any, arguments: Arguments) -> str | None:
    return _text(value, arguments) or (None if names.DEAD_LETTER_EXCHANGE in arguments else "routing_key_but_no_dlx_defined")


def _one_of(known: Iterable[str], otherwise: str) -> _Check:
    def check(value: Any, arguments: Arguments) -> str | None:
        return _text(value, arguments) or (None if value in known else otherwise.format(value))

    return check


def _version(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or (None if value in (1, 2) else f"\"unsupported queue version '{value}'\"")


def _anything(_value: Any, _: Arguments) -> str | None:
    return None


_TYPE: _Check = _one_of((CLASSIC, QUORUM, "stream"), "\"unsupported queue type '{}'\"")

#: What RabbitMQ checks for queues of both types.
_OF_BOTH: dict[str, _Check] = {
    names.QUEUE_EXPIRES: _expires,
    names.MESSAGE_TTL: _expiry,
    names.DEAD_LETTER_EXCHANGE: _anything,  # looked at before
    names.DEAD_LETTER_ROUTING_KEY: _dead_letter_key,
    _MAX_LENGTH: _not_negative,
    _MAX_BYTES: _not_negative,
    names.OVERFLOW: _one_of((DROP_HEAD, REJECT_PUBLISH, REJECT_PUBLISH_DLX), "invalid_overflow"),
    _SINGLE_ACTIVE: _flag,
    names.QUEUE_TYPE: _TYPE,
}
_OF_TYPE: dict[str, dict[str, _Check]] = {
    CLASSIC: _OF_BOTH
    | {
        _MAX_PRIORITY: _max_priority,
        "x-queue-mode": _one_of(("default", "lazy"), "\"unsupported queue mode '{}'\""),
        "x-queue-version": _version,
        "x-queue-master-locator": _anything,
    },
    QUORUM: _OF_BOTH
    | {
        names.DEAD_LETTER_STRATEGY: _one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy"),
        names.DELIVERY_LIMIT: _anything,
        "x-max-in-memory-length": _not_negative,
        "x-max-in-memory-bytes": _not_negative,
        "x-quorum-initial-group-size": _positive,
        "x-queue-leader-locator": _one_of(("client-local", "random", "least-leaders", "balanced"), "invalid_queue_locator_arg"),
    },
}
_OF_STREAMS = {"x-max-age", "x-stream-max-segment-size-bytes", "x-initial-cluster-size"}
#: What belongs to some type of queue; on one of another type it is refused.
_KNOWN = _OF_STREAMS.union(*_OF_TYPE.values())


def queue_options(queue: str, arguments: Arguments) -> QueueOptions:
    """What the arguments of the queue of that name ask for; 406 with RabbitMQ's words for what it does not take, 540 for streams."""
    _check(queue, arguments, {names.QUEUE_TYPE: _TYPE})
    check_text(f"queue '{queue}'", names.DEAD_LETTER_EXCHANGE, arguments)
    kind = arguments.get(names.QUEUE_TYPE, CLASSIC)
    checks = _OF_TYPE.get(kind)
    if checks is None:
        raise Refused(Code.NOT_IMPLEMENTED, f"queue type '{kind}' is not supported by this broker")
    _check(queue, arguments, checks)
    for key in arguments:
        if key in _KNOWN and key not in checks:
            raise Refused(
                Code.PRECONDITION_FAILED, f"invalid arg '{key}' for queue '{queue}' in vhost '/' of queue type rabbit_{kind}_queue"
            )
    return _options(kind, arguments)


def _options(kind: str, arguments: Arguments) -> QueueOptions:
    limit = arguments.get(names.DELIVERY_LIMIT)
    overflow = arguments.get(names.OVERFLOW, DROP_HEAD)
    return QueueOptions(
        kind=kind,
        message_ttl=_seconds(arguments.get(names.MESSAGE_TTL)),
        expires=_seconds(arguments.get(names.QUEUE_EXPIRES)),
        dead_letter_exchange=arguments.get(names.DEAD_LETTER_EXCHANGE),
        dead_letter_key=arguments.get(names.DEAD_LETTER_ROUTING_KEY),
        max_length=arguments.get(_MAX_LENGTH),
        max_bytes=arguments.get(_MAX_BYTES),
        # Quorum queues take this one too, but warn and drop (`rabbit_quorum_queue:overflow`).
        overflow=DROP_HEAD if kind == QUORUM and overflow == REJECT_PUBLISH_DLX else overflow,
        max_priority=arguments.get(_MAX_PRIORITY, 0),
        delivery_limit=limit if _is_integer(limit) else None,
        single_active=arguments.get(_SINGLE_ACTIVE, False),
    )


def consumer_priority(queue: str, arguments: Arguments) -> int:
    """The priority that the arguments of a consumer ask for; 406 when it is none."""
    _check(queue, arguments, {_PRIORITY: _integer, "x-cancel-on-ha-failover": _flag})
    priority: int = arguments.get(_PRIORITY, 0)
    return priority


def _check(queue: str, arguments: Arguments, checks: dict[str, _Check]) -> None:
    for key, check in checks.items():
        problem = check(arguments[key], arguments) if key in arguments else None
        if problem:
            raise Refused(Code.PRECONDITION_FAILED, f"invalid arg '{key}' for queue '{queue}' in vhost '/': {problem}")


def check_text(what: str, key: str, arguments: Arguments) -> None:
    """An argument that names an exchange is text, if it is there; 406."""
    value = arguments.get(key, "")
    if not isinstance(value, str):
        raise Refused(Code.PRECONDITION_FAILED, f"invalid type '{type_name(value)}' for arg '{key}' in {what} in vhost '/'")


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


# --- declaring again what exists ----------------------------------------------------------------------------------------


def check_same(what: str, key: str, received: Any, current: Any) -> None:
    """A property of `what` (like ``queue 'q'``) that is declared again is the one it has; 406 otherwise."""
    if received is not current and (type(received), received) != (type(current), current):
        raise Refused(
            Code.PRECONDITION_FAILED,
            f"inequivalent arg '{key}' for {what} in vhost '/': received '{_shown(received)}' but current is '{_shown(current)}'",
        )


def check_same_arguments(what: str, received: Arguments, current: Arguments, keys: Iterable[str]) -> None:
    """As `check_same`, for those arguments that RabbitMQ compares."""
    for key in keys:
        new, old = received.get(key, _ABSENT), current.get(key, _ABSENT)
        if new is _ABSENT or old is _ABSENT:
            _check_both_absent(what, key, new, old)
        else:
            check_same(what, key, new, old)


def compared_arguments(kind: str) -> Iterable[str]:
    """The arguments of a queue of that type that have to be the same when it is declared again."""
    return _OF_TYPE[kind]


_ABSENT = object()


def _check_both_absent(what: str, key: str, new: object, old: object) -> None:
    if new is old or (key == names.QUEUE_TYPE and CLASSIC in (new, old)):
        return
    raise Refused(
        Code.PRECONDITION_FAILED,
        f"inequivalent arg '{key}' for {what} in vhost '/': received {_with_type(new)} but current is {_with_type(old)}",
    )


def _with_type(value: object) -> str:
    return "none" if value is _ABSENT else f"the value '{_shown(value)}' of type '{type_name(value)}'"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def type_name(value: Any) -> str:
    """What RabbitMQ calls the type of a field. Integers have many; this is the one that a client most likely sent."""
    if _is_integer(value):
        return "signedint" if -(2**31) <= value < 2**31 else "long"
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), "void")


_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (str, "longstr"),
    (bool, "bool"),
    (float, "double"),
    (bytes, "binary"),
    (dict, "table"),
    (list, "array"),
    (datetime, "timestamp"),
    (Decimal, "decimal"),
)
