"""hopctl: look at running hopds and steer them.

Nothing here imports gevent, pika, pydantic, yaml or rich: whoever types hopctl during an outage waits for nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from hopd.cli import job, outcome, render
from hopd.cli.instances import Answer, ask_all, ask_first, merge
from hopd.cli.options import Options, duration_or_zero, options_of, screen, shared
from hopd.version import __version__

#: Seconds a drain waits for running jobs, and a reload for the handlers' imports, and seconds more that an answer may take.
_DRAIN_TIMEOUT = 60.0
_RELOAD_TIMEOUT = 60.0
_ANSWER_MARGIN = 5.0

_EPILOG = """\b
Exit codes:
  0   done
  1   hopd could not do it
  2   wrong usage
  3   hopd is not running
  4   timed out
  77  not permitted

\b
Examples:
  hopctl status
  hopctl pause emails images
  hopctl drain --timeout 5m && hopctl shutdown
  hopctl status --json | jq '.topics.emails.waiting'
"""

Ask = Callable[[Sequence[str], str, Mapping[str, Any], float], list[Answer]]


@click.group(
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="hopctl", message="%(prog)s %(version)s")
@shared
def cli() -> None:
    """Look at running hopds and steer them.

    Without -s it talks to every instance of this host: counters are added up, and pause, resume, drain, reload and shutdown go
    to all of them.
    """


@cli.command()
@shared
@click.pass_context
def status(ctx: click.Context) -> int:
    """Show the broker, the topics and their counters."""
    options = options_of(ctx)
    answers = _ask(options, "status", {}, options.timeout)
    if answers is None:
        return outcome.not_running(options.sockets()[1], options.as_json)
    merged = merge(answers) if len(answers) > 1 else None
    return outcome.finish(answers, options.as_json, lambda results: render.render_status(results, screen()), merged)


@cli.command()
@shared
@click.pass_context
def ping(ctx: click.Context) -> int:
    """Ask whether hopd answers."""
    return _run(ctx, "ping", {}, lambda result: f"pong from pid {result['pid']}, hopd {result['version']}")


@cli.command()
@shared
@click.pass_context
def version(ctx: click.Context) -> int:
    """Show the version of the running hopd (hopctl's own: --version)."""
    return _run(ctx, "version", {}, lambda result: f"hopd {result['version']}")


@cli.command()
@click.argument("topics", nargs=-1, metavar="TOPIC...")
@click.option("--all", "every", is_flag=True, help="Every topic.")
@shared
@click.pass_context
def pause(ctx: click.Context, topics: tuple[str, ...], every: bool) -> int:
    """Stop taking jobs of topics. Running jobs finish; waiting ones go back unharmed."""
    return _run(ctx, "pause", _topics(topics, every), lambda result: f"paused {_list(result['paused'])}")


@cli.command()
@click.argument("topics", nargs=-1, metavar="TOPIC...")
@click.option("--all", "every", is_flag=True, help="Every topic.")
@shared
@click.pass_context
def resume(ctx: click.Context, topics: tuple[str, ...], every: bool) -> int:
    """Take jobs of paused topics again."""
    return _run(ctx, "resume", _topics(topics, every), lambda result: f"resumed {_list(result['resumed'])}")


@cli.command()
@click.argument("topics", nargs=-1, metavar="[TOPIC...]")
@click.option("--all", "every", is_flag=True, help="Every topic, which is what no topic means too.")
@shared
@click.pass_context
def drain(ctx: click.Context, topics: tuple[str, ...], every: bool) -> int:
    """Pause topics and wait until none of their jobs runs. They stay paused until resumed."""
    given = options_of(ctx).given_timeout
    timeout = _DRAIN_TIMEOUT if given is None else given
    args = {**_topics(topics, every or not topics), "timeout": timeout}
    return _run(ctx, "drain", args, lambda result: f"drained {_list(result['drained'])}", timeout=timeout + _ANSWER_MARGIN)


@cli.command(short_help="Take up a changed config.")
@shared
@click.pass_context
def reload(ctx: click.Context) -> int:
    """Take up the config as it is now. Only topics that are different notice: their running jobs finish, new ones run as the config says.

    When anything is wrong with it, nothing changes. What a restart is needed for is told.
    """
    given = options_of(ctx).given_timeout
    return _run(ctx, "reload", {}, _reloaded, timeout=_RELOAD_TIMEOUT if given is None else given)


@cli.command(short_help="Ask hopd to finish its running jobs and leave.")
@click.option("--now", is_flag=True, help="Do not wait for running jobs: hand them back.")
@click.option("--grace", type=duration_or_zero, metavar="DURATION", help="How long running jobs may take. [default: hopd's shutdown.grace]")
@shared
@click.pass_context
def shutdown(ctx: click.Context, now: bool, grace: float | None) -> int:
    """Ask hopd to leave: running jobs finish within the grace period, the rest go back. Returns at once."""
    if now and grace is not None:
        raise click.UsageError("--now and --grace exclude each other.", ctx)
    args = {"now": now} if grace is None else {"now": now, "grace": grace}
    return _run(ctx, "shutdown", args, lambda result: f"hopd (pid {result['pid']}) is shutting down")


@cli.command(short_help="Put a job, confirmed by the broker.")
@click.argument("topic")
@click.argument("body", required=False)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of the job; repeatable.")
@click.option("--message-id", metavar="ID", help="[default: hopd makes one up]")
@click.option("--content-type", metavar="TYPE", help="For example application/json.")
@click.option("--delay", type=duration_or_zero, metavar="DURATION", help="Let the job wait in the broker first, like 10m or 2d.")
@click.option("--at", type=job.moment, metavar="ISO-TIME", help="Let it wait until then: 2026-12-31T08:00 here, or with +01:00 or Z.")
@shared
@click.pass_context
def put(ctx: click.Context, /, topic: str, body: str | None, headers: tuple[str, ...], **about: Any) -> int:
    """Put a job with BODY, or with what standard input holds when BODY is - or missing.

    Returns when the broker has confirmed it. Of several instances the first that runs puts it.
    """
    if about["delay"] is not None and about["at"] is not None:
        raise click.UsageError("--delay and --at exclude each other.", ctx)
    options = options_of(ctx)
    args: dict[str, Any] = {"topic": topic, **job.body_args(job.read_body(body)), "headers": job.parse_headers(headers)}
    args |= {key: value for key, value in about.items() if value is not None}
    args["timeout"] = options.timeout

    def say(result: Mapping[str, Any]) -> str:
        return f"put {result['message_id']} to {result['topic']}"

    return _run(ctx, "put", args, say, timeout=options.timeout + _ANSWER_MARGIN, ask=ask_first)


def main() -> int:
    """Run hopctl with the process's arguments; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names in messages come from elsewhere: one that this terminal cannot write must not hide all the rest.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    as_json = "--json" in sys.argv[1:]
    try:
        code = cli.main(prog_name="hopctl", standalone_mode=False)
    except click.UsageError as error:
        if as_json:
            return outcome.fail(outcome.BAD_USAGE, error.format_message(), as_json)
        error.show()
        return outcome.USAGE
    except click.ClickException as error:
        return outcome.fail(job.CANNOT_READ, error.format_message(), as_json)
    except (click.Abort, KeyboardInterrupt):
        return outcome.INTERRUPTED
    except OSError as error:
        _give_up_stdout()
        return outcome.fail(job.CANNOT_READ, f"cannot print the answer: {error.strerror or error}", as_json)
    return int(code or outcome.OK)


def _give_up_stdout() -> None:
    """What could not be written would be tried again at the end of the process, which would then end with 120."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(
    ctx: click.Context,
    cmd: str,
    args: Mapping[str, Any],
    say: Callable[[Mapping[str, Any]], str],
    *,
    timeout: float | None = None,
    ask: Ask = ask_all,
) -> int:
    """Have the instances carry out a command and print one line for each."""
    options = options_of(ctx)
    answers = _ask(options, cmd, args, options.timeout if timeout is None else timeout, ask)
    if answers is None:
        return outcome.not_running(options.sockets()[1], options.as_json)

    def show(results: Sequence[Answer]) -> str:
        several = len(answers) > 1
        return "".join(f"{result.socket}: {say(result.result)}\n" if several else f"{say(result.result)}\n" for result in results)

    return outcome.finish(answers, options.as_json, show)


def _ask(options: Options, cmd: str, args: Mapping[str, Any], timeout: float, ask: Ask = ask_all) -> list[Answer] | None:
    sockets, _ = options.sockets()
    return ask(sockets, cmd, args, timeout) if sockets else None


def _topics(topics: Sequence[str], every: bool) -> dict[str, Any]:
    if every and topics:
        raise click.UsageError("Name topics or say --all, not both.")
    if not every and not topics:
        raise click.UsageError("Name one topic or more, or say --all.")
    return {"all": True} if every else {"topics": list(topics)}


def _reloaded(result: Mapping[str, Any]) -> str:
    """What a reload has changed, and what it could not."""
    topics = [f"{kind} {', '.join(result[kind])}" for kind in ("added", "changed", "removed") if result[kind]]
    restart = f"\n  a restart is needed for {', '.join(result['restart'])}" if result["restart"] else ""
    return f"reloaded: {'; '.join(topics) or 'no topic is different'}{restart}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing: hopd runs no topics"


if __name__ == "__main__":
    sys.exit(main())
