"""`hopd`: run the daemon, check a config, watch a demonstration."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from hopd.cli import broker as broker_command
from hopd.cli import drain as drain_command
from hopd.cli import exitcodes
from hopd.errors import CannotListen, ConfigError, HandlerError, SocketUnusable, StoreError
from hopd.version import __version__

if TYPE_CHECKING:
    from hopd.config.load import Loaded
    from hopd.engine.embedded import Embedded
    from hopd.logs import LogWriter

#: Where `hopd run` looks for its config when it is not told.
CONFIG_PLACES = ("hopd.yaml", "/etc/hopd/hopd.yaml")

#: How long the log may take to be written at the end. Seconds.
LOG_TIMEOUT = 2.0

_EPILOG = """\b
Exit codes:
  0   stopped as it was asked to
  1   crashed, or forced to stop by a second signal
  2   wrong usage
  70  a job kept everything else from running for watchdog.exit_after
  73  the control socket cannot be created, or the embedded broker's address is taken
  78  the config, or the file of the embedded broker, cannot be used
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="hopd", message="%(prog)s %(version)s")
def main() -> None:
    """hopd runs jobs from RabbitMQ, thousands at a time. `hopctl` steers it while it runs."""


@main.command(epilog=_EPILOG)
@click.option("-c", "--config", "path", metavar="FILE", help=f"The config (default: the first of {', '.join(CONFIG_PLACES)}).")
@click.option("--instance", metavar="NAME", help="One of several on this host: gives it a socket and a connection name of its own.")
def run(path: str | None, instance: str | None) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT.

    The first signal stops taking jobs and lets running ones finish, up to shutdown.grace; a second one stops now. SIGHUP takes up a
    changed config, as `hopctl reload` does.
    """
    # Before anything imports ssl, socket or threading for good: the library's threads have to become greenlets.
    from gevent import monkey

    monkey.patch_all()
    _stand_on_all_streams()
    _leave_when_asked()
    sys.exit(_run(path or _find_config(), instance))


@main.command()
@click.argument("path", metavar="FILE")
@click.option("--timeout", default=30.0, show_default=True, metavar="SECONDS", help="How long each handler's import may take.")
def check(path: str, timeout: float) -> None:
    """Check a config and import its handlers, without touching the broker. Prints every problem; exits with 78 when there is one."""
    from hopd.engine.handler_check import check as check_handlers

    try:
        loaded = _load(path)
        problems = check_handlers(loaded, timeout)
    except (ConfigError, HandlerError) as error:
        sys.exit(_refuse(error))
    if problems:
        sys.exit(_refuse(ConfigError(tuple(problems))))
    topics = len(loaded.settings.topics)
    click.echo(f"{path}: good; {topics} topic{'' if topics == 1 else 's'}, every handler imports")


@main.command()
@click.option("--jobs", default=10_000, show_default=True, metavar="N", help="How many jobs to put.")
def demo(jobs: int) -> None:
    """Watch hopd at work: a daemon with example topics, a producer, and what becomes of the jobs.

    Uses the broker in HOP_BROKER_URL, else hopd's own, which is gone afterwards.
    """
    from hopd.demo.show import run_demo

    sys.exit(run_demo(jobs))


@main.group(epilog=broker_command.EPILOG, invoke_without_command=True)
@click.option("--listen", metavar="HOST:PORT", help=f"A loopback address; port 0 is any free one. [default: {broker_command.ADDRESS}]")
@click.option("--unix", metavar="PATH", help="A Unix socket. Alone, or besides --listen.")
@click.option("--store", metavar="PATH", help="Keep durable queues and persistent jobs in this file; it is made when it is not there.")
@click.option("--max-memory", default=broker_command.MAX_MEMORY, show_default=True, metavar="SIZE", help="Block publishers beyond it.")
@click.pass_context
def broker(ctx: click.Context, listen: str | None, unix: str | None, store: str | None, max_memory: str) -> None:
    """Run a small broker for this machine, until SIGTERM or SIGINT: for development, tests, and jobs that one machine can hold."""
    if ctx.invoked_subcommand is None:
        _stand_on_all_streams()
        sys.exit(broker_command.serve(listen, unix, store, max_memory))


@broker.command("drain-to", epilog=drain_command.EPILOG)
@click.argument("url", metavar="URL")
@click.option("--store", metavar="PATH", help="The store to empty. [required, here or before drain-to]")
@click.pass_context
def drain_to(ctx: click.Context, url: str, store: str | None) -> None:
    """Move everything in a store to the broker at URL, like amqp://user:password@rabbit.example.com/."""
    store = store or (ctx.parent.params["store"] if ctx.parent else None)
    if store is None:
        raise click.UsageError("which store? name it with --store PATH")
    drain_command.keep_quiet()
    sys.exit(drain_command.drain(store, url))


