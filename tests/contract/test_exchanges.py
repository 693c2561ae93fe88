"""Exchanges: how each type routes, and how they are declared and deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.client import Channel, Client, get_all, hung_up, publish, put, ready, refused, unique

# --- routing ----------------------------------------------------------------------------------------


def test_the_default_exchange_routes_to_the_queue_of_that_name(client: Client, channel: Channel) -> None:
    queue, other = client.queue(), client.queue()

    put(channel, queue, b"0")

    assert (get_all(channel, queue), get_all(channel, other)) == ([b"0"], [])


def test_a_direct_exchange_routes_by_the_exact_key(client: Client, channel: Channel) -> None:
    exchange = client.exchange("direct")
    queue = client.bound(exchange, "red")

    publish(channel, exchange, "red", b"yes")
    publish(channel, exchange, "re", b"no")
    publish(channel, exchange, "red.dark", b"no")
    publish(channel, exchange, "", b"no")

    assert get_all(channel, queue) == [b"yes"]


def test_every_queue_bound_by_the_key_has_the_message(client: Client, channel: Channel) -> None:
    exchange = client.exchange("direct")
    queues = [client.bound(exchange, "red") for _ in range(3)]

    publish(channel, exchange, "red", b"0")

    assert [get_all(channel, queue) for queue in queues] == [[b"0"]] * 3


def test_a_queue_has_a_message_once_however_many_bindings_match(client: Client, channel: Channel) -> None:
    exchange = client.exchange("topic")
    queue = client.bound(exchange, "#")
    channel.queue_bind(queue, exchange, "a.*")
    channel.queue_bind(queue, exchange, "a.b")

    publish(channel, exchange, "a.b", b"0")

    assert get_all(channel, queue) == [b"0"]


def test_a_fanout_exchange_routes_to_all_and_asks_for_no_key(client: Client, channel: Channel) -> None:
    exchange = client.exchange("fanout")
    queues = [client.bound(exchange, key) for key in ("", "red")]

    publish(channel, exchange, "blue", b"0")

    assert [get_all(channel, queue) for queue in queues] == [[b"0"]] * 2


TOPICS = [
    ("a.b.c", ["a.b.c"], ["a.b", "a.b.c.d", "a.b.d", ""]),
    ("a.*.c", ["a.b.c", "a.xyz.c", "a..c"], ["a.c", "a.b.b.c"]),
    ("*", ["a"], ["", "a.b"]),
    ("*.*", ["a.b", "."], ["a", "a.b.c"]),
    ("#", ["", "a", "a.b.c", "."], []),
    ("a.#", ["a", "a.b", "a.b.c"], ["b", "aa", ""]),
    ("#.c", ["c", "a.c", "a.b.c"], ["c.a"]),
    ("a.#.c", ["a.c", "a.b.c", "a.b.b.c"], ["a", "c", "a.c.b"]),
    ("a.#.*", ["a.b", "a.b.c"], ["a"]),
    ("#.#", ["", "a", "a.b"], []),
    ("a*", ["a*"], ["ab", "a.b"]),
    ("", [""], ["a"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), TOPICS)
def test_a_topic_exchange_routes_by_words(client: Client, channel: Channel, pattern: str, matching: list[str], others: list[str]) -> None:
    exchange = client.exchange("topic")
    queue = client.bound(exchange, pattern)

    for key in matching + others:
        publish(channel, exchange, key, key.encode())

    assert get_all(channel, queue) == [key.encode() for key in matching]


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic"])
def test_a_binding_that_is_taken_away_routes_no_more(client: Client, channel: Channel, kind: str) -> None:
    exchange = client.exchange(kind)
    queue = client.bound(exchange, "a")

    channel.queue_unbind(queue, exchange, "a")
    publish(channel, exchange, "a", b"0")

    assert ready(channel, queue) == 0


def test_binding_twice_is_binding_once(client: Client, channel: Channel) -> None:
    exchange = client.exchange("direct")
    queue = client.bound(exchange, "a")
    channel.queue_bind(queue, exchange, "a")

    channel.queue_unbind(queue, exchange, "a")
    publish(channel, exchange, "a", b"0")

    assert ready(channel, queue) == 0


def test_taking_away_a_binding_that_is_not_there_is_right(client: Client, channel: Channel) -> None:
    channel.queue_unbind(client.queue(), "amq.direct", "never")
    channel.queue_unbind(unique("nowhere"), "amq.direct", "never")
    channel.queue_unbind(client.queue(), unique("nowhere"), "never")


@pytest.mark.parametrize("name", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"])
def test_an_exchange_of_each_type_is_always_there(channel: Channel, name: str) -> None:
    channel.exchange_declare(name, passive=True)


# --- what is refused --------------------------------------------------------------------------------


def test_publishing_to_an_exchange_that_is_not_there_closes_the_channel(client: Client) -> None:
    channel, nowhere = client.open(confirms=False), unique("nowhere")

    with refused(channel, 404, f"NOT_FOUND - no exchange '{nowhere}' in vhost '/'"):
        publish(channel, nowhere, "key", b"0")


def test_nobody_publishes_to_an_internal_exchange(client: Client) -> None:
    exchange, channel = client.exchange(internal=True), client.open(confirms=False)

    with refused(channel, 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'"):
        publish(channel, exchange, "key", b"0")


def test_declaring_passively_makes_nothing(client: Client) -> None:
    channel, nowhere = client.open(), unique("nowhere")

    with refused(channel, 404, f"NOT_FOUND - no exchange '{nowhere}' in vhost '/'"):
        channel.exchange_declare(nowhere, passive=True)


def test_declaring_passively_compares_nothing(client: Client, channel: Channel) -> None:
    channel.exchange_declare(client.exchange("direct"), "topic", passive=True, durable=True)


def test_names_that_begin_with_amq_are_the_brokers(client: Client) -> None:
    channel, name = client.open(), f"amq.{unique('exchange')}"

    with refused(channel, 403, f"ACCESS_REFUSED - exchange name '{name}' contains reserved prefix 'amq.*'"):
        channel.exchange_declare(name, "direct")


DEFAULT: dict[str, Callable[[Channel, str], object]] = {
    "declared": lambda channel, _: channel.exchange_declare("", "direct", durable=True),
    "found": lambda channel, _: channel.exchange_declare("", "direct", passive=True),
    "deleted": lambda channel, _: channel.exchange_delete(""),
    "bound from": lambda channel, queue: channel.queue_bind(queue, "", "key"),
    "unbound from": lambda channel, queue: channel.queue_unbind(queue, "", "key"),
    "bound to": lambda channel, _: channel.exchange_bind("", "amq.direct", "key"),
    "a source": lambda channel, _: channel.exchange_bind("amq.direct", "", "key"),
}


@pytest.mark.parametrize("operation", DEFAULT)
def test_the_default_exchange_is_left_as_it_is(client: Client, operation: str) -> None:
    channel, queue = client.open(), client.queue()

    with refused(channel, 403, "ACCESS_REFUSED - operation not permitted on the default exchange"):
        DEFAULT[operation](channel, queue)


def test_binding_needs_both_ends(client: Client) -> None:
    nowhere = unique("nowhere")

    channel = client.open()
    with refused(channel, 404, f"NOT_FOUND - no queue '{nowhere}' in vhost '/'"):
        channel.queue_bind(nowhere, "amq.direct", "key")

    channel, queue = client.open(), client.queue()
    with refused(channel, 404, f"NOT_FOUND - no exchange '{nowhere}' in vhost '/'"):
        channel.queue_bind(queue, nowhere, "key")


def test_an_unknown_type_ends_the_connection(client: Client) -> None:
    with hung_up(client.channel, 503, "COMMAND_INVALID - unknown exchange type 'sideways'"):
        client.channel.exchange_declare(unique("exchange"), "sideways")


# --- deleting ---------------------------------------------------------------------------------------


def test_an_exchange_that_is_deleted_routes_no_more(client: Client) -> None:
    exchange, channel = client.exchange(), client.open(confirms=False)
    client.bound(exchange, "key")

    channel.exchange_delete(exchange)

    with refused(channel, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'"):
        publish(channel, exchange, "key", b"0")


def test_deleting_what_is_not_there_is_right(channel: Channel) -> None:
    channel.exchange_delete(unique("nowhere"))


def test_an_exchange_with_bindings_is_not_deleted_if_unused_is_asked_for(client: Client) -> None:
    exchange, channel = client.exchange(), client.open()
    client.bound(exchange, "key")

    with refused(channel, 406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use"):
        channel.exchange_delete(exchange, if_unused=True)


def test_the_exchanges_that_are_always_there_cannot_be_deleted(client: Client) -> None:
    channel = client.open()

    with refused(channel, 403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"):
        channel.exchange_delete("amq.direct")


@pytest.mark.parametrize("how", ["unbound", "deleted"])
def test_an_auto_delete_exchange_goes_with_its_last_binding(client: Client, how: str) -> None:
    exchange, channel = client.exchange(auto_delete=True), client.open()
    first, last = (client.bound(exchange, "key") for _ in range(2))
    channel.queue_unbind(first, exchange, "key")
    channel.exchange_declare(exchange, passive=True)

    if how == "unbound":
        channel.queue_unbind(last, exchange, "key")
    else:
        channel.queue_delete(last)

    with refused(channel, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'"):
        channel.exchange_declare(exchange, passive=True)
