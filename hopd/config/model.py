"""The shapes of the configuration: every key there is, its default, its unit and its range. All values are frozen.

Durations are float seconds. What a value may look like in the file is told by its reader (`fields`); config/hopd.yaml
shows every key with its reason, config/hopd.schema.json is generated from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hopd.config.arguments import Argument, ArgumentName
from hopd.config.broker import BrokerSettings
from hopd.config.failure import Block, BreakerSettings, OrNone, RetrySettings
from hopd.config.fields import Choice, FilePath, Flag, HandlerSpec, Mode, Seconds, Size, Text, TopicName, Whole
from hopd.config.section import Section, wrong
from hopd.units import format_duration

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]
QueueType = Literal["classic", "quorum"]
OnFailure = Literal["bury", "requeue", "drop"]
HandlerKind = Literal["greenlet", "thread"]

_DAY = 86_400.0
_GIB = 1024**3

#: RabbitMQ takes times to live of less than 2^32 ms, which is 49.7 days. Seconds.
MAX_KEEP = 49 * _DAY
#: AMQP's prefetch count has 16 bits.
MAX_PREFETCH = 65_535
#: Jobs at hand for each one running, so that finished jobs can be settled in order at once (measured: 3 beats 2 twofold).
PREFETCH_FACTOR = 3
#: How long a finished job may wait for those before it: seconds for each thousand at once, at least as long as with one thousand, and at
#: most what may be configured. A single ack costs the broker a walk over everything unsettled, and so the more the more there is
#: (measured: 10,000 jobs of about a second come to 1,800 a second with 50 ms, to all 10,000 from 300 ms on).
ACK_WINDOW_PER_THOUSAND, MAX_ACK_WINDOW = 0.05, 1.0
NO_TOPICS = "at least one topic is needed:   topics: {emails: {handler: myapp.jobs:send_email}}"


class ControlSettings(Section):
    """The socket `hopctl` talks to. `socket` None means the default path."""

    socket: Annotated[str, FilePath()] | None = None
    mode: Annotated[int, Mode()] = 0o660
    group: Annotated[str, Text()] | None = None


class ShutdownSettings(Section):
    """How long running jobs may go on once the daemon was asked to leave."""

    grace: Annotated[float, Seconds(0, 86_400)] = 30.0


class LoggingSettings(Section):
    """What is logged, how and where. `file` None means standard error."""

    level: Annotated[Level, Choice(get_args(Level))] = "info"
    format: Annotated[Format, Choice(get_args(Format))] = "text"
    file: Annotated[str, FilePath()] | None = None


class WatchdogSettings(Section):
    """When a handler that does not yield is reported, and when hopd leaves because of one. `exit_after` None: never."""

    report_after: Annotated[float, Seconds(0.1, 3600)] = 2.0
    exit_after: Annotated[float | None, OrNone(Seconds(1, _DAY))] = 300.0

    @model_validator(mode="after")
    def _reported_before_the_end(self) -> WatchdogSettings:
        if self.exit_after is not None and self.exit_after <= self.report_after:
            key = "exit_after" if "exit_after" in self.model_fields_set else "report_after"
            after, longer = format_duration(self.report_after), format_duration(self.exit_after)
            raise wrong(f"hopd would leave (exit_after, {longer}) before it reports why (report_after, {after})", key)
        return self


def _prefetch_of(concurrency: int) -> int:
    return min(MAX_PREFETCH, PREFETCH_FACTOR * concurrency)


def _ack_window_of(concurrency: int) -> float:
    return min(MAX_ACK_WINDOW, ACK_WINDOW_PER_THOUSAND * max(1000, concurrency) / 1000)


class TopicOptions(Section):
    """All a topic has but its name and handler, and so what `defaults` may hold."""

    concurrency: Annotated[int, Whole(1, 100_000)] = 10
    prefetch: Annotated[int, Whole(1, MAX_PREFETCH)] = Field(default_factory=lambda data: _prefetch_of(data.get("concurrency", 1)))
    ack_window: Annotated[float, Seconds(0, MAX_ACK_WINDOW)] = Field(
        default_factory=lambda data: _ack_window_of(data.get("concurrency", 1))
    )
    paused: Annotated[bool, Flag()] = False
    executor: Annotated[HandlerKind, Choice(get_args(HandlerKind))] = "greenlet"
    timeout: Annotated[float | None, OrNone(Seconds(0.1, 30 * _DAY))] = None
    kill_after: Annotated[float, Seconds(0.1, 3600)] = 5.0
    retry: Annotated[RetrySettings | None, Block()] = None
    on_failure: Annotated[OnFailure, Choice(get_args(OnFailure))] = "bury"
    keep_buried: Annotated[float | None, OrNone(Seconds(1, MAX_KEEP))] = None
    breaker: Annotated[BreakerSettings | None, Block()] = None
    max_body: Annotated[int | None, OrNone(Size(1, _GIB))] = None
    max_crashes: Annotated[int, Whole(1, 100)] = 3
    queue_type: Annotated[QueueType, Choice(get_args(QueueType))] = "classic"
    durable: Annotated[bool, Flag()] = True
    arguments: dict[Annotated[str, ArgumentName()], Annotated[Any, Argument()]] = Field(default={})

    @field_validator("durable")
    @classmethod
    def _quorum_queues_are_durable(cls, durable: bool, earlier: ValidationInfo) -> bool:
        if not durable and earlier.data.get("queue_type") == "quorum":
            raise ValueError("a quorum queue is always durable: remove this, or choose queue_type: classic")
        return durable


class TopicSettings(TopicOptions):
    """One topic, the defaults merged in. `handler` is ``package.module:name``."""

    name: Annotated[str, TopicName()]
    handler: Annotated[str, HandlerSpec()]


class Settings(Section):
    """A whole config file. `state_directory` None means the directory of the control socket."""

    broker: BrokerSettings = BrokerSettings()
    control: ControlSettings = ControlSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    logging: LoggingSettings = LoggingSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    state_directory: Annotated[str, FilePath()] | None = None
    import_path: tuple[Annotated[str, FilePath()], ...] = ()
    defaults: TopicOptions = TopicOptions()
    topics: dict[str, TopicSettings]

    @field_validator("topics")
    @classmethod
    def _some_topics(cls, topics: dict[str, TopicSettings]) -> dict[str, TopicSettings]:
        if not topics:
            raise ValueError(NO_TOPICS)
        return topics
