"""The embedded broker in a process of its own, with a door for tests to look inside.

    python -m tests.support.embedded_process PORT STORE DOOR CONSUMER-TIMEOUT

It prints a line when it serves. A client of the door, a Unix socket, sends one line of JSON, ``["queues"]`` or ``["block", "reason"]``,
and reads one line as the answer.
"""

from __future__ import annotations

import json
import signal
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from hopd.broker.model import Limits
from hopd.broker.server import Broker

SERVING = "serving"

ANSWERS: Mapping[str, Callable[..., object]] = {
    "queues": lambda broker: broker.queues(),
    "connections": lambda broker: broker.connections,
    "channels": lambda broker: broker.channels(),
    "close_channel": Broker.close_channel,
    "block": Broker.block,
    "unblock": Broker.unblock,
    "close_connections": Broker.close_connections,
}


def main(port: str, store: str, door: str, consumer_timeout: str) -> None:
    """Serve until SIGTERM, then stop as an operator would have it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before there are threads, which inherit it
    limits = Limits(consumer_timeout=float(consumer_timeout))
    with Broker(listen=f"127.0.0.1:{port}", store=store, limits=limits) as broker:
        Path(door).unlink(missing_ok=True)
        with _Door(door, broker) as server:
            threading.Thread(target=server.serve_forever, name="door", daemon=True).start()
            print(SERVING, flush=True)
            signal.sigwait({signal.SIGTERM})
            server.shutdown()


class _Door(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, broker: Broker) -> None:
        super().__init__(path, _Visit)
        self.broker = broker


class _Visit(socketserver.StreamRequestHandler):
    server: _Door

    def handle(self) -> None:
        what, *arguments = json.loads(self.rfile.readline())
        answer = ANSWERS[what](self.server.broker, *arguments)
        self.wfile.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
