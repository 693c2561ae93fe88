"""A byte stream to the broker, with deadlines: plain TCP or TLS, for one reader and one writer at a time.

The socket is the standard library's, so that plain threads and gevent's patched ones run the same code.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from time import monotonic

from hopd.amqp.endpoint import Endpoint, Tls
from hopd.errors import BrokerRefused, BrokerTimeout, BrokerUnreachable, ConnectionLost

#: One receive: large enough that a burst of small deliveries costs few system calls (pika's 4 KiB cost a third of the speed).
RECEIVE_BYTES = 65_536

#: How long a TLS send waits for room before the writer is asked again. Seconds.
SEND_TICK = 1.0


class Transport:
    """An open stream. `receive` and `send` may run at the same time, in a thread each."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._timeout = sock.gettimeout()

    def receive(self, timeout: float) -> bytes:
        """The next bytes; empty at the end of the stream. `BrokerTimeout` after `timeout` seconds of silence."""
        try:
            if timeout != self._timeout:  # a system call each time
                self._socket.settimeout(timeout)
                self._timeout = timeout
            return self._socket.recv(RECEIVE_BYTES)
        except TimeoutError as error:
            raise BrokerTimeout(f"the broker was silent for {timeout:.0f} s") from error
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error

    def send(self, data: memoryview) -> int:
        """How many bytes the stream took; 0 when it takes none at the moment."""
        try:
            return self._socket.send(data)
        except TimeoutError:
            return 0
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error

    def send_now(self, data: bytes) -> int:
        """How many bytes the stream took without waiting; maybe none."""
        try:
            # The socket has a timeout, so its descriptor does not block; the socket itself would wait.
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error

    def shutdown(self) -> None:
        """End the stream from any thread: a receive or send that waits returns at once."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The peer was faster; the reader finds out by itself.
            return

    def leave_to_parent(self) -> None:
        """In a forked child: let our descriptor be of another stream, one that has ended, and the parent's stream be the parent's."""
        if self._socket.fileno() < 0:
            return
        ended, other = socket.socketpair()
        with ended:
            other.close()
            os.dup2(ended.fileno(), self._socket.fileno(), inheritable=False)

    def close(self) -> None:
        """Give the file descriptor back. Only when nobody waits in receive or send any more."""
        self._socket.close()


class TlsTransport(Transport):
    """The same over TLS. OpenSSL's state must not be used by two threads at once, so the waiting is done outside its lock."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self._tls = sock
        self._lock = threading.Lock()

    def receive(self, timeout: float) -> bytes:
        """As for plain TCP."""
        deadline = monotonic() + timeout
        while True:
            try:
                with self._lock:
                    return self._tls.recv(RECEIVE_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                what = select.POLLIN if isinstance(want, ssl.SSLWantReadError) else select.POLLOUT
                if not self._wait(what, deadline - monotonic()):
                    raise BrokerTimeout(f"the broker was silent for {timeout:.0f} s") from None
            except ssl.SSLEOFError:
                return b""
            except OSError as error:
                raise ConnectionLost(_reason(error)) from error

    def send_now(self, data: bytes) -> int:
        """As for plain TCP."""
        try:
            with self._lock:
                return self._tls.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error

    def send(self, data: memoryview) -> int:
        """As for plain TCP."""
        try:
            with self._lock:
                return self._tls.send(data)
        except ssl.SSLWantWriteError:
            self._wait(select.POLLOUT, SEND_TICK)
            return 0
        except ssl.SSLWantReadError:
            self._wait(select.POLLIN, SEND_TICK)
            return 0
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error

    def shutdown(self) -> None:
        """As for plain TCP."""
        try:
            # Not the TLS socket's own, which drops its TLS state: a receive under way would then read cipher text as frames.
            socket.socket.shutdown(self._tls, socket.SHUT_RDWR)
        except OSError:
            return

    def _wait(self, what: int, timeout: float) -> bool:
        if timeout <= 0:
            return False
        poll = select.poll()
        try:
            poll.register(self._tls.fileno(), what)
        except (ValueError, OSError) as error:
            raise ConnectionLost("the connection was closed") from error
        return bool(poll.poll(timeout * 1000))


def connect(endpoint: Endpoint, timeout: float) -> Transport:
    """Connect within `timeout` seconds, trying every address the name has.

    `BrokerUnreachable` gives the reason; `BrokerRefused` when it is one that will not pass by itself: files or certificates.
    """
    deadline = monotonic() + timeout
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        sock = _connect_tcp(endpoint, deadline)
    except (OSError, UnicodeError) as error:  # a name that cannot be a host's does not even get to be looked up
        raise BrokerUnreachable(f"{where}: {_reason(error)}") from error
    try:
        # A job is small and somebody waits for it: never collect bytes for a fuller packet.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if endpoint.tls is None:
            sock.settimeout(timeout)
            return Transport(sock)
        context = _context(endpoint.tls)
        sock.settimeout(max(0.001, deadline - monotonic()))
        return TlsTransport(context.wrap_socket(sock, server_hostname=endpoint.tls.server_name or endpoint.host))
    except BrokerRefused:
        sock.close()
        raise
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise BrokerRefused(f"{where}: the broker's certificate is not trusted: {error.verify_message}") from error
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; a server name that cannot be one a ValueError
        sock.close()
        raise BrokerUnreachable(f"{where}: {_reason(error)}") from error


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        return tls.context()
    except (OSError, ValueError) as error:
        files = ", ".join(file for file in (tls.ca_file, tls.cert_file, tls.key_file) if file)
        raise BrokerRefused(f"the TLS files cannot be used ({files}): {_reason(error)}") from error


def _connect_tcp(endpoint: Endpoint, deadline: float) -> socket.socket:
    """To the first address that answers. Each has its share of the time: one that is silent must not use up the others'."""
    failure = OSError("the name has no address")
    addresses = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    for left, (family, kind, protocol, _name, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.001, (deadline - monotonic()) / left))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
