"""Ask things of a running private RabbitMQ node, also of one that others use at the same time: nothing here disturbs them.

An Erlang node answers Erlang: `erl_call`, a small C program that comes with Erlang, evaluates an expression inside the
node in about 10 ms, where `rabbitmqctl` boots a virtual machine for half a second. Where it is missing `rabbitmqctl` is used.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hopd.errors import HopError

#: How long one question to a node may take. A loaded two-core machine answers in well under a second.
ASK_TIMEOUT = 30.0

_CALLS = itertools.count(1)

# Queue names travel as base64: Erlang prints other encodings in ways that depend on the emulator's flags.
_QUEUE_INFO = "[name, messages_ready, messages_unacknowledged, consumers]"
_LIST_QUEUES = f"""
    [{{base64:encode(element(4, proplists:get_value(name, I))), proplists:get_value(messages_ready, I),
       proplists:get_value(messages_unacknowledged, I), proplists:get_value(consumers, I)}}
     || I <- [catch rabbit_amqqueue:info(Q, {_QUEUE_INFO}) || Q <- rabbit_amqqueue:list(<<"/">>)], is_list(I)]
"""
_QUEUE = re.compile(r'\{<<"([A-Za-z0-9+/=]*)">>,\s*(\d+),\s*(\d+),\s*(\d+)\}')


class NodeFailed(HopError):
    """The private RabbitMQ node did not start, or did not do what was asked of it."""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What one queue holds: messages waiting, messages delivered and not yet settled, and its consumers."""

    ready: int
    unsettled: int
    consumers: int


class NodeControl:
    """A running node, reached from any process of the same user.

    `home` is the directory with its cookie, `server` the script that started it, `port` its AMQP port on 127.0.0.1 and
    `dist_port` that of Erlang's distribution on `host`.
    """

    host = "127.0.0.1"
    name = "hop@localhost"
    long_names = False

    def __init__(self, home: Path, server: str, port: int, dist_port: int, pid: int) -> None:
        self.home = home
        self.server = server
        self.port = port
        self.dist_port = dist_port
        self.pid = pid

    @property
    def url(self) -> str:
        """The AMQP URL of the node's default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    # --- asking ---------------------------------------------------------------------------------

    def eval(self, expression: str) -> str:
        """The printed value of one Erlang expression evaluated inside the node; NodeFailed when it raised."""
        erl_call = self._erl_call()
        if erl_call is None:
            return self.ctl("eval", f"{expression}.").strip()
        # By default it takes its own name from the second of the day, and a node turns away the second caller of one name.
        name = f"ask-{os.getpid()}-{next(_CALLS)}"
        where = ["-address", f"{self.host}:{self.dist_port}", "-timeout", f"{ASK_TIMEOUT:.0f}"]
        answer = self._run(
            [erl_call, "-h", name, *where, "-fetch_stdout", "-e"],
            given=f'io:format("~0p", [begin {expression} end]).\n',
        )
        value, ok, failure = answer.rpartition("{ok, ok}")
        if not ok:
            raise NodeFailed(f"the node could not evaluate {expression.strip()!r}: {failure.strip()}")
        return value

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl ARGUMENTS` prints; NodeFailed with its complaint when it fails."""
        return self._run([str(Path(self.server).with_name("rabbitmqctl")), "--quiet", *arguments])

    def doubt(self) -> str | None:
        """Why the broker does not serve, or None when it does. Its port opens a little before it has finished starting."""
        try:
            answer = self.eval("rabbit:is_running()")
        except NodeFailed as error:
            return str(error)
        return None if answer == "true" else f"rabbit:is_running() is {answer}"

    def list_queues(self) -> dict[str, QueueDepth]:
        """Every queue of the default virtual host. Quorum queues report up to 5 s late, classic ones at once."""
        found = _QUEUE.findall(self.eval(_LIST_QUEUES))
        return {
            base64.b64decode(name).decode(): QueueDepth(int(ready), int(unsettled), int(consumers))
            for name, ready, unsettled, consumers in found
        }

    def connections(self) -> int:
        """How many AMQP connections the node holds."""
        return int(self.eval("length(rabbit_networking:connections())"))

    # --- how it is reached ----------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The environment in which the node and its tools run. It inherits nothing but PATH: a variable meant for the
        system's own broker must not reach this one, nor the other way round."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_USE_LONGNAME": str(self.long_names).lower(),
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "env.conf"),
            # No epmd (a daemon that every Erlang node of a machine shares and that outlives them all): the tools are
            # told the node's port. They must not listen themselves, or they would want that port too.
            "RABBITMQ_CTL_ERL_ARGS": f"-start_epmd false -erl_epmd_port {self.dist_port} -dist_listen false",
        }

    def _erl_call(self) -> str | None:
        try:
            beside = Path(os.readlink(f"/proc/{self.pid}/exe")).with_name("erl_call")
        except OSError as error:
            raise NodeFailed("the private RabbitMQ node is not running") from error
        return str(beside) if beside.exists() else None

    def _run(self, command: list[str], *, given: str = "") -> str:
        return run(command, self.environment(), given=given)


def run(command: list[str], environment: Mapping[str, str], *, given: str = "") -> str:
    """The standard output of `command`; NodeFailed with its standard error when it fails or takes too long."""
    what = Path(command[0]).name
    try:
        done = subprocess.run(
            command, input=given, env=dict(environment), capture_output=True, text=True, timeout=ASK_TIMEOUT + 5.0, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeFailed(f"{what}: {error}") from error
    if done.returncode != 0:
        raise NodeFailed(f"{what} failed with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
