"""What the broker refuses, with the codes of AMQP 0-9-1 (§4.10, constants of its XML) and the texts of RabbitMQ."""

from __future__ import annotations

from enum import IntEnum

from hopd.errors import HopError


class Code(IntEnum):
    """Reply codes; those from 501 on, and 320, end the connection, not the channel alone."""

    CONTENT_TOO_LARGE = 311
    CONNECTION_FORCED = 320
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    FRAME_ERROR = 501
    SYNTAX_ERROR = 502
    COMMAND_INVALID = 503
    CHANNEL_ERROR = 504
    UNEXPECTED_FRAME = 505
    RESOURCE_ERROR = 506
    NOT_ALLOWED = 530
    NOT_IMPLEMENTED = 540
    INTERNAL_ERROR = 541


#: A reply text is a short string.
_MAX_TEXT = 255


class Refused(HopError):
    """A channel error or, when `hard`, a connection error.

    `text` is the whole reply text, like ``NOT_FOUND - no queue 'q' in vhost '/'``. `class_id` and `method_id` name the method
    that was refused; the state leaves them 0, whoever read the method from the wire knows them.
    """

    def __init__(self, code: Code, explanation: str, class_id: int = 0, method_id: int = 0) -> None:
        self.code = code
        self.text = _fitted(f"{code.name} - {explanation}")
        self.class_id = class_id
        self.method_id = method_id
        super().__init__(self.text)

    @property
    def hard(self) -> bool:
        """It ends the connection."""
        return self.code > 500 or self.code is Code.CONNECTION_FORCED


def _fitted(text: str) -> str:
    """As RabbitMQ shortens what does not fit a reply text."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= _MAX_TEXT:
        return text
    return raw[: _MAX_TEXT - 3].decode("utf-8", "ignore") + "..."
