"""A message that goes out: what a publisher is given, and the frames it becomes."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from hopd.amqp import frames
from hopd.errors import PutRefused, PutTooLarge

#: For how many exchanges and routing keys the method frame is kept encoded: more than a producer has topics. Half a kilobyte each.
PLACES = 1024


class Outgoing(NamedTuple):
    """A message to publish; `properties` are encoded already, `message_id` is the one in them."""

    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    message_id: str | None = None

    def __str__(self) -> str:
        name = f"the job {self.message_id}" if self.message_id else "a job"
        return f"{name} for {self.routing_key!r} on exchange {self.exchange!r}"

    def frames(self, channel: int, frame_max: int) -> bytes:
        """The message as frames; `PutRefused` when none can hold it: the broker would close the connection, and with it everybody's."""
        room = frame_max - frames.FRAME_OVERHEAD - frames.HEADER_FIXED
        if len(self.properties) > room:
            raise PutTooLarge(f"{self} has {len(self.properties)} bytes of headers and other properties, {room} is the most")
        return frames.publish(_method(channel, self.exchange, self.routing_key), channel, self.properties, self.body, frame_max)


@lru_cache(maxsize=PLACES)
def _method(channel: int, exchange: str, routing_key: str) -> bytes:
    return frames.publish_method(channel, _name(exchange), _name(routing_key))


def _name(text: str) -> bytes:
    try:
        name = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PutRefused(f"an exchange's or queue's name is at most 255 bytes of UTF-8: {error}") from error
    if len(name) > 255:
        raise PutRefused(f"an exchange's or queue's name is at most 255 bytes of UTF-8, not {len(name)}")
    return name
