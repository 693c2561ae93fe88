"""AMQP over a bare socket, for what sets the marks: no client can be faster than code that hardly looks at what it gets.

pika's codec encodes the few methods of the beginning; everything in the loops is bytes.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

import pika
import pika.frame
from pika import spec

#: The one channel there is.
CHANNEL = 1

#: Of one receive. Bytes.
RECEIVE_BYTES = 1 << 18

#: For an answer of the broker, also of one that creates queues. Seconds.
TIMEOUT = 60.0


class RawChannel:
    """A socket with one AMQP channel open on it. A context manager."""

    def __init__(self, url: str) -> None:
        where = pika.URLParameters(url)
        self.socket = socket.create_connection((where.host, where.port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        login = "\0".join(("", where.credentials.username, where.credentials.password))
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self._expect(spec.Connection.Start)
        self._send(spec.Connection.StartOk(client_properties={}, response=login, locale="en_US"), channel=0)
        tune = self._expect(spec.Connection.Tune)
        self._send(spec.Connection.TuneOk(tune.channel_max, tune.frame_max, 0), channel=0)
        self._send(spec.Connection.Open(where.virtual_host), channel=0)
        self._expect(spec.Connection.OpenOk)
        self.ask(spec.Channel.Open())

    def __enter__(self) -> RawChannel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def ask(self, method: Any) -> Any:
        """Send a method and wait for its answer; RuntimeError when the broker gives another."""
        self._send(method, CHANNEL)
        group, _, name = method.NAME.partition(".")
        return self._expect(getattr(getattr(spec, group), f"{name}Ok"))

    def bind(self, queue: str, exchange: str) -> None:
        """Have a direct exchange of that name, and the queue bound to it by its own name."""
        self.ask(spec.Exchange.Declare(exchange=exchange, type="direct", durable=True))
        self.ask(spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=queue))

    def declare(self, queue: str, *, durable: bool = True) -> None:
        """Have an empty queue of that name."""
        self.ask(spec.Queue.Declare(queue=queue, durable=durable))
        self.ask(spec.Queue.Purge(queue=queue))

    def delete(self, queue: str) -> None:
        """Have no queue of that name."""
        self.ask(spec.Queue.Delete(queue=queue))

    def rest(self) -> bytes:
        """What came behind the last answer."""
        rest, self._buffer = self._buffer, b""
        return rest

    def _send(self, method: Any, channel: int) -> None:
        self.socket.sendall(pika.frame.Method(channel, method).marshal())

    def _expect(self, answer: type[Any]) -> Any:
        while True:
            used, frame = pika.frame.decode_frame(self._buffer)
            if frame is None:
                self._buffer += self.receive()
                continue
            self._buffer = self._buffer[used:]
            if not isinstance(frame, pika.frame.Heartbeat):
                if not isinstance(frame.method, answer):
                    raise RuntimeError(f"the broker answered {frame.method!r}")
                return frame.method

    def receive(self) -> bytes:
        """The next bytes; RuntimeError at their end."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise RuntimeError("the broker hung up")
        return data
