"""A client of the broker's sessions without a socket: it speaks with pika's codec, bytes in, bytes out, and turns when it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pika.frame
from pika import spec

from hopd.amqp.frames import BODY, FRAME_END, HEADER, HEARTBEAT_TYPE, METHOD
from hopd.broker.desk import Desk, Shelf
from hopd.broker.model import Limits
from hopd.broker.session import Phase, Session
from hopd.broker.state import State

CAPABILITIES: Mapping[str, Any] = {
    "capabilities": {"authentication_failure_close": True, "connection.blocked": True, "consumer_cancel_notify": True}
}


class Heard(NamedTuple):
    """One thing the broker said; `body` is the message's that came with it."""

    channel: int
    method: Any
    body: bytes | None


def method(channel: int, value: Any) -> bytes:
    return bytes(pika.frame.Method(channel, value).marshal())


def message(channel: int, body: bytes = b"x", *, properties: spec.BasicProperties | None = None, **publish: Any) -> bytes:
    """The frames of a basic.publish."""
    head = method(channel, spec.Basic.Publish(**publish))
    header = pika.frame.Header(channel, len(body), properties or spec.BasicProperties()).marshal()
    return head + bytes(header) + (bytes(pika.frame.Body(channel, body).marshal()) if body else b"")


def heard(stream: bytes) -> list[Heard]:
    """What a stream of frames says. Heartbeats are left out, and properties: those of a message may be anything."""
    said: list[Heard] = []
    while stream:
        size = 8 + int.from_bytes(stream[3:7], "big")
        assert len(stream) >= size, f"what is left is no frame: {stream[:40]!r}"
        assert stream[size - 1] == FRAME_END
        frame, stream = stream[:size], stream[size:]
        if frame[0] == METHOD:
            method = pika.frame.decode_frame(frame)[1]
            said.append(Heard(method.channel_number, method.method, None))
        elif frame[0] == HEADER:
            said[-1] = said[-1]._replace(body=b"")
        elif frame[0] == BODY:
            said[-1] = said[-1]._replace(body=(said[-1].body or b"") + frame[7:-1])
        else:
            assert frame[0] == HEARTBEAT_TYPE
    return said


def new_desk(store: Shelf | None = None, *, limits: Limits | None = None) -> Desk:
    desk = Desk(State(paging=store is not None, limits=limits), {"guest": "guest"}, store)
    desk.now = 1_000_000.0
    return desk


class Talk:
    """One client. What it hears is what was said since it last listened."""

    def __init__(self, desk: Desk | None = None) -> None:
        self.desk = desk or new_desk()
        self.session = Session(self.desk, "the test")

    def say(self, *frames: bytes) -> list[Heard]:
        """Send frames in one go; what the broker has said when its turn is over."""
        self.session.receive(b"".join(frames))
        return self.listen()

    def listen(self) -> list[Heard]:
        """End the turn and hear."""
        return heard(self.raw())

    def raw(self) -> bytes:
        self.desk.load()
        self.desk.submit()
        return self.session.take_output()

    def ask(self, channel: int, question: Any) -> Any:
        """Send one method, which has one answer."""
        (answer,) = self.say(method(channel, question))
        assert answer.channel == channel
        return answer.method

    # --- the usual beginning --------------------------------------------------------------------

    def greet(self) -> Talk:
        self.say(b"AMQP\0\0\x09\x01")
        return self

    def log_in(self, properties: Mapping[str, Any] = CAPABILITIES, response: bytes = b"\0guest\0guest", mechanism: str = "PLAIN") -> Talk:
        self.say(method(0, spec.Connection.StartOk(dict(properties), mechanism, response, "en_US")))
        return self

    def tune(self, channel_max: int = 2047, frame_max: int = 131_072, heartbeat: int = 60) -> Talk:
        self.say(method(0, spec.Connection.TuneOk(channel_max, frame_max, heartbeat)))
        return self

    def open(self, *channels: int) -> Talk:
        """Come in, and open these channels."""
        opened = self.ask(0, spec.Connection.Open("/"))
        assert isinstance(opened, spec.Connection.OpenOk)
        for channel in channels:
            assert isinstance(self.ask(channel, spec.Channel.Open()), spec.Channel.OpenOk)
        return self

    @property
    def over(self) -> bool:
        return self.session.phase is Phase.CLOSED


def connected(desk: Desk | None = None, *channels: int, properties: Mapping[str, Any] = CAPABILITIES) -> Talk:
    """A client that is in, with these channels open (1 when none is named)."""
    return Talk(desk).greet().log_in(properties).tune().open(*(channels or (1,)))


def named(said: list[Heard]) -> list[tuple[int, str]]:
    """Channel and name of each method, like (1, "Basic.Deliver")."""
    return [(each.channel, each.method.NAME) for each in said]


def only(said: list[Heard], kind: Callable[..., Any]) -> list[Any]:
    """The methods of that kind."""
    return [each.method for each in said if type(each.method) is kind]
