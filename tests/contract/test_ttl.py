"""How long messages and queues live."""

from __future__ import annotations

import pytest

from tests.contract.client import Channel, Client, Inbox, get, get_all, put, ready, refused, take, unique, wait_ready
from tests.support.waiting import wait_until

#: Milliseconds: long enough for a few answers on a busy machine, short enough to be waited for.
SHORT = 150

#: Never reached in a test.
LONG = 60_000


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def queue_of(client: Client, kind: str, arguments: dict[str, object]) -> str:
    return client.quorum_queue(arguments) if kind == "quorum" else client.queue(arguments)


# --- the queue's limit ------------------------------------------------------------------------------


def test_a_message_is_gone_after_the_queues_limit(client: Client, channel: Channel, kind: str) -> None:
    queue = queue_of(client, kind, {"x-message-ttl": SHORT})

    put(channel, queue, b"0", b"1")

    wait_ready(channel, queue, 0)
    assert get(channel, queue) is None


def test_a_message_is_there_until_then(client: Client, channel: Channel, kind: str) -> None:
    queue = queue_of(client, kind, {"x-message-ttl": LONG})

    put(channel, queue, b"0")

    assert get_all(channel, queue) == [b"0"]


def test_a_message_with_no_time_at_all_is_delivered_to_whoever_waits(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-message-ttl": 0})
    inbox = Inbox(client.open(), queue)

    put(channel, queue, b"0")

    inbox.exactly(b"0")


def test_a_message_with_no_time_at_all_does_not_wait(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-message-ttl": 0})

    put(channel, queue, b"0")

    assert get(channel, queue) is None


def test_an_unsettled_message_does_not_expire(client: Client, channel: Channel) -> None:
    held, passing = (client.queue({"x-message-ttl": SHORT}) for _ in range(2))
    put(channel, held, b"0")
    holder = client.open()
    inbox = Inbox(holder, held)
    inbox.wait(1)

    put(channel, passing, b"1")
    wait_ready(channel, passing, 0)

    holder.basic_ack(1)
    inbox.exactly(b"0")


def test_a_message_that_comes_back_late_has_expired(client: Client, channel: Channel) -> None:
    held, passing = (client.queue({"x-message-ttl": SHORT}) for _ in range(2))
    put(channel, held, b"0")
    holder = client.open()
    first = take(holder, held)
    put(channel, passing, b"1")
    wait_ready(channel, passing, 0)

    holder.basic_nack(first.tag, requeue=True)

    wait_ready(channel, held, 0)


# --- the message's own ------------------------------------------------------------------------------


def test_a_message_is_gone_after_its_own_limit(client: Client, channel: Channel, kind: str) -> None:
    queue = queue_of(client, kind, {})

    put(channel, queue, b"0", expiration=str(SHORT))

    wait_ready(channel, queue, 0)


def test_the_shorter_of_two_limits_holds(client: Client, channel: Channel) -> None:
    short, long = client.queue({"x-message-ttl": SHORT}), client.queue({"x-message-ttl": LONG})

    put(channel, short, b"0", expiration=str(LONG))
    put(channel, long, b"1", expiration=str(SHORT))

    wait_ready(channel, short, 0)
    wait_ready(channel, long, 0)


def test_a_message_expires_only_at_the_head_of_its_queue(client: Client, channel: Channel) -> None:
    queue, beside = client.queue(), client.queue()
    put(channel, queue, b"lasts", expiration=str(LONG))
    put(channel, queue, b"short", expiration=str(SHORT))
    put(channel, beside, b"beside", expiration=str(SHORT * 2))

    wait_ready(channel, beside, 0)

    assert ready(channel, queue) == 2
    assert get_all(channel, queue) == [b"lasts"]


def test_a_message_keeps_the_limit_that_it_was_given(client: Client, channel: Channel) -> None:
    queue = client.queue()

    put(channel, queue, b"0", expiration=str(LONG))

    assert take(channel, queue).properties.expiration == str(LONG)


def test_an_expired_message_is_not_delivered(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, b"late", expiration="0")
    put(channel, queue, b"there")

    Inbox(client.open(), queue).exactly(b"there")


# --- the queue itself -------------------------------------------------------------------------------


def is_there(client: Client, queue: str) -> bool:
    """Whether the queue is there, asked by a publish: to declare it, even passively, would be to use it."""
    channel = client.open(confirms=False)
    returned: list[object] = []
    channel.add_on_return_callback(lambda *arguments: returned.append(arguments))
    channel.basic_publish("", queue, b"0", mandatory=True)
    channel.basic_qos()
    client.connection.process_data_events()
    channel.close()
    return not returned


def test_a_queue_that_nobody_uses_expires(client: Client) -> None:
    queue = client.queue({"x-expires": SHORT}, shared=True)

    wait_until(lambda: not is_there(client, queue), 20, "the queue is gone")

    channel = client.open()
    with refused(channel, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"):
        channel.queue_declare(queue, passive=True)


def test_a_queue_that_expires_takes_its_messages_along(client: Client, channel: Channel) -> None:
    graveyard = client.queue()
    queue = client.queue({"x-expires": SHORT, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard}, shared=True)
    put(channel, queue, b"0")

    wait_until(lambda: not is_there(client, queue), 20, "the queue is gone")

    assert ready(channel, graveyard) == 0


def test_a_queue_with_a_consumer_does_not_expire(client: Client, channel: Channel) -> None:
    used, unused = client.queue({"x-expires": SHORT}), client.queue({"x-expires": SHORT * 2})
    inbox = Inbox(client.open(), used)

    wait_until(lambda: not is_there(client, unused), 20, "the other queue is gone")

    put(channel, used, b"0")
    inbox.wait(1)


def test_being_got_from_is_use(client: Client, channel: Channel) -> None:
    used, unused = client.queue({"x-expires": SHORT * 4}), client.queue({"x-expires": SHORT * 6})

    def look() -> bool:
        get(channel, used)
        return not is_there(client, unused)

    wait_until(look, 20, "the other queue is gone")

    assert is_there(client, used)


def test_a_dead_queues_name_is_free(client: Client, channel: Channel) -> None:
    name = unique("queue")
    client.queue({"x-expires": SHORT}, name=name)
    wait_until(lambda: not is_there(client, name), 20, "the queue is gone")

    client.queue({"x-max-length": 3}, name=name)
    put(channel, name, b"0")

    assert get_all(channel, name) == [b"0"]
