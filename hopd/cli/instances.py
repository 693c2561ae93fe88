"""The instances hopctl talks to: asking all of them at once, and adding up what they say."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hopd.control import protocol
from hopd.control.client import ControlClient
from hopd.errors import ControlError, ControlTimeout, HopError, NotRunning

#: hopctl's own codes, beside those of the protocol.
NOT_RUNNING = "not_running"

#: States from the one that needs a person most to the one that needs nobody; what is not listed comes first.
_DAEMON_STATES = ("stopped", "draining", "starting", "reloading", "running")
_BROKER_STATES = ("closed", "closing", "connecting", "recovering", "blocked", "open")
_TOPIC_STATES = ("failed", "recovering", "stopped", "draining", "paused", "idle", "consuming")

_SUMMED = (
    *("concurrency", "prefetch", "running", "waiting"),
    *("done", "failed", "retried", "requeued", "buried", "dropped", "lost", "redelivered"),
)

Status = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What one instance said: a result or an error."""

    socket: str
    result: Mapping[str, Any] = field(default_factory=dict)
    error: HopError | None = None

    @property
    def code(self) -> str | None:
        """The error's stable word, None for a result."""
        return None if self.error is None else code_of(self.error)


def code_of(error: HopError) -> str:
    """The stable word for an error of the control client."""
    if isinstance(error, ControlError):
        return error.code
    if isinstance(error, ControlTimeout):
        return protocol.TIMEOUT
    return NOT_RUNNING if isinstance(error, NotRunning) else protocol.FAILED


def ask(socket: str, cmd: str, args: Mapping[str, Any], timeout: float) -> Answer:
    """Ask one instance."""
    try:
        result = ControlClient(socket, timeout).call(cmd, args)
    except HopError as error:
        return Answer(socket, error=error)
    if not isinstance(result, dict):
        return Answer(socket, error=ControlError(protocol.FAILED, f"hopd on {socket} gave {cmd} an answer of the wrong kind"))
    return Answer(socket, result)


def ask_all(sockets: Sequence[str], cmd: str, args: Mapping[str, Any], timeout: float) -> list[Answer]:
    """Ask all instances at the same time, so that one that hangs or drains delays no other; answers in the order of `sockets`."""
    if len(sockets) == 1:
        return [ask(sockets[0], cmd, args, timeout)]
    answers: dict[str, Answer] = {}

    def run(socket: str) -> None:
        answers[socket] = ask(socket, cmd, args, timeout)

    # Daemon threads: Ctrl-C leaves at once.
    threads = [threading.Thread(target=run, args=(socket,), daemon=True) for socket in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[socket] for socket in sockets]


def ask_first(sockets: Sequence[str], cmd: str, args: Mapping[str, Any], timeout: float) -> list[Answer]:
    """Ask one after another until one is running; its answer is the last.

    Only an instance that is not there is passed over: one that timed out may have carried the command out.
    """
    answers: list[Answer] = []
    for socket in sockets:
        answers.append(ask(socket, cmd, args, timeout))
        if answers[-1].code != NOT_RUNNING:
            break
    return answers


def merge(answers: Sequence[Answer]) -> dict[str, Any]:
    """One status for all instances: counters added up, and of states the one that needs a person most.

    The fields of a single status keep their places, so that scripts need not know how many instances there are;
    `instances` has each status with its `socket`, and an `error` where there is none.
    """
    statuses = [answer.result for answer in answers if answer.error is None]
    brokers = [status.get("broker") or {} for status in statuses]
    return {
        "state": _worst([status.get("state") for status in statuses], _DAEMON_STATES),
        "version": ", ".join(sorted({str(status.get("version")) for status in statuses})),
        "instance": None,
        "pid": None,
        "uptime": min((_number(status.get("uptime")) for status in statuses), default=0.0),
        "broker": min(brokers, key=lambda broker: _rank(broker.get("state"), _BROKER_STATES), default={}),
        "topics": _merge_topics(statuses),
        "instances": [_instance(answer) for answer in answers],
    }


def describe_error(error: HopError) -> dict[str, Any]:
    """An error as hopctl prints it with --json."""
    shown: dict[str, Any] = {"code": code_of(error), "message": str(error)}
    if isinstance(error, ControlError) and error.details:
        shown["details"] = error.details
    return shown


def name_of(status: Status, number: int) -> str:
    """How to call an instance: its name, or its place among the others."""
    return str(status.get("instance") or f"#{number}")


def _instance(answer: Answer) -> dict[str, Any]:
    if answer.error is None:
        return {"socket": answer.socket, **answer.result}
    return {"socket": answer.socket, "error": describe_error(answer.error)}


def _merge_topics(statuses: Sequence[Status]) -> dict[str, Any]:
    named: dict[str, list[tuple[str, Status]]] = {}
    for number, status in enumerate(statuses, 1):
        for topic, about in (status.get("topics") or {}).items():
            named.setdefault(topic, []).append((name_of(status, number), about))
    return {topic: _merge_topic(parts) for topic, parts in named.items()}


def _merge_topic(parts: Sequence[tuple[str, Status]]) -> dict[str, Any]:
    merged: dict[str, Any] = {
        "state": _worst([about.get("state") for _, about in parts], _TOPIC_STATES),
        "reason": _merge_reasons(parts),
        "handler": parts[0][1].get("handler"),
    }
    return {**merged, **{key: sum(_number(about.get(key)) for _, about in parts) for key in _SUMMED}}


def _merge_reasons(parts: Sequence[tuple[str, Status]]) -> str | None:
    """Why the topic is as it is, and where, when the instances do not agree."""
    said: dict[str, list[str]] = {}
    states = {about.get("state") for _, about in parts}
    reasons = {about.get("reason") for _, about in parts}
    if len(states) == 1 and len(reasons) == 1:
        return reasons.pop()
    for instance, about in parts:
        words = [str(about["state"])] if len(states) > 1 else []
        if about.get("reason"):
            words.append(str(about["reason"]))
        if words:
            said.setdefault(": ".join(words), []).append(instance)
    return "; ".join(f"{', '.join(instances)} {text}" for text, instances in said.items())


def _worst(states: Sequence[Any], order: Sequence[str]) -> Any:
    return min(states, key=lambda state: _rank(state, order), default=None)


def _rank(state: Any, order: Sequence[str]) -> int:
    return order.index(state) if state in order else -1


def _number(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else 0