def _stand_on_all_streams() -> None:
    """Whoever started us may have closed standard streams: then nothing is lost but what would be written there."""
    from hopd.engine import streams

    streams.occupy()
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open for life
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _leave_when_asked() -> None:
    """Hear signals also before the daemon does: importing handlers may take long. Nothing has begun yet that had to be ended in order.

    Not by SystemExit, which an import that catches everything would swallow.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: os._exit(exitcodes.STOPPED))


def _find_config() -> str:
    found = next((place for place in CONFIG_PLACES if os.path.exists(place)), None)
    if found is None:
        raise click.UsageError(f"no config: there is none of {', '.join(CONFIG_PLACES)}; name one with -c FILE")
    return found


def _load(path: str) -> Loaded:
    from hopd.config.load import load

    return load(path, os.environ)


def _run(path: str, instance: str | None) -> int:
    """Everything that can be wrong is found before the first job is taken."""
    from hopd.control import paths
    from hopd.engine.embedded import embedded_broker

    try:
        loaded = _load(path)
        socket = _socket(loaded, instance)
        paths.make_default_directory(socket, os.environ)
        embedded = embedded_broker(loaded, instance, os.environ)
        with ExitStack() as kept:
            writer = _start_logs(loaded)
            kept.callback(writer.stop, LOG_TIMEOUT)
            if embedded is not None:
                embedded.start()
                kept.callback(embedded.stop)
            code, busy = _serve(loaded, instance, socket, embedded, partial(_leave_at_once, writer, exitcodes.WATCHDOG))
    except (ConfigError, StoreError) as error:
        return _refuse(error)
    except (SocketUnusable, CannotListen) as error:
        return _no_socket(error)
    if busy:
        os._exit(code)
    return code


def _serve(loaded: Loaded, instance: str | None, socket: str, embedded: Embedded | None, leave: Callable[[], object]) -> tuple[int, bool]:
    """The daemon's life. Its exit code, and whether threads still run a handler, which nobody can end in order."""
    from hopd.control import commands
    from hopd.control.server import ControlServer
    from hopd.engine.daemon import Daemon

    daemon = Daemon(loaded, instance, _state(loaded, socket), leave, embedded)
    control = loaded.settings.control
    code = daemon.run(ControlServer(socket, control.mode, control.group, partial(commands.dispatch, daemon)))
    return code, daemon.busy_threads > 0


def _leave_at_once(writer: LogWriter, code: int) -> NoReturn:
    """End the process, once the log is written, although something in it runs that cannot be ended in order."""
    writer.stop(LOG_TIMEOUT)
    os._exit(code)


def _state(loaded: Loaded, socket: str) -> str:
    """How the state files' paths begin: they are named after the control socket, of which each instance has its own."""
    directory = loaded.settings.state_directory or os.path.dirname(socket)
    return os.path.join(directory, os.path.splitext(os.path.basename(socket))[0])


def _socket(loaded: Loaded, instance: str | None) -> str:
    from hopd.control import paths

    try:
        return paths.socket_for(loaded.settings.control.socket or paths.default_socket(os.environ), instance)
    except ValueError as error:
        raise click.UsageError(f"--instance: {error}") from error


def _start_logs(loaded: Loaded) -> LogWriter:
    from hopd import logs

    settings = loaded.settings.logging
    try:
        return logs.configure(settings.level, settings.format, settings.file, _start_real_thread)
    except OSError as error:
        raise ConfigError((loaded.problem(f"cannot be written: {error.strerror}", "logging", "file"),)) from error


def _start_real_thread(run: Callable[[], None]) -> None:
    from gevent import monkey

    monkey.get_original("_thread", "start_new_thread")(run, ())


def _refuse(error: ConfigError | HandlerError | StoreError) -> int:
    click.echo(str(error), err=True)
    return exitcodes.BAD_CONFIG


def _no_socket(error: SocketUnusable | CannotListen) -> int:
    click.echo(f"hopd: {error}", err=True)
    return exitcodes.NO_SOCKET


if __name__ == "__main__":
    main()
