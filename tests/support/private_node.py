"""A private RabbitMQ node: its own ports, data, cookie and home, gone without a trace when it is closed.

    with PrivateNode() as node:
        node.wait_ready()
        connect(node.url)

`start()` returns at once and `wait_ready()` waits (about 3 s), so that other work can be done meanwhile. Standard library only;
it works in plain threads and monkey-patched.

Whatever becomes of this process, the node does not outlive it: a guard, a small shell that holds the other end of a pipe,
kills the node and removes its directory when the pipe closes.
"""

from __future__ import annotations

import base64
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Container
from pathlib import Path
from types import TracebackType

from tests.support.node_control import NodeControl, NodeFailed

#: Where distributions put the script that does not change user; the one in /usr/sbin wants to be the user `rabbitmq`.
_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"

#: How often wait_ready looks, seconds: each look runs a small program once the port is open.
_LOOK_INTERVAL = 0.1

#: How many times other ports are tried when another process took ours between choosing and binding.
_PORT_ATTEMPTS = 5

#: The flags that make a start take 2.5 s instead of 6.5 s: without a moment of busy waiting each of the 50,000 file lookups
#: of the code loader costs a context switch. Schedulers are not bound to cores, which other processes need as well.
_EMULATOR_FLAGS = ("+sbwt", "very_short", "+sbwtdio", "very_short", "+stbt", "u")

#: How many lines of each file a failure quotes: Erlang prints the reason first and a long epilogue after it.
_LAST_WORDS = 60

_CONFIG = """\
listeners.tcp.default = 127.0.0.1:{port}
log.console = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 1MB
"""

# $1 is the directory. The last line read is the pid of the running node, or empty when none runs.
_GUARD = """
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then kill -KILL "$pid"; fi
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"""

# The node tells the guard its pid before it becomes RabbitMQ, so that there is no moment in which the guard does not know.
_STARTER = 'echo "$$"; output=$1; shift; exec "$@" >>"$output" 2>&1'


class NoRabbitMQ(NodeFailed):
    """RabbitMQ is not installed. Install it (Debian: apt-get install rabbitmq-server)."""


def find_server() -> str:
    """The path of a `rabbitmq-server` script that runs as the present user; NoRabbitMQ when there is none."""
    found = _SERVER if os.access(_SERVER, os.X_OK) else shutil.which("rabbitmq-server")
    if found is None:
        raise NoRabbitMQ
    return found


