"""The control commands: what hopd can be asked on its socket, who may ask it, and how an answer looks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from hopd import errors
from hopd.control import arguments, protocol
from hopd.control.arguments import Args
from hopd.control.peer import Access, Peer
from hopd.errors import ControlError, HopError

log = logging.getLogger(__name__)

#: Seconds a drain waits for running jobs when the request does not say.
DRAIN_TIMEOUT = 60.0

#: Seconds a put waits for the broker's confirm when the request does not say.
PUT_TIMEOUT = 5.0


class Steering(Protocol):
    """What the commands need of the daemon.

    Each method may raise any `HopError`; a `ControlError` (for example with code `shutting_down`) reaches the client as it is.
    """

    @property
    def version(self) -> str:
        """hopd's version."""

    def status(self) -> dict[str, Any]:
        """The status contract: `state`, `version`, `instance`, `pid`, `uptime`, `broker`, `topics.NAME` …"""

    def topic_names(self) -> list[str]:
        """The topics this daemon runs, in the order of the configuration."""

    def pause(self, topics: Sequence[str]) -> None:
        """Stop taking jobs of the topics; returns at once."""

    def resume(self, topics: Sequence[str]) -> None:
        """Take jobs of the topics again; returns at once."""

    def drain(self, topics: Sequence[str], timeout: float) -> dict[str, int]:
        """Pause the topics and wait up to `timeout` seconds until none of their jobs runs; jobs still running per topic."""

    def reload(self) -> Mapping[str, Sequence[str]]:
        """Take up the config as it is now, or raise `ConfigError` and change nothing; names of topics that were `added`, `changed` and
        `removed`, and the keys whose new values need a `restart`."""

    def shutdown(self, now: bool, grace: float | None) -> None:
        """Ask the daemon to leave; returns at once. `grace` in seconds, None for the configured one."""

    def put(
        self,
        topic: str,
        body: bytes,
        *,
        headers: Mapping[str, Any],
        message_id: str | None,
        content_type: str | None,
        delay: float | None,
        at: datetime | None,
        timeout: float,
    ) -> str:
        """Put a job, due in `delay` seconds or `at` a time, and return its message id once the broker has confirmed it."""


@dataclass(frozen=True)
class Command:
    """One command: the function behind it, the arguments it knows, and whether it changes something."""

    run: Callable[[Steering, Args], dict[str, Any]]
    args: frozenset[str] = frozenset()
    changes: bool = False


def dispatch(steering: Steering, request: protocol.Request, peer: Peer, access: Access) -> dict[str, Any]:
    """Carry out `request` and return its result; every failure is a `ControlError`.

    With `functools.partial(dispatch, steering)` this is the `handle` of a `ControlServer`.
    """
    command = COMMANDS.get(request.cmd)
    if command is None:
        known = ", ".join(COMMANDS)
        raise ControlError(protocol.UNKNOWN_COMMAND, f"hopd has no command {request.cmd[:50]!r}; it has {known}")
    if command.changes:
        _permit(request, peer, access)
    arguments.check_known(request.cmd, request.args, command.args)
    try:
        return command.run(steering, request.args)
    except ControlError:
        raise
    except HopError as error:
        raise ControlError(_code(error), str(error)) from error


def _permit(request: protocol.Request, peer: Peer, access: Access) -> None:
    """Log who asks for a change, and refuse those who may not."""
    about = {"command": request.cmd, "uid": peer.uid, "gid": peer.gid, "peer_pid": peer.pid}
    if not access.may_change(peer):
        log.warning("Refused control command %s from %s", request.cmd, peer, extra={"event": "control_refused", **about})
        message = f"uid {peer.uid} may look but not {request.cmd}: that is for root, hopd's own user and members of control.group"
        raise ControlError(protocol.NOT_PERMITTED, message)
    topics = request.args.get("topics", request.args.get("topic"))
    log.info("Control command %s from %s", request.cmd, peer, extra={"event": "control_command", **about, "topics": topics})


def _ping(steering: Steering, _args: Args) -> dict[str, Any]:
    return {"pid": os.getpid(), "version": steering.version}


