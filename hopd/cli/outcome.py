"""How a hopctl command ends: its exit code, what people read, what scripts read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hopd.cli.instances import NOT_RUNNING, Answer, describe_error
from hopd.control import paths, protocol

OK = 0
FAILED = 1
USAGE = 2
NO_DAEMON = 3
TIMED_OUT = 4
NOT_PERMITTED = 77
INTERRUPTED = 130

#: hopctl's own code for a command line it does not understand.
BAD_USAGE = "usage"

_EXIT_CODES: Mapping[str, int] = {
    NOT_RUNNING: NO_DAEMON,
    BAD_USAGE: USAGE,
    protocol.BAD_ARGS: USAGE,
    protocol.TIMEOUT: TIMED_OUT,
    protocol.NOT_PERMITTED: NOT_PERMITTED,
}

#: With several instances the exit code is that of the first of these that happened.
_GRAVEST_FIRST = (NOT_PERMITTED, TIMED_OUT, FAILED, USAGE, NO_DAEMON)

#: What to do about an error, where hopctl can know.
_ADVICE: Mapping[str, str] = {
    protocol.NOT_PERMITTED: "Run hopctl as root or as hopd's own user, or join the group that control.group names in hopd's configuration.",
    protocol.TOO_MANY_CLIENTS: "Something keeps control connections open: `lsof` on the socket shows what.",
    protocol.TOO_LONG: "Put larger jobs with the library: WorkQueue(url).get_topic(name).put(body).",
    protocol.BROKER_UNAVAILABLE: "`hopctl status` shows what hopd knows about its broker.",
    protocol.BAD_CONFIG: "hopd goes on with the config it has.",
    protocol.UNKNOWN_COMMAND: "This hopd is of another version than hopctl: compare `hopctl --version` with `hopctl version`.",
    protocol.UNSUPPORTED_VERSION: "This hopd is of another version than hopctl: compare `hopctl --version` with `hopctl version`.",
}


def exit_code(code: str) -> int:
    """The exit code for an error's stable word."""
    return _EXIT_CODES.get(code, FAILED)


def finish(
    answers: Sequence[Answer], as_json: bool, show: Callable[[Sequence[Answer]], str], result: Mapping[str, Any] | None = None
) -> int:
    """Print what the instances answered and return the exit code.

    Sockets nobody listens on do not count as long as somebody answers. `show` makes the text for people from the
    answers that are results; `result` is the document for scripts where it is not simply the answer.
    """
    running = [answer for answer in answers if answer.code != NOT_RUNNING]
    if not running:
        return not_running([(answer.socket, str(answer.error)) for answer in answers], as_json)
    results, failures = [a for a in running if a.error is None], [a for a in running if a.error is not None]
    code = gravest([exit_code(answer.code or "") for answer in failures])
    if as_json:
        write(_document(answers, failures, result))
        return code
    if results:
        write(show(results))
    for answer in answers:
        if answer.code == NOT_RUNNING:
            complain(f"note: {answer.error}")
    for answer in failures:
        complain(_explained(answer, len(answers) > 1))
    return code


def gravest(codes: Sequence[int]) -> int:
    """The one exit code for several."""
    return next((code for code in _GRAVEST_FIRST if code in codes), OK)


def not_running(tried: Sequence[tuple[str, str]], as_json: bool) -> int:
    """Say that no hopd answers: what was tried (place, why not) and what to do."""
    message = "hopd is not running, or not where hopctl looks"
    barred = [place for place, _ in tried if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK)]
    if barred:
        return fail(protocol.NOT_PERMITTED, f"uid {os.geteuid()} may not look into {barred[0]}", as_json)
    if as_json:
        write({"error": {"code": NOT_RUNNING, "message": message, "tried": [place for place, _ in tried]}})
        return NO_DAEMON
    looked = "\n".join(f"  tried  {why}" for _, why in tried)
    complain(
        f"{message}.\n{looked}\n"
        "  start it with `hopd run -c FILE`, `systemctl start hopd` or `supervisorctl start hopd:*`;\n"
        f"  if it runs elsewhere, name its socket with `hopctl -s SOCKET` or in {paths.VARIABLE}."
    )
    return NO_DAEMON


def fail(code: str, message: str, as_json: bool) -> int:
    """Say why a command failed that had no answer from hopd."""
    if as_json:
        write({"error": {"code": code, "message": message}})
    else:
        complain(_sentence(message) + _advice(code))
    return exit_code(code)


def write(output: str | Mapping[str, Any]) -> None:
    """Print to standard output: text for people as it is, a document for scripts as JSON."""
    text = output if isinstance(output, str) else json.dumps(output, indent=2, ensure_ascii=False) + "\n"
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough (`| head`). Python flushes once more when it leaves: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Print to standard error, with hopctl's name."""
    print(f"hopctl: {text}", file=sys.stderr)


def _document(answers: Sequence[Answer], failures: Sequence[Answer], result: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What --json prints: one instance's result as it is, for several a list; and the first error where there is one."""
    error = {"error": describe_error(failures[0].error)} if failures and failures[0].error else {}
    if len(answers) == 1:
        return error or answers[0].result
    return {**error, **(result if result is not None else {"instances": [_entry(answer) for answer in answers]})}


def _entry(answer: Answer) -> dict[str, Any]:
    if answer.error is not None:
        return {"socket": answer.socket, "error": describe_error(answer.error)}
    return {"socket": answer.socket, "result": answer.result}


def _explained(answer: Answer, several: bool) -> str:
    where = f"{answer.socket}: " if several and answer.socket not in str(answer.error) else ""
    return _sentence(f"{where}{answer.error}") + _advice(answer.code or "")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _advice(code: str) -> str:
    return f"\n  {_ADVICE[code]}" if code in _ADVICE else ""
