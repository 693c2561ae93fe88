"""Where a broker is and how to get in: an AMQP URL, taken apart once."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from hopd.errors import BrokerError

_PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust the broker and prove who we are. Files are PEM; `verify=False` is for tests only."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """A client context; OSError or ssl.SSLError when a file cannot be used."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One broker's address and credentials; printing it never shows the password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str
    tls: Tls | None

    def __str__(self) -> str:
        scheme = "amqps" if self.tls else "amqp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else "/" + self.vhost
        return f"{scheme}://{self.user}:***@{host}:{self.port}{vhost}"


@dataclass(frozen=True, slots=True)
class Options:
    """How to connect. Times in seconds; `name` is what the broker's management page shows."""

    name: str = "hopd"
    heartbeat: float = 60.0
    connect_timeout: float = 10.0


def parse(url: str, tls: Tls | None = None) -> Endpoint:
    """The endpoint an ``amqp://user:password@host:port/vhost`` URL names; `BrokerError` says what is wrong with it.

    As in RabbitMQ's URI spec an empty path and ``/`` both mean the vhost ``/``; another is named without its slash, percent-encoded.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # The parser's own words can quote a password that was not encoded.
        hint = "a host, a port number; special characters of a password as %2F and the like"
        raise BrokerError(f"the broker's URL is not valid; it takes {hint}") from None
    if parts.scheme not in _PORTS:
        raise BrokerError(f"the broker's URL starts with amqp:// or amqps://, not {parts.scheme!r}")
    if not parts.hostname:
        raise BrokerError("the broker's URL names no host")
    secure = parts.scheme == "amqps"
    return Endpoint(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password if parts.password is not None else "guest"),
        vhost=unquote(parts.path[1:]) or "/",
        tls=(tls or Tls()) if secure else None,
    )
