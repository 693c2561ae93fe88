"""The headers exchange, and what else a binding's arguments say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.client import Channel, Client, get_all, publish, refused

MATCHES: list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = [
    ({"x-match": "all", "a": 1, "b": "two"}, [{"a": 1, "b": "two"}, {"a": 1, "b": "two", "c": 3}], [{"a": 1}, {"a": 1, "b": "2"}, {}]),
    ({"x-match": "any", "a": 1, "b": "two"}, [{"a": 1}, {"b": "two"}, {"a": 1, "b": 0}], [{"a": 2}, {"c": 1}, {}]),
    ({"a": 1, "b": "two"}, [{"a": 1, "b": "two"}], [{"a": 1}]),
    ({"x-match": "all"}, [{}, {"a": 1}], []),
    ({"x-match": "any"}, [], [{}, {"a": 1}]),
    ({"x-match": "all", "x-a": 1, "b": 2}, [{"b": 2}, {"b": 2, "x-a": 7}], [{"x-a": 1}]),
    ({"x-match": "any", "x-a": 1, "b": 2}, [{"b": 2}], [{"x-a": 1}]),
    ({"x-match": "all-with-x", "x-a": 1, "b": 2}, [{"x-a": 1, "b": 2}], [{"b": 2}, {"x-a": 1}]),
    ({"x-match": "any-with-x", "x-a": 1, "b": 2}, [{"x-a": 1}, {"b": 2}], [{"b": 3}]),
    ({"x-match": "all", "a": None}, [{"a": 1}, {"a": "x"}, {"a": None}], [{}, {"b": 1}]),
    ({"x-match": "all", "a": True}, [{"a": True}], [{"a": False}, {"a": "true"}]),
    ({"x-match": "all", "a": 1}, [{"a": 1}], [{"a": "1"}, {"a": True}]),
]


@pytest.mark.parametrize(("binding", "matching", "others"), MATCHES)
def test_a_headers_exchange_routes_by_headers(
    client: Client, channel: Channel, binding: dict[str, Any], matching: list[dict[str, Any]], others: list[dict[str, Any]]
) -> None:
    exchange = client.exchange("headers")
    queue = client.bound(exchange, "", binding)

    for headers in matching:
        publish(channel, exchange, "", b"yes", headers=headers)
    for headers in others:
        publish(channel, exchange, "", b"no", headers=headers)

    assert get_all(channel, queue) == [b"yes"] * len(matching)


def test_a_message_without_headers_matches_what_asks_for_none(client: Client, channel: Channel) -> None:
    exchange = client.exchange("headers")
    asking, content = client.bound(exchange, "", {"x-match": "all", "a": 1}), client.bound(exchange, "", {"x-match": "all"})

    publish(channel, exchange, "", b"0")

    assert (get_all(channel, asking), get_all(channel, content)) == ([], [b"0"])


def test_a_headers_exchange_does_not_look_at_the_key(client: Client, channel: Channel) -> None:
    exchange = client.exchange("headers")
    queue = client.bound(exchange, "key", {"x-match": "all", "a": 1})

    publish(channel, exchange, "another", b"0", headers={"a": 1})

    assert get_all(channel, queue) == [b"0"]


def test_bindings_with_other_arguments_are_other_bindings(client: Client, channel: Channel) -> None:
    exchange = client.exchange("headers")
    queue = client.bound(exchange, "", {"x-match": "all", "a": 1})
    channel.queue_bind(queue, exchange, "", {"x-match": "all", "a": 2})

    channel.queue_unbind(queue, exchange, "", {"x-match": "all", "a": 1})
    publish(channel, exchange, "", b"1", headers={"a": 1})
    publish(channel, exchange, "", b"2", headers={"a": 2})

    assert get_all(channel, queue) == [b"2"]


def test_there_are_four_ways_to_match(client: Client) -> None:
    channel, queue = client.open(), client.queue()

    text = 'Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'
    with refused(channel, 406, f"PRECONDITION_FAILED - {text}"):
        channel.queue_bind(queue, "amq.headers", "", {"x-match": "some"})


def test_the_way_to_match_is_a_text(client: Client) -> None:
    channel, queue = client.open(), client.queue()

    with refused(channel, 406, "PRECONDITION_FAILED - Invalid x-match field type signedint (value 5); expected longstr"):
        channel.queue_bind(queue, "amq.headers", "", {"x-match": 5})
