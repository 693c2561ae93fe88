"""Carbon copies: further routing keys that a publisher names in the headers `CC` and `BCC` (RabbitMQ's sender-selected distribution)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hopd.broker.arguments import type_name
from hopd.broker.headers import split
from hopd.broker.model import Message
from hopd.broker.refusal import Code, Refused

CC, BCC = "CC", "BCC"


def carbon_keys(headers: Mapping[Any, Any]) -> list[str]:
    """The further keys; 406 when a header is no list, as RabbitMQ answers."""
    keys: list[str] = []
    for name in (CC, BCC):
        found = headers.get(name, [])
        if not isinstance(found, list):
            raise Refused(Code.PRECONDITION_FAILED, f'invalid message: {{unacceptable_type_in_header,"{name}",{type_name(found)}}}')
        keys += [key for key in found if isinstance(key, str)]
    return keys


def unfolded(message: Message) -> tuple[Message, list[str]]:
    """The message as it is to be delivered (nobody sees `BCC`) and its keys besides the routing key."""
    parts = split(message.properties)
    keys = carbon_keys(parts.headers)
    if BCC not in parts.headers:
        return message, keys
    del parts.headers[BCC]
    return message.carrying(parts.join()), keys
