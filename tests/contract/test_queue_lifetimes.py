"""Whose a queue is, and how long it lives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.client import Channel, Client, Inbox, consumers, get_all, put, ready, refused

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could be originally declared on "
    "another connection or the exclusive property value does not match that of the original declaration."
)


# --- exclusive --------------------------------------------------------------------------------------

USES: dict[str, Callable[[Channel, str], object]] = {
    "declared": lambda channel, queue: channel.queue_declare(queue, exclusive=True),
    "found": lambda channel, queue: channel.queue_declare(queue, passive=True),
    "consumed": Inbox,
    "got from": lambda channel, queue: channel.basic_get(queue),
    "bound": lambda channel, queue: channel.queue_bind(queue, "amq.direct", "key"),
    "purged": lambda channel, queue: channel.queue_purge(queue),
    "deleted": lambda channel, queue: channel.queue_delete(queue),
}


@pytest.mark.parametrize("use", USES)
def test_an_exclusive_queue_is_locked_for_others(client: Client, stranger: Client, use: str) -> None:
    queue = client.queue()

    with refused(stranger.channel, 405, LOCKED.format(queue)):
        USES[use](stranger.channel, queue)


def test_everybody_may_publish_to_an_exclusive_queue(client: Client, stranger: Client) -> None:
    queue = client.queue()

    put(stranger.channel, queue, b"0")

    assert get_all(client.channel, queue) == [b"0"]


def test_all_channels_of_its_connection_may_use_an_exclusive_queue(client: Client) -> None:
    queue = client.queue()

    assert ready(client.open(), queue) == 0


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_queue_does_not_become_exclusive_or_stop_being_so(client: Client, exclusive: bool) -> None:
    queue, channel = client.queue(shared=not exclusive), client.open()

    with refused(channel, 405, LOCKED.format(queue)):
        channel.queue_declare(queue, exclusive=not exclusive)


# --- lifetimes --------------------------------------------------------------------------------------


def test_an_exclusive_queue_goes_with_its_connection(client: Client, stranger: Client) -> None:
    queue = stranger.queue(durable=True)

    stranger.connection.close()

    with refused(client.channel, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"):
        client.channel.queue_declare(queue, passive=True)


def test_an_auto_delete_queue_goes_with_its_last_consumer(client: Client, channel: Channel) -> None:
    queue = client.queue(shared=True, auto_delete=True)
    first, last = client.open(), client.open()
    inboxes = [Inbox(first, queue), Inbox(last, queue)]
    put(channel, queue, b"0")

    first.basic_cancel(inboxes[0].tag)
    assert consumers(channel, queue) == 1
    last.close()

    with refused(channel, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"):
        channel.queue_declare(queue, passive=True)


def test_an_auto_delete_queue_that_was_never_consumed_stays(client: Client, channel: Channel) -> None:
    queue = client.queue(shared=True, auto_delete=True)
    put(channel, queue, b"0")
    get_all(channel, queue)

    assert consumers(channel, queue) == 0
