"""The broker inside the daemon, for a config that names no other."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from hopd.config.broker import EmbeddedSettings
from hopd.config.fields import MEMORY
from hopd.config.load import Loaded
from hopd.errors import CannotListen, ConfigError, StoreError

LOGGER = logging.getLogger(__name__)

#: Where the system's programs keep what they must not lose.
SYSTEM_STORE = "/var/lib/hopd/broker.db"


class Embedded:
    """The broker that this process is. It serves from `start` to `stop`; `store` is its file, None when it keeps nothing."""

    def __init__(self, settings: EmbeddedSettings, environ: Mapping[str, str]) -> None:
        # Here, as loading them takes a sixth of the start, and most daemons have a RabbitMQ.
        from hopd.broker.alarms import Bounds
        from hopd.broker.server import Broker

        self._default = settings.store is None
        self.store = None if settings.store == MEMORY else settings.store or default_store(environ)
        self._broker = Broker(listen=settings.listen, store=self.store, bounds=Bounds(memory=settings.max_memory))

    def start(self) -> None:
        """Serve; `CannotListen` or `StoreError` say why that cannot be."""
        if self.store is not None and self._default:
            _make_directory(os.path.dirname(self.store))
        try:
            self._broker.start()
        except CannotListen as error:
            hint = "if another broker runs there, name it in broker.url; else choose another address with broker.embedded.listen"
            raise CannotListen(f"{error}; {hint}") from error
        text = "No broker is named, so hopd is its own: %s, kept in %s. It serves this machine; for more, name a RabbitMQ in broker.url"
        kept = self.store or "memory only"
        extra = {"event": "broker_embedded", "port": self._broker.port, "store": kept}
        LOGGER.info(text, f"amqp://127.0.0.1:{self._broker.port}/", kept, extra=extra)

    def stop(self) -> None:
        """Tell other clients, write what is not on disk yet, leave."""
        self._broker.stop()

    @property
    def url(self) -> str:
        """How this process and others reach it."""
        return self._broker.url


def default_store(environ: Mapping[str, str]) -> str:
    """Where the messages are kept when the config does not say: the system's place for root, else one of our own."""
    if os.geteuid() == 0 or os.access(os.path.dirname(SYSTEM_STORE), os.W_OK | os.X_OK):
        return SYSTEM_STORE
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "hopd", os.path.basename(SYSTEM_STORE))


def embedded_broker(loaded: Loaded, instance: str | None, environ: Mapping[str, str]) -> Embedded | None:
    """The broker to start, not started yet; None when the config names another. `ConfigError`: there are several processes to serve."""
    broker = loaded.settings.broker
    if broker.urls:
        return None
    if instance is not None:
        message = "several instances cannot each be the broker: run `hopd broker` or RabbitMQ beside them and name it in broker.url"
        raise ConfigError((loaded.problem(message, "broker"),))
    return Embedded(broker.embedded, environ)


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        text = f"{path}: the directory for the broker's messages cannot be made: {error.strerror}. Set broker.embedded.store"
        raise StoreError(text) from error
