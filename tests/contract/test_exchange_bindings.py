"""Exchanges bound to exchanges, alternate exchanges, and the headers that route a message to more keys."""

from __future__ import annotations

import pytest
from pika.exceptions import UnroutableError

from tests.contract.client import Channel, Client, Given, get, get_all, publish, put, ready, refused, unique

# --- exchange to exchange ---------------------------------------------------------------------------


def test_a_message_goes_on_through_an_exchange_that_is_bound(client: Client, channel: Channel) -> None:
    source, target = client.exchange("topic"), client.exchange("direct")
    queue = client.bound(target, "a.b")
    channel.exchange_bind(target, source, "a.*")

    publish(channel, source, "a.b", b"yes")
    publish(channel, source, "a.c", b"matches the first, not the second")
    publish(channel, source, "b", b"does not match the first")

    assert get_all(channel, queue) == [b"yes"]


def test_the_message_tells_the_exchange_that_it_was_published_to(client: Client, channel: Channel) -> None:
    source, target = client.exchange("fanout"), client.exchange("fanout")
    queue = client.bound(target)
    channel.exchange_bind(target, source)

    publish(channel, source, "key", b"0")

    given = get(channel, queue)
    assert given is not None
    assert (given.exchange, given.routing_key) == (source, "key")


def test_a_queue_that_is_reached_by_two_ways_has_the_message_once(client: Client, channel: Channel) -> None:
    source, target = client.exchange("fanout"), client.exchange("fanout")
    queue = client.bound(target)
    channel.queue_bind(queue, source)
    channel.exchange_bind(target, source)

    publish(channel, source, "", b"0")

    assert get_all(channel, queue) == [b"0"]


def test_a_circle_of_exchanges_has_an_end(client: Client, channel: Channel) -> None:
    first, second = client.exchange("fanout"), client.exchange("fanout")
    queue = client.bound(second)
    channel.exchange_bind(second, first)
    channel.exchange_bind(first, second)

    publish(channel, first, "", b"0")

    assert get_all(channel, queue) == [b"0"]


def test_an_exchange_that_is_unbound_passes_nothing_on(client: Client, channel: Channel) -> None:
    source, target = client.exchange("fanout"), client.exchange("fanout")
    queue = client.bound(target)
    channel.exchange_bind(target, source)

    channel.exchange_unbind(target, source)
    publish(channel, source, "", b"0")

    assert ready(channel, queue) == 0


def test_unbinding_what_is_not_bound_is_right(client: Client, channel: Channel) -> None:
    channel.exchange_unbind(client.exchange(), client.exchange(), "never")
    channel.exchange_unbind(unique("nowhere"), client.exchange(), "never")


@pytest.mark.parametrize("missing", ["source", "target"])
def test_both_exchanges_must_be_there(client: Client, missing: str) -> None:
    channel, there, nowhere = client.open(), client.exchange(), unique("nowhere")

    with refused(channel, 404, f"NOT_FOUND - no exchange '{nowhere}' in vhost '/'"):
        channel.exchange_bind(*((there, nowhere) if missing == "source" else (nowhere, there)), "key")


def test_an_internal_exchange_is_fed_by_others(client: Client, channel: Channel) -> None:
    source, target = client.exchange("fanout"), client.exchange("fanout", internal=True)
    queue = client.bound(target)
    channel.exchange_bind(target, source)

    publish(channel, source, "", b"0")

    assert get_all(channel, queue) == [b"0"]


def test_the_bindings_of_a_deleted_exchange_are_gone(client: Client, channel: Channel) -> None:
    source, target = client.exchange("fanout"), client.exchange("fanout")
    queue = client.bound(target)
    channel.exchange_bind(target, source)

    channel.exchange_delete(target)
    channel.exchange_declare(target, "fanout")
    channel.queue_bind(queue, target)
    publish(channel, source, "", b"0")

    assert ready(channel, queue) == 0


# --- alternate exchanges ----------------------------------------------------------------------------


def test_what_an_exchange_cannot_route_goes_to_its_alternate(client: Client, channel: Channel) -> None:
    alternate = client.exchange("fanout")
    exchange = client.exchange("direct", {"alternate-exchange": alternate})
    routed, rest = client.bound(exchange, "key"), client.bound(alternate)

    publish(channel, exchange, "key", b"0")
    publish(channel, exchange, "other", b"1")

    assert (get_all(channel, routed), get_all(channel, rest)) == ([b"0"], [b"1"])


def test_alternates_are_followed_as_far_as_they_go(client: Client, channel: Channel) -> None:
    last = client.exchange("fanout")
    middle = client.exchange("direct", {"alternate-exchange": last})
    first = client.exchange("direct", {"alternate-exchange": middle})
    queue = client.bound(last)

    publish(channel, first, "key", b"0")

    assert get_all(channel, queue) == [b"0"]


def test_a_message_that_the_alternate_routes_is_not_returned(client: Client, channel: Channel) -> None:
    alternate = client.exchange("fanout")
    exchange = client.exchange("direct", {"alternate-exchange": alternate})
    queue = client.bound(alternate)

    channel.basic_publish(exchange, "key", b"0", mandatory=True)

    assert get_all(channel, queue) == [b"0"]


def test_an_alternate_that_is_not_there_routes_nothing(client: Client, channel: Channel) -> None:
    exchange = client.exchange("direct", {"alternate-exchange": unique("nowhere")})

    publish(channel, exchange, "key", b"0")
    with pytest.raises(UnroutableError):
        channel.basic_publish(exchange, "key", b"1", mandatory=True)


def test_the_name_of_an_alternate_is_a_text(client: Client) -> None:
    channel, name = client.open(), unique("exchange")

    text = f"PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange '{name}' in vhost '/'"
    with refused(channel, 406, text):
        channel.exchange_declare(name, "direct", arguments={"alternate-exchange": 5})


# --- CC and BCC -------------------------------------------------------------------------------------


def got(channel: Channel, queue: str) -> Given:
    given = get(channel, queue, auto_ack=True)
    assert given is not None
    return given


def test_the_header_cc_routes_to_more_keys(client: Client, channel: Channel) -> None:
    first, second = client.queue(), client.queue()

    put(channel, first, b"0", headers={"CC": [second, "nowhere"]})

    assert got(channel, first).headers == got(channel, second).headers == {"CC": [second, "nowhere"]}


def test_the_header_bcc_does_the_same_and_is_taken_out(client: Client, channel: Channel) -> None:
    first, second = client.queue(), client.queue()

    put(channel, first, b"0", headers={"BCC": [second], "a": 1})

    assert got(channel, first).headers == got(channel, second).headers == {"a": 1}


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_more_keys_are_a_list(client: Client, header: str) -> None:
    channel = client.open(confirms=False)

    text = f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{header}",longstr}}'
    with refused(channel, 406, text):
        put(channel, "anywhere", b"0", headers={header: "elsewhere"})
