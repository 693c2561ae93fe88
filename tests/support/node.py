"""A broker in a process of its own, of either kind, as far as tests know it: what RabbitMQ's node and the embedded broker share.

A test that needs Erlang, a cluster or TLS asks for RabbitMQ by name; every other one runs on both.
"""

from __future__ import annotations

from typing import Protocol

from typing_extensions import Self

from tests.support.node_control import QueueDepth


class Node(Protocol):
    """A broker that serves, and that others may use as well."""

    port: int

    @property
    def url(self) -> str:
        """The AMQP URL of its virtual host."""

    def list_queues(self) -> dict[str, QueueDepth]:
        """What each queue holds."""

    def connections(self) -> int:
        """How many clients are connected."""


class OwnNode(Node, Protocol):
    """A broker for one test alone: it may be ended, frozen and alarmed, and it comes back on its port with its data."""

    @property
    def pid(self) -> int:
        """Of its process; 0 when there is none."""

    @property
    def running(self) -> bool:
        """Whether its process lives (frozen or not)."""

    def start(self) -> None:
        """Start it, or start it again, and return at once."""

    def wait_ready(self, timeout: float = ...) -> Self:
        """Wait until it serves."""

    def stop(self, timeout: float = ...) -> None:
        """Stop it gracefully: clients are told 320."""

    def kill(self) -> None:
        """End it as a crash would."""

    def restart(self, *, gracefully: bool = ..., timeout: float = ...) -> None:
        """End it, start it again, wait until it serves."""

    def freeze(self) -> None:
        """Stop its clock: connections stand, nothing answers."""

    def thaw(self) -> None:
        """Let it go on."""

    def close(self) -> None:
        """End it and remove every trace of it."""

    def set_alarm(self, resource: str = ...) -> None:
        """Raise a `memory` or `disk` alarm."""

    def clear_alarm(self, resource: str = ...) -> None:
        """End the alarm."""

    def close_all_connections(self, reason: str = ...) -> None:
        """Close every connection (320), as an operator would."""
