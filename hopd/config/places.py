"""What is wrong with the address of a broker or of a handler, judged by its looks alone."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

#: Greedy on purpose: a password may itself hold a '@', a '/' or a space.
_CREDENTIALS = re.compile(r"://.*@", re.DOTALL)


def mask(text: str) -> str:
    """The text without the user and password of any URL in it."""
    return _CREDENTIALS.sub("://***@", text)


def url_problem(url: str) -> str | None:
    """Why `url` is not a broker's, or None when it may be one. Never quotes any of it: a misread URL shows its password."""
    if not url.isprintable() or " " in url:
        return "a broker's URL has no spaces, line breaks or control characters"
    encode = "percent-encode special characters of the password, like %2F for / and %23 for #"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"the URL's host or port is not valid; {encode}"
    if parts.scheme not in ("amqp", "amqps") or "://" not in url:
        return "a broker's URL starts with amqp:// or amqps://"
    if not parts.hostname:
        return f"the URL names no host: amqp://user:password@host:port/vhost; {encode}"
    if port == 0:
        return "the URL's port is a number from 1 to 65535"
    if "#" in url or "@" in parts.path + parts.query:
        return f"the URL has a special character where none can be; {encode}"
    return None


def listen_problem(address: str) -> str | None:
    """Why the embedded broker cannot listen at ``host:port``, or None when it may be able to. Port 0 is any free one."""
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        return "the port is a number from 0 to 65535"
    if host == "localhost":
        return None
    try:
        loopback = ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return "the host is an address, like 127.0.0.1 or [::1]"
    return None if loopback else "the embedded broker knows no users and no TLS, so it serves one machine; others need RabbitMQ"


def handler_problem(spec: str) -> str | None:
    """Why `spec` is not ``package.module:name`` (or ``package.module:object.method``), as the end of a sentence; None when it is."""
    module, colon, name = spec.partition(":")
    if not colon and all(part.isidentifier() for part in spec.split(".")) and "." in spec:
        return f"; did you mean {module.rpartition('.')[0]}:{module.rpartition('.')[2]}?"
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        return ""
    return None
