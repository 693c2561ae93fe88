"""How a connection begins, as pure code: who the client is, and the limits both sides keep (AMQP 0-9-1 §2.2.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hopd.amqp.table import TableError, decode_table
from hopd.broker import methods as m
from hopd.broker.inbound import FRAME_MAX
from hopd.broker.refusal import Code, Refused
from hopd.version import __version__

#: The protocol header that a client begins with, and that it is answered when it begins with anything else.
PROTOCOL = b"AMQP\x00\x00\x09\x01"

#: RabbitMQ's limits.
CHANNEL_MAX = 2047
HEARTBEAT = 60

#: AMQP 0-9-1 §4.2.3: every peer takes frames of this size.
_FRAME_MIN = 4096

#: The one there is.
VIRTUAL_HOST = "/"

_SERVER_PROPERTIES = {
    "product": "hopd",
    # Clients decide by it what the broker can do, so it is the version of RabbitMQ whose behaviour this is.
    "version": "3.10.0",
    "information": f"the embedded broker of hopd {__version__}, for one machine",
    "platform": "Python",
    "capabilities": {
        "publisher_confirms": True,
        "exchange_exchange_bindings": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "consumer_priorities": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
    },
}


class LoginRefused(Exception):
    """The user or the password is wrong. `told`: the client wants to hear of it; others just lose the connection."""

    def __init__(self, user: str, close: m.Close | None) -> None:
        self.user = user
        self.close = close
        super().__init__(f"the login of {user!r} was refused")


class Handshake:
    """Three steps, in their order: start-ok, tune-ok, open. Each is answered; after the last `done` is true."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self.done = False
        self.user = ""
        self.name = ""
        self.channel_max = CHANNEL_MAX
        self.frame_max = FRAME_MAX
        #: Seconds; 0: none.
        self.heartbeat = 0
        self.capabilities: frozenset[str] = frozenset()
        self._users = users
        self._expected: type[m.Method] = m.StartOk
        self._steps: Mapping[type[m.Method], Callable[[Any], m.Method | None]] = {
            m.StartOk: self._start_ok,
            m.TuneOk: self._tune_ok,
            m.Open: self._open,
        }

    def start(self) -> m.Start:
        """The broker's first method, once the client has sent the protocol header."""
        return m.Start(0, 9, _SERVER_PROPERTIES, b"AMQPLAIN PLAIN", b"en_US")

    def take(self, method: m.Method) -> m.Method | None:
        """The answer to the next method, if it has one; `Refused` (a connection error) or `LoginRefused`."""
        if type(method) is not self._expected:
            raise Refused(Code.CHANNEL_ERROR, "unexpected method in connection state starting")
        return self._steps[type(method)](method)

    def _start_ok(self, method: m.StartOk) -> m.Method:
        properties = method.client_properties
        capabilities = properties.get("capabilities")
        if isinstance(capabilities, Mapping):
            self.capabilities = frozenset(name for name, has in capabilities.items() if has is True and isinstance(name, str))
        self.name = str(properties.get("connection_name", ""))
        self._login(method)
        self._expected = m.TuneOk
        return m.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT)

    def _login(self, method: m.StartOk) -> None:
        mechanism = _MECHANISMS.get(method.mechanism)
        if mechanism is None:
            raise Refused(Code.COMMAND_INVALID, f"unknown authentication mechanism '{method.mechanism}'")
        self.user, password = mechanism(method.response)
        if self._users.get(self.user) == password:
            return
        text = f"ACCESS_REFUSED - Login was refused using authentication mechanism {method.mechanism}. For details see the broker logfile."
        told = "authentication_failure_close" in self.capabilities
        raise LoginRefused(self.user, m.Close(Code.ACCESS_REFUSED, text, 0, 0) if told else None)

    def _tune_ok(self, method: m.TuneOk) -> None:
        if not 0 < method.channel_max <= CHANNEL_MAX:
            raise Refused(Code.NOT_ALLOWED, f"negotiated channel_max = {method.channel_max} is not between 1 and {CHANNEL_MAX}")
        if not _FRAME_MIN <= method.frame_max <= FRAME_MAX:
            raise Refused(Code.NOT_ALLOWED, f"negotiated frame_max = {method.frame_max} is not between {_FRAME_MIN} and {FRAME_MAX}")
        self.channel_max, self.frame_max, self.heartbeat = method
        self._expected = m.Open

    def _open(self, method: m.Open) -> m.Method:
        if method.virtual_host != VIRTUAL_HOST:
            raise Refused(Code.NOT_ALLOWED, f"vhost {method.virtual_host} not found")
        self.done = True
        return m.OpenOk()


def _plain(response: bytes) -> tuple[str, str]:
    """RFC 4616, as RabbitMQ reads it: nothing, user, password, each behind a zero octet."""
    parts = response.split(b"\0")
    if len(parts) != 3 or parts[0]:
        raise Refused(Code.SYNTAX_ERROR, "PLAIN mechanism: the response is not a user and a password")
    return parts[1].decode("utf-8", "replace"), parts[2].decode("utf-8", "replace")


def _amqplain(response: bytes) -> tuple[str, str]:
    """A field table without its length: LOGIN and PASSWORD."""
    try:
        table, _ = decode_table(len(response).to_bytes(4, "big") + response, 0)
        return str(table["LOGIN"]), str(table["PASSWORD"])
    except (TableError, KeyError, IndexError) as error:
        raise Refused(Code.SYNTAX_ERROR, "AMQPLAIN mechanism: the response has no LOGIN or no PASSWORD") from error


_MECHANISMS: Mapping[str, Callable[[bytes], tuple[str, str]]] = {"PLAIN": _plain, "AMQPLAIN": _amqplain}