def free_port(taken: Container[int] = ()) -> int:
    """A port of 127.0.0.1 on which nobody listens, outside the range from which the kernel serves outgoing connections.

    Inside that range a client that retries against a closed port can end up connected to itself, and then holds the very
    port that a restarted node needs.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10000, max(10100, min(ephemeral, 32768)))
        if port not in taken and _can_bind(port):
            return port


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class PrivateNode(NodeControl):
    """One RabbitMQ node for this process. Its duties: choose ports, lay out a directory, start, watch, stop, clean up.

    `config` is added to rabbitmq.conf, `advanced` is the whole of advanced.config, for example
    ``[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 1000}]}].``
    """

    def __init__(self, *, config: str = "", advanced: str = "[].") -> None:
        server = find_server()
        home = Path(tempfile.mkdtemp(prefix="hopd-node-"))
        port = free_port()
        super().__init__(home, server, port, free_port({port}), 0)
        self._config = config
        self._advanced = advanced
        self._process: subprocess.Popen[bytes] | None = None
        self._was_ready = False
        self._frozen = False
        self._guard = _start_guard(home)

    def __enter__(self) -> PrivateNode:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- life -----------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the node's process lives (frozen or not)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the node and return at once. A node that was stopped or killed starts again on its old ports and data."""
        if self.running:
            return
        self._lay_out()
        names = "-name" if self.long_names else "-sname"
        command = [self.server, "-noinput", names, self.name, "-start_epmd", "false", "-erl_epmd_port", str(self.dist_port)]
        command += ["-kernel", "inet_dist_use_interface", f"{{{self.host.replace('.', ',')}}}", *_EMULATOR_FLAGS]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _STARTER, "hopd-node", str(self.home / "output"), *command],
            env=self._server_environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=self._guard.stdin,
            start_new_session=True,  # an interrupt typed at the terminal is for us; we end the node in our own time
        )
        self.pid = self._process.pid

    def wait_ready(self, timeout: float = 60.0) -> PrivateNode:
        """Wait until the broker serves. NodeFailed with the node's last words when it died or did not make it in time."""
        deadline = time.monotonic() + timeout
        attempts = 1
        while (doubt := self._doubt()) is not None:
            if not self.running:
                if self._was_ready or attempts == _PORT_ATTEMPTS or not self._lost_its_port():
                    raise NodeFailed(f"the private RabbitMQ node died while starting:\n{self.last_words()}")
                attempts += 1
                self._move()
            if time.monotonic() > deadline:
                raise NodeFailed(f"the private RabbitMQ node was not ready after {timeout:.0f} s ({doubt}):\n{self.last_words()}")
            time.sleep(_LOOK_INTERVAL)
        self._was_ready = True
        return self

    def stop(self, timeout: float = 60.0) -> None:
        """Stop the broker gracefully: clients are told 320 (connection forced). NodeFailed when it takes longer."""
        process = self._process
        if process is None:
            return
        self.thaw()
        self._signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise NodeFailed(f"the private RabbitMQ node did not stop in {timeout:.0f} s") from error
        self._forget()

    def kill(self) -> None:
        """End the node with SIGKILL, as a crash would; but not in the moment in which it would forget a durable queue.

        RabbitMQ 3.10 now and then answers queue.declare before the declaration is on disk: it has Mnesia's log synced only when
        a counter has moved, and a dump of that log, as after a start, sets the counter back. The name of a new quorum queue's log
        is on disk half a second after the first message: killed before, the queue comes back empty and without a leader, for good.
        """
        if self.running and not self._frozen and self.doubt() is None:
            self.eval("mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()]")
        self._end()

    def restart(self, *, gracefully: bool = False, timeout: float = 60.0) -> None:
        """Stop or kill the node, start it again with its data, wait until it serves."""
        if gracefully:
            self.stop(timeout)
        else:
            self.kill()
        self.start()
        self.wait_ready(timeout)

    def freeze(self) -> None:
        """Stop the node's clock (SIGSTOP): the kernel still accepts connections and data for it, nothing answers."""
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen node go on."""
        self._signal(signal.SIGCONT)
        self._frozen = False

    def close(self) -> None:
        """End the node now and remove every trace of it. Safe to call twice."""
        self._end()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()
        shutil.rmtree(self.home, ignore_errors=True)  # the guard has done it, unless somebody killed the guard

    def last_words(self) -> str:
        """The end of what the node printed, and of its log."""
        files = [self.home / "output", *sorted((self.home / "log").glob("*.log"))]
        return "\n".join(line for file in files if file.exists() for line in file.read_text(errors="replace").splitlines()[-_LAST_WORDS:])

    # --- making all its clients suffer -----------------------------------------------------------------------

    def set_alarm(self, resource: str = "memory") -> None:
        """Raise a `memory` or `disk` alarm: the node stops reading connections that publish."""
        self.eval(f"rabbit_alarm:set_alarm({{{{resource_limit, {resource}, node()}}, []}})")

    def clear_alarm(self, resource: str = "memory") -> None:
        """End the alarm."""
        self.eval(f"rabbit_alarm:clear_alarm({{resource_limit, {resource}, node()}})")

    def close_all_connections(self, reason: str = "closed for a test") -> None:
        """Force every AMQP connection closed with code 320, as an operator would."""
        text = base64.b64encode(reason.encode()).decode()
        # One that ends by itself meanwhile is closed as well as any.
        close = f'catch rabbit_networking:close_connection(C, base64:decode("{text}"))'
        self.eval(f"[{close} || C <- rabbit_networking:connections()]")

    # --- the inside -----------------------------------------------------------------------------

    def _lay_out(self) -> None:
        files = {
            "rabbitmq.conf": _CONFIG.format(port=self.port) + self._config + "\n",
            "advanced.config": self._advanced,
            "enabled_plugins": "[].",
            "env.conf": "",  # else the machine's /etc/rabbitmq/rabbitmq-env.conf would be read
        }
        for name, text in files.items():
            (self.home / name).write_text(text)
        cookie = self.home / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)

    def _server_environment(self) -> dict[str, str]:
        return self.environment() | {
            "RABBITMQ_ALLOW_INPUT": "1",  # the script then becomes the node instead of waiting for it: its pid is ours
            "ERL_CRASH_DUMP_SECONDS": "0",  # no dump: it takes seconds and nobody reads it
            "RABBITMQ_MNESIA_BASE": str(self.home / "data"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_PID_FILE": str(self.home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.home / "advanced.config"),
        }

    def _doubt(self) -> str | None:
        """Why the node is not ready, or None when it is.

        The port is looked at first: asking a node that has not got that far would cost it the time to start.
        """
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError as error:
            return f"port {self.port}: {error}"
        return self.doubt()

    def _lost_its_port(self) -> bool:
        words = self.last_words()
        return "eaddrinuse" in words or "in use" in words

    def _move(self) -> None:
        (self.home / "output").unlink()
        shutil.rmtree(self.home / "log", ignore_errors=True)
        self.port = free_port()
        self.dist_port = free_port({self.port})
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _end(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        """The pid is free for others now: the guard must not kill whoever gets it next."""
        self._process = None
        self._frozen = False
        self.pid = 0
        if self._guard.stdin is not None and self._guard.poll() is None:
            self._guard.stdin.write(b"\n")


def _start_guard(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "hopd-node-guard", str(home)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # it must see the terminal's hang-up through the pipe only, after us
    )
