"""Dead-lettering: which messages go where, and which do not."""

from __future__ import annotations

import pytest
from pika.exceptions import NackError

from tests.contract.client import Channel, Client, Given, get, get_all, put, ready, settle, take, unique, wait_ready

SHORT = 50


@pytest.fixture
def graveyard(client: Client) -> str:
    """Where the messages go that are dead-lettered by the default exchange with this name as their key."""
    return client.queue()


def to(graveyard: str, **arguments: object) -> dict[str, object]:
    """The arguments of a queue whose dead messages go to that one."""
    more = {name.replace("_", "-"): value for name, value in arguments.items()}
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard, **more}


def died(channel: Channel, graveyard: str) -> Given:
    return take(channel, graveyard, auto_ack=True)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("how", ["reject", "nack"])
def test_a_message_refused_without_requeue_is_dead_lettered(client: Client, channel: Channel, graveyard: str, how: str, kind: str) -> None:
    queue = client.quorum_queue(to(graveyard)) if kind == "quorum" else client.queue(to(graveyard))
    put(channel, queue, b"0", message_id="7", delivery_mode=2)

    getattr(channel, f"basic_{how}")(take(channel, queue).tag, requeue=False)

    dead = died(channel, graveyard)
    assert (dead.body, dead.properties.message_id, dead.properties.delivery_mode, dead.redelivered) == (b"0", "7", 2, False)
    assert (dead.exchange, dead.routing_key) == ("", graveyard)


def test_messages_refused_together_are_dead_lettered_in_their_order(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0", b"1", b"2", b"3")
    tags = [take(channel, queue).tag for _ in range(3)]

    channel.basic_nack(tags[-1], multiple=True, requeue=False)

    wait_ready(channel, graveyard, 3)
    assert get_all(channel, graveyard) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_an_expired_message_is_dead_lettered(client: Client, channel: Channel, graveyard: str, kind: str) -> None:
    arguments = to(graveyard, x_message_ttl=SHORT)
    queue = client.quorum_queue(arguments) if kind == "quorum" else client.queue(arguments)

    put(channel, queue, b"0", b"1")

    wait_ready(channel, graveyard, 2)
    assert get_all(channel, graveyard) == [b"0", b"1"]


def test_a_message_that_outgrows_its_queue_is_dead_lettered(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard, x_max_length=2))

    put(channel, queue, b"0", b"1", b"2", b"3")

    wait_ready(channel, graveyard, 2)
    assert (get_all(channel, graveyard), get_all(channel, queue)) == ([b"0", b"1"], [b"2", b"3"])


def test_a_message_that_is_rejected_may_be_dead_lettered_if_that_is_asked_for(client: Client, channel: Channel, graveyard: str) -> None:
    silent = client.queue(to(graveyard, x_max_length=0, x_overflow="reject-publish"))
    telling = client.queue(to(graveyard, x_max_length=0, x_overflow="reject-publish-dlx"))

    for queue in (silent, telling):
        with pytest.raises(NackError):
            put(channel, queue, queue.encode())

    assert died(channel, graveyard).body == telling.encode()
    assert ready(channel, graveyard) == 0


def test_without_a_key_of_its_own_a_message_keeps_its_keys(client: Client, channel: Channel) -> None:
    exchange = client.exchange("direct")
    queue = client.queue({"x-dead-letter-exchange": exchange})
    first, copied = client.bound(exchange, queue), client.bound(exchange, "copy")
    put(channel, queue, b"0", headers={"CC": ["copy"]})

    channel.basic_reject(take(channel, queue).tag, requeue=False)

    assert [(each.routing_key, each.headers["CC"]) for each in (died(channel, first), died(channel, copied))] == [(queue, ["copy"])] * 2


def test_with_a_key_of_its_own_a_message_loses_its_copies(client: Client, channel: Channel, graveyard: str) -> None:
    queue, copied = client.queue(to(graveyard)), client.queue()
    put(channel, queue, b"0", headers={"CC": [copied]})
    get_all(channel, copied)

    channel.basic_reject(take(channel, queue).tag, requeue=False)

    assert "CC" not in died(channel, graveyard).headers
    assert ready(channel, copied) == 0


def test_a_message_is_dead_lettered_without_its_time_limit(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))

    put(channel, queue, b"0", expiration=str(SHORT))

    wait_ready(channel, graveyard, 1)
    assert died(channel, graveyard).properties.expiration is None


def test_the_exchange_may_come_later_than_its_queue(client: Client, channel: Channel) -> None:
    exchange = unique("exchange")
    queue = client.queue({"x-dead-letter-exchange": exchange})
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    graveyard = client.bound(exchange)
    put(channel, queue, b"0")

    channel.basic_reject(take(channel, queue).tag, requeue=False)

    assert died(channel, graveyard).body == b"0"


def test_where_the_exchange_is_missing_the_message_is_gone(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-dead-letter-exchange": unique("nowhere")})
    put(channel, queue, b"0")

    channel.basic_reject(take(channel, queue).tag, requeue=False)

    settle(channel, queue)
    assert get(channel, queue) is None


@pytest.mark.parametrize("operation", ["queue_purge", "queue_delete"])
def test_what_is_purged_or_deleted_is_not_dead_lettered(client: Client, channel: Channel, graveyard: str, operation: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0")

    getattr(channel, operation)(queue)

    settle(channel, graveyard)
    assert ready(channel, graveyard) == 0


def test_what_is_requeued_is_not_dead_lettered(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0")

    channel.basic_reject(take(channel, queue).tag, requeue=True)

    assert take(channel, queue).body == b"0"
    assert ready(channel, graveyard) == 0


# --- circles ----------------------------------------------------------------------------------------


def test_a_message_that_expires_in_a_circle_is_dropped(client: Client, channel: Channel) -> None:
    first, second = unique("queue"), unique("queue")
    client.queue(to(second, x_message_ttl=SHORT), name=first)
    client.queue(to(first, x_message_ttl=SHORT), name=second)
    beside = client.queue()

    put(channel, first, b"0")
    put(channel, beside, b"1", expiration=str(SHORT * 4))
    wait_ready(channel, beside, 0)

    assert (ready(channel, first), ready(channel, second)) == (0, 0)


def test_a_message_that_expires_into_its_own_queue_is_dropped(client: Client, channel: Channel) -> None:
    queue = unique("queue")
    client.queue(to(queue, x_message_ttl=SHORT), name=queue)

    put(channel, queue, b"0")

    wait_ready(channel, queue, 0)


def test_a_circle_that_a_consumer_drives_goes_on(client: Client, channel: Channel) -> None:
    work, wait = unique("queue"), unique("queue")
    client.queue(to(wait), name=work)
    client.queue(to(work, x_message_ttl=SHORT), name=wait)
    put(channel, work, b"0")

    for _ in range(4):
        channel.basic_reject(take(channel, work).tag, requeue=False)

    assert take(channel, work).body == b"0"


def test_a_message_refused_into_its_own_queue_comes_again(client: Client, channel: Channel) -> None:
    queue = unique("queue")
    client.queue(to(queue), name=queue)
    put(channel, queue, b"0", b"1")

    channel.basic_reject(take(channel, queue).tag, requeue=False)

    assert [take(channel, queue).body for _ in range(2)] == [b"1", b"0"]
