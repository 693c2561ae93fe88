"""pika's connection state machine, fitted to our reader and writer: handshake, channels and their methods are its business."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pika
import pika.connection
import pika.exceptions

from hopd.amqp.endpoint import Endpoint, Options
from hopd.errors import BrokerError, BrokerRefused, ConnectionLost
from hopd.version import __version__


def refusal(code: int, text: str) -> BrokerError:
    """The broker's own close, by its code: a reason to wait and try again, or a refusal that somebody has to mend."""
    if code in (320, 200):  # connection-forced: an operator or a shutdown
        return ConnectionLost(f"the broker closed the connection: {text}")
    return BrokerRefused(f"the broker refused: {text} ({code})", code=code)


class Protocol(pika.connection.Connection):  # type: ignore[misc]  # pika ships no types
    """pika's connection state machine, with our outbox for its stream."""

    def __init__(self, endpoint: Endpoint, options: Options, emit: Callable[[bytes], None], blocked: Callable[[str | None], None]) -> None:
        self.opened = False
        self.finished = False
        self.refusal: tuple[int, str] | None = None
        self.failure: BaseException | None = None
        self._emit = emit
        parameters = pika.ConnectionParameters(
            host=endpoint.host,
            port=endpoint.port,
            virtual_host=endpoint.vhost,
            credentials=pika.PlainCredentials(endpoint.user, endpoint.password),
            heartbeat=max(1, round(options.heartbeat)),
            client_properties={
                "product": "hopd",
                "version": __version__,
                "information": "jobs from RabbitMQ",
                "connection_name": options.name,
            },
        )
        super().__init__(parameters, on_open_callback=self._on_open, on_open_error_callback=_ignore, on_close_callback=_ignore)
        self.add_on_connection_blocked_callback(lambda _c, frame: blocked(frame.method.reason or "the broker gives no reason"))
        self.add_on_connection_unblocked_callback(lambda _c, _frame: blocked(None))

    def _on_open(self, _connection: pika.connection.Connection) -> None:
        self.opened = True

    def leave(self) -> bool:
        """Close the channels, then the connection; the broker's last word makes `finished` true. False when there is nobody to tell."""
        if not self.is_open:
            return bool(self.is_closing)
        self.close()
        return True

    def lose(self) -> None:
        """The stream is gone: let pika close its channels."""
        if not self.is_closed:
            self._on_stream_terminated(pika.exceptions.StreamLostError("the stream ended"))

    # --- what pika asks of an adapter ---------------------------------------------------------

    def _adapter_connect_stream(self) -> None:
        """Nothing: the stream is connected before pika hears of it."""

    def _adapter_disconnect_stream(self) -> None:
        error = self._error
        if isinstance(error, pika.exceptions.ConnectionClosedByBroker):
            self.refusal = (error.reply_code, error.reply_text)
        elif not isinstance(error, pika.exceptions.ConnectionClosedByClient):
            self.failure = error
        self.finished = True

    def _adapter_emit_data(self, data: bytes) -> None:
        self._emit(data)

    def _create_heartbeat_checker(self) -> None:
        return None

    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> NoReturn:
        raise AssertionError(f"no timers here (heartbeats are the reader's and the writer's), yet {callback} is to run in {delay} s")

    def _adapter_remove_timeout(self, timeout_id: object) -> NoReturn:
        raise AssertionError(f"no timers here, yet {timeout_id} is to be removed")

    def _adapter_add_callback_threadsafe(self, callback: Callable[..., Any]) -> NoReturn:
        raise AssertionError(f"{callback} is to be called under the connection's lock, from any thread")


def _ignore(_connection: object, _error: object) -> None:
    """The reader explains the end; pika's own callbacks need no second listener."""
