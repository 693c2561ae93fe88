"""The control protocol, as pure code: one JSON object a line, each way.

    → {"v": 1, "id": 7, "cmd": "pause", "args": {"topics": ["emails"]}}
    ← {"v": 1, "id": 7, "ok": true, "result": {…}}
    ← {"v": 1, "id": 7, "ok": false, "error": {"code": "no_such_topic", "message": "…"}}

`id` (a string, an integer or null) comes back as it was sent; `id` and `args` may be left out. A line that is no
request is answered with one error and the connection is closed: what follows it cannot be trusted to start a line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hopd.errors import ControlError

VERSION = 1

#: Bytes of a request with its newline; a status request has 40, a `put` carries its body.
MAX_LINE = 64 * 1024

#: Bytes of a reply with its newline; the status of 10,000 topics has about 3 MB.
MAX_REPLY = 16 * 1024 * 1024

#: Characters of a string `id`: it is for matching replies to requests, not for carrying data.
MAX_ID = 200

BAD_REQUEST = "bad_request"
TOO_LONG = "too_long"
UNSUPPORTED_VERSION = "unsupported_version"
UNKNOWN_COMMAND = "unknown_command"
BAD_ARGS = "bad_args"
NO_SUCH_TOPIC = "no_such_topic"
NOT_PERMITTED = "not_permitted"
TOO_MANY_CLIENTS = "too_many_clients"
BROKER_UNAVAILABLE = "broker_unavailable"
TIMEOUT = "timeout"
SHUTTING_DOWN = "shutting_down"
FAILED = "failed"
BAD_CONFIG = "bad_config"

#: After these errors the connection is closed.
CLOSING = frozenset({BAD_REQUEST, TOO_LONG, UNSUPPORTED_VERSION, UNKNOWN_COMMAND, TOO_MANY_CLIENTS})

Id = str | int | None

_KEYS = frozenset({"v", "id", "cmd", "args"})


class RequestRefused(ControlError):
    """A line is not a request. `id` is the request's where it could be read."""

    def __init__(self, code: str, message: str, id: Id = None) -> None:  # noqa: A002 - the protocol's word
        self.id = id
        super().__init__(code, message)


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    cmd: str
    args: dict[str, Any] = field(default_factory=dict)
    id: Id = None


def encode_request(request: Request) -> bytes:
    """The line of a request; ControlError `too_long` when it would not fit, `bad_args` when it holds what is no text."""
    try:
        line = _encode({"v": VERSION, "id": request.id, "cmd": request.cmd, "args": request.args}, "strict")
    except UnicodeError as error:
        raise ControlError(BAD_ARGS, "a text in the request is not valid UTF-8") from error
    if len(line) > MAX_LINE:
        raise ControlError(TOO_LONG, f"the request has {len(line):,} bytes and the control socket takes {MAX_LINE:,}")
    return line


def decode_request(line: bytes) -> Request:
    """The request on `line` (its newline may be gone); `RequestRefused` when it is none."""
    try:
        document = _decode(line)
        # An escaped half of a surrogate pair makes a string that no log and no socket can write.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise RequestRefused(BAD_REQUEST, f"a request is one JSON object on one line: {_reason(error)}") from error
    if not isinstance(document, dict):
        raise RequestRefused(BAD_REQUEST, f"a request is one JSON object on one line, got {_kind(document)}")
    request_id = _check_id(document.get("id"))
    version = document.get("v")
    if type(version) is not int:
        raise RequestRefused(BAD_REQUEST, f'a request names its version: "v": {VERSION}', request_id)
    if version != VERSION:
        raise RequestRefused(UNSUPPORTED_VERSION, f"hopd speaks version {VERSION} of the control protocol", request_id)
    return _check_request(document, request_id)


def encode_result(request_id: Id, result: Any) -> bytes:
    """The reply to a request that succeeded."""
    return _encode({"v": VERSION, "id": request_id, "ok": True, "result": result})


def encode_error(request_id: Id, error: ControlError) -> bytes:
    """The reply to a request that failed."""
    shown: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.details:
        shown["details"] = error.details
    return _encode({"v": VERSION, "id": request_id, "ok": False, "error": shown})


def decode_reply(line: bytes) -> Any:
    """The result on a reply's line; `ControlError` when the reply is an error, ValueError when it is no reply."""
    try:
        document = _decode(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict) or document.get("v") != VERSION:
        raise ValueError(f"not a reply of version {VERSION}")
    if document.get("ok") is True and "result" in document:
        return document["result"]
    told = document.get("error")
    if not isinstance(told, dict) or not isinstance(told.get("code"), str) or not isinstance(told.get("message"), str):
        raise ValueError("neither a result nor an error")
    details = told.get("details")
    raise ControlError(told["code"], told["message"], details if isinstance(details, dict) else None)


class LineSplitter:
    """Cuts a stream of bytes into lines of at most `limit` bytes, newline included."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0

    @property
    def partial(self) -> bool:
        """Whether a line has begun that is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer += data

    def next_line(self) -> bytes | None:
        """The next complete line, or None while there is none; `RequestRefused` when it is too long."""
        end = self._buffer.find(b"\n", self._searched)
        if end + 1 > self._limit or (end < 0 and len(self._buffer) >= self._limit):
            raise RequestRefused(TOO_LONG, f"a request has at most {self._limit:,} bytes")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def rest(self) -> bytes:
        """What is left when the stream has ended: a last line without a newline."""
        line = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return line


def _check_request(document: dict[str, Any], request_id: Id) -> Request:
    unknown = sorted(set(document) - _KEYS)
    if unknown:
        raise RequestRefused(BAD_REQUEST, f"a request has the keys v, id, cmd and args, got {unknown[0][:50]!r}", request_id)
    cmd, args = document.get("cmd"), document.get("args", {})
    if not isinstance(cmd, str):
        raise RequestRefused(BAD_REQUEST, 'a request names its command: "cmd": "status"', request_id)
    if not isinstance(args, dict):
        raise RequestRefused(BAD_REQUEST, f"args is an object, got {_kind(args)}", request_id)
    return Request(cmd, args, request_id)


def _check_id(value: object) -> Id:
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value
    if type(value) is int and abs(value) < 2**63:
        return value
    raise RequestRefused(BAD_REQUEST, f"id is null, an integer of 64 bits or a string of at most {MAX_ID} characters")


def _encode(document: dict[str, Any], errors: str = "replace") -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8", errors) + b"\n"


def _decode(line: bytes) -> Any:
    return json.loads(line.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in an object")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is out of range")
    return number


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return "it is not valid UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at byte {error.pos}"
    if "digits" in str(error):
        return "an integer has too many digits"
    return str(error)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
