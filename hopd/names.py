"""The only place that spells the names hopd gives to things in the broker."""

from __future__ import annotations

#: The direct exchange that groups the topics of a work queue; the name Go's Hop uses, so that both meet.
EXCHANGE = "hop.exchange"

#: The default exchange routes by queue name alone; it cannot be deleted or misdeclared.
DEFAULT_EXCHANGE = ""

#: AMQP's short strings hold 255 bytes; what is left makes room for the longest suffix we append.
MAX_TOPIC_BYTES = 200

# Headers hopd writes. Short and prefixed: they travel with every retried or buried job.
ATTEMPTS = "hop-attempts"
TOPIC = "hop-topic"
REASON = "hop-reason"
BURIED_AT = "hop-buried-at"
FIRST_FAILED_AT = "hop-first-failed-at"
ERROR_TYPE = "hop-error-type"
ERROR_MESSAGE = "hop-error-message"
ERROR_TRACEBACK = "hop-error-traceback"
HOST = "hop-host"
INSTANCE = "hop-instance"
RAW_PROPERTIES = "hop-raw-properties"
DUE_AT = "hop-due-at"
DELAY = "hop-delay"
DELAY_LEFT = "hop-delay-left"
CRASHES = "hop-crashes"

#: What hopd wrote about a job's failures, and a kick takes off again: the job begins anew.
FAILURE = frozenset(
    {ATTEMPTS, TOPIC, REASON, BURIED_AT, FIRST_FAILED_AT, ERROR_TYPE, ERROR_MESSAGE, ERROR_TRACEBACK, HOST, INSTANCE, CRASHES}
)

# Headers RabbitMQ writes.
DELIVERY_COUNT = "x-delivery-count"
ACQUIRED_COUNT = "x-acquired-count"
DEATHS = "x-death"

#: RabbitMQ's record of a dead-lettered message's way.
DEAD_LETTERED = frozenset({DEATHS, *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason"))})

# Queue arguments RabbitMQ reads.
QUEUE_TYPE = "x-queue-type"
MESSAGE_TTL = "x-message-ttl"
QUEUE_EXPIRES = "x-expires"
DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_ROUTING_KEY = "x-dead-letter-routing-key"
DEAD_LETTER_STRATEGY = "x-dead-letter-strategy"
OVERFLOW = "x-overflow"
DELIVERY_LIMIT = "x-delivery-limit"
MAX_PRIORITY = "x-max-priority"
MAX_LENGTH_BYTES = "x-max-length-bytes"


def buried(topic: str) -> str:
    """The queue that keeps a topic's buried jobs."""
    return f"{topic}.buried"


def retry(topic: str, delay: int) -> str:
    """The queue in which a topic's jobs wait `delay` milliseconds before they return to it."""
    return f"{topic}.retry.{delay}"


def topic_problem(name: str) -> str | None:
    """Why `name` cannot be a topic's name, or None when it can."""
    if not name:
        return "a topic's name cannot be empty"
    if len(name.encode("utf-8", "replace")) > MAX_TOPIC_BYTES:
        return f"a topic's name has at most {MAX_TOPIC_BYTES} bytes"
    if name.startswith("amq."):
        return "names that start with 'amq.' are reserved by the broker"
    if any(not character.isprintable() for character in name):
        return "a topic's name has only printable characters"
    return None