def _version(steering: Steering, _args: Args) -> dict[str, Any]:
    return {"version": steering.version, "protocol": protocol.VERSION}


def _status(steering: Steering, _args: Args) -> dict[str, Any]:
    return steering.status()


def _pause(steering: Steering, args: Args) -> dict[str, Any]:
    topics = arguments.topics(args, steering.topic_names())
    steering.pause(topics)
    return {"paused": topics}


def _resume(steering: Steering, args: Args) -> dict[str, Any]:
    topics = arguments.topics(args, steering.topic_names())
    steering.resume(topics)
    return {"resumed": topics}


def _drain(steering: Steering, args: Args) -> dict[str, Any]:
    topics = arguments.topics(args, steering.topic_names(), default_all=True)
    timeout = arguments.seconds(args, "timeout")
    timeout = DRAIN_TIMEOUT if timeout is None else timeout
    left = {topic: count for topic, count in steering.drain(topics, timeout).items() if count}
    if left:
        running = ", ".join(f"{count:,} of {topic}" for topic, count in left.items())
        message = f"jobs still run after {timeout:g} s ({running}); the topics stay paused"
        raise ControlError(protocol.TIMEOUT, message, {"running": left})
    return {"drained": topics}


def _reload(steering: Steering, _args: Args) -> dict[str, Any]:
    return dict(steering.reload())


def _shutdown(steering: Steering, args: Args) -> dict[str, Any]:
    now, grace = arguments.boolean(args, "now"), arguments.seconds(args, "grace")
    if now and grace is not None:
        raise arguments.bad("shut down now or after a grace period, not both")
    steering.shutdown(now, grace)
    return {"pid": os.getpid(), "now": now, "grace": grace}


def _put(steering: Steering, args: Args) -> dict[str, Any]:
    topic, timeout = arguments.topic(args), arguments.seconds(args, "timeout")
    delay, at = arguments.seconds(args, "delay", arguments.MAX_DELAY), arguments.moment(args, "at")
    if delay is not None and at is not None:
        raise arguments.bad("delay and at both say when the job is due: give one of them")
    message_id = steering.put(
        topic,
        arguments.body(args),
        headers=arguments.headers(args),
        message_id=arguments.text(args, "message_id"),
        content_type=arguments.text(args, "content_type"),
        delay=delay,
        at=at,
        timeout=PUT_TIMEOUT if timeout is None else timeout,
    )
    return {"topic": topic, "message_id": message_id}


_TOPICS = frozenset({"topics", "all"})
_JOB = frozenset({"topic", "body", "body_base64", "headers", "message_id", "content_type", "delay", "at", "timeout"})

COMMANDS: Mapping[str, Command] = {
    "ping": Command(_ping),
    "version": Command(_version),
    "status": Command(_status),
    "pause": Command(_pause, _TOPICS, changes=True),
    "resume": Command(_resume, _TOPICS, changes=True),
    "drain": Command(_drain, _TOPICS | {"timeout"}, changes=True),
    "reload": Command(_reload, changes=True),
    "shutdown": Command(_shutdown, frozenset({"now", "grace"}), changes=True),
    "put": Command(_put, _JOB, changes=True),
}

#: Which code a failure of the daemon gets; the first kind that fits counts.
_CODES: Sequence[tuple[type[HopError], str]] = (
    (errors.PutTimeout, protocol.TIMEOUT),
    (errors.BrokerTimeout, protocol.TIMEOUT),
    (errors.BrokerBlocked, protocol.BROKER_UNAVAILABLE),
    (errors.PutUncertain, protocol.BROKER_UNAVAILABLE),
    (errors.BrokerRefused, protocol.FAILED),
    (errors.BrokerError, protocol.BROKER_UNAVAILABLE),
    (errors.WorkQueueClosed, protocol.SHUTTING_DOWN),
    (errors.ConfigError, protocol.BAD_CONFIG),
)


def _code(error: HopError) -> str:
    return next((code for kind, code in _CODES if isinstance(error, kind)), protocol.FAILED)
