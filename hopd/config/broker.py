"""The config's section about the broker: where it is, how it is trusted, or that hopd is to be it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hopd.config.fields import FilePath, Flag, Listen, Seconds, Size, StorePath, Text, Url
from hopd.config.section import Section, wrong
from hopd.names import EXCHANGE

#: Where every AMQP client looks for a broker that it was told nothing about.
DEFAULT_LISTEN = "127.0.0.1:5672"

_MIB = 1024**2

#: How much the embedded broker keeps of messages that are in no store, before it stops reading those who publish. Bytes.
DEFAULT_MAX_MEMORY = 256 * _MIB


class TlsSettings(Section):
    """How to trust the broker and prove who we are. Files are PEM; without `ca_file` the system's authorities count."""

    ca_file: Annotated[str, FilePath()] | None = None
    cert_file: Annotated[str, FilePath()] | None = None
    key_file: Annotated[str, FilePath()] | None = None
    verify: Annotated[bool, Flag()] = True
    server_name: Annotated[str, Text()] | None = None

    @field_validator("key_file")
    @classmethod
    def _key_of_a_certificate(cls, key_file: str | None, earlier: ValidationInfo) -> str | None:
        if key_file and earlier.data.get("cert_file", "") is None:
            raise ValueError("this is the key of cert_file, which is not set")
        return key_file


class EmbeddedSettings(Section):
    """hopd's own broker, inside the daemon. `store` is its database, `MEMORY` for none; None means the default place."""

    listen: Annotated[str, Listen()] = DEFAULT_LISTEN
    store: Annotated[str | None, StorePath()] = None
    max_memory: Annotated[int, Size(_MIB, 1024**4)] = DEFAULT_MAX_MEMORY


class BrokerSettings(Section):
    """Where the broker is: `url`, `urls` (tried in turn) or `url_file` (which holds the URL); without any of them it is `embedded`."""

    url: Annotated[str, Url()] | None = Field(default=None, repr=False)
    several: tuple[Annotated[str, Url()], ...] = Field(default=(), alias="urls", repr=False)
    url_file: Annotated[str, FilePath()] | None = None
    exchange: Annotated[str, Text()] = EXCHANGE
    connection_name: Annotated[str, Text()] = "hopd"
    heartbeat: Annotated[float, Seconds(1, 3600, whole=True)] = 60.0
    connect_timeout: Annotated[float, Seconds(0.1, 600)] = 10.0
    recovery_max: Annotated[float, Seconds(0.1, 3600)] = 30.0
    tls: TlsSettings | None = None
    embedded: EmbeddedSettings = EmbeddedSettings()

    @property
    def urls(self) -> tuple[str, ...]:
        """The broker's URLs in the order in which they are tried; none when it is embedded. They hold passwords."""
        return self.several or (() if self.url is None else (self.url,))

    @model_validator(mode="after")
    def _one_way_to_name_the_broker(self) -> BrokerSettings:
        superfluous = too_many_urls({type(self).model_fields[name].alias or name for name in self.model_fields_set})
        if superfluous:
            key, message = superfluous
            raise wrong(message, key)
        return self

    @field_validator("several")
    @classmethod
    def _at_least_one(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not urls:
            raise ValueError("expected at least one URL")
        return urls


def too_many_urls(keys: Collection[str]) -> tuple[str, str] | None:
    """The key to remove, and why, when a broker's `keys` name it in more than one way."""
    given = [key for key in ("url", "urls", "url_file", "embedded") if key in keys]
    if len(given) < 2:
        return None
    return given[-1], f"{' and '.join(given)} are given, but only one of url, urls, url_file and embedded can say which broker it is"
