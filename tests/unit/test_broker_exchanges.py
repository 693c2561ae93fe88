"""Where a message goes: each kind of exchange, bindings between exchanges, alternates, carbon copies."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hopd.amqp.properties import decode
from hopd.broker.exchanges import Exchange
from hopd.broker.refusal import Code, Refused
from tests.support.pure_broker import Hand, PureBroker

DIRECT = [("jobs", "jobs", True), ("jobs", "job", False), ("", "", True), ("a.*", "a.b", False)]

TOPIC = [
    ("a.b", "a.b", True),
    ("a.b", "a.b.c", False),
    ("a.*", "a.b", True),
    ("a.*", "a", False),
    ("a.*", "a.", True),  # an empty word is a word
    ("a.*", "a.b.c", False),
    ("*.b", "a.b", True),
    ("*", "", False),
    ("#", "", True),
    ("#", "a.b.c", True),
    ("a.#", "a", True),
    ("a.#", "a.b.c", True),
    ("a.#", "b.a", False),
    ("#.c", "c", True),
    ("#.c", "a.b.c", True),
    ("#.c", "a.c.b", False),
    ("a.#.c", "a.c", True),
    ("a.#.c", "a.b.b.c", True),
    ("a.#.*", "a", False),
    ("a.#.*", "a.b", True),
    ("#.#", "", True),
    ("#.b.#", "a.b.c", True),
    ("#.b.#", "a.c", False),
    ("*.#", "a", True),
    ("*.#", "", False),
    ("", "", True),
    ("ab", "a", False),
]

HEADERS = [
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}, True),
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, False),
    ({"x-match": "all", "a": 1}, {"a": 2}, False),
    ({"a": 1}, {"a": 1}, True),  # all is what goes without saying
    ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
    ({"x-match": "any", "a": 1}, {"a": 2}, False),
    ({"x-match": "any"}, {"a": 1}, False),
    ({"x-match": "all"}, {}, True),
    ({"a": None}, {"a": "anything"}, True),
    ({"a": None}, {"b": 1}, False),
    ({"a": True}, {"a": 1}, False),
    ({"x-match": "all", "x-a": 1, "b": 2}, {"b": 2}, True),
    ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2}, False),
    ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 1}, True),
    ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
    ({"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
]


def client_with(kind: str) -> Hand:
    client = PureBroker().channel()
    client.exchange("e", kind)
    client.declare()
    return client


@pytest.mark.parametrize(("bound", "key", "found"), DIRECT)
def test_a_direct_exchange_goes_by_the_whole_key(bound: str, key: str, found: bool) -> None:
    client = client_with("direct")
    client.bind("q", "e", bound)

    assert client.publish(b"", exchange="e", key=key)[0].routed is found


@pytest.mark.parametrize(("pattern", "key", "found"), TOPIC)
def test_a_topic_exchange_goes_by_patterns_of_words(pattern: str, key: str, found: bool) -> None:
    client = client_with("topic")
    client.bind("q", "e", pattern)

    assert client.publish(b"", exchange="e", key=key)[0].routed is found
    assert client.broker.ready() == found


@pytest.mark.parametrize(("wanted", "present", "found"), HEADERS)
def test_a_headers_exchange_goes_by_headers(wanted: dict[str, Any], present: dict[str, Any], found: bool) -> None:
    client = client_with("headers")
    client.broker.state.queue_bind(client, "q", "e", "", wanted)

    assert client.publish(b"", exchange="e", headers=present)[0].routed is found


def test_a_fanout_exchange_goes_everywhere() -> None:
    client = client_with("fanout")
    client.declare("other")
    client.bind("q", "e", "this")
    client.bind("other", "e", "that")

    client.publish(b"a", exchange="e", key="neither")

    assert (client.drain("q"), client.drain("other")) == ([b"a"], [b"a"])


def test_the_default_exchange_leads_to_the_queue_that_the_key_names() -> None:
    client = PureBroker().channel()
    client.declare()

    assert [client.publish(b"", key=key)[0].routed for key in ("q", "nothing", "")] == [True, False, False]


def test_two_bindings_that_match_bring_a_message_to_a_queue_once() -> None:
    client = client_with("topic")
    client.bind("q", "e", "a.*")
    client.bind("q", "e", "#")

    client.publish(b"", exchange="e", key="a.b")

    assert client.broker.ready() == 1


def test_many_hashes_cost_no_more_than_many_words() -> None:
    client = client_with("topic")
    client.bind("q", "e", ".".join("#" * 60 + "z"))
    began = time.process_time()

    assert not client.publish(b"", exchange="e", key=".".join("a" * 100))[0].routed

    assert time.process_time() - began < 1.0  # by trying all ways it would be years


def test_a_pattern_that_is_unbound_leaves_the_others_alone() -> None:
    exchange = Exchange("e", "topic", durable=False, auto_delete=False, internal=False, arguments={})
    for pattern in ("a", "a.b", "a.b.c", "a.*", "x.y", "x.z"):
        exchange.bind("q", pattern, {})

    exchange.unbind("q", "a.b.c", {})
    exchange.unbind("q", "a.*", {})
    exchange.unbind("q", "x.y", {})

    found = {key for key in ("a", "a.b", "a.b.c", "a.x", "x.y", "x.z") if list(exchange.find(key, dict))}
    assert found == {"a", "a.b", "x.z"}


def test_the_same_binding_twice_is_one_and_other_arguments_make_it_another() -> None:
    client = client_with("direct")
    client.bind("q", "e", "k")
    client.bind("q", "e", "k")
    client.bind("q", "e", "k", x_a=1, x_b=2)

    client.broker.state.queue_unbind(client, "q", "e", "k", {})
    assert client.publish(b"", exchange="e", key="k")[0].routed
    client.broker.state.queue_unbind(client, "q", "e", "k", {"x-b": 2, "x-a": 1})

    assert not client.publish(b"", exchange="e", key="k")[0].routed


def test_exchanges_lead_to_exchanges_and_a_circle_ends() -> None:
    client = client_with("fanout")
    client.exchange("f", "fanout")
    state = client.broker.state
    state.exchange_bind("f", "e", "", {})
    state.exchange_bind("e", "f", "", {})
    client.bind("q", "f")

    client.publish(b"", exchange="e")
    assert client.broker.ready() == 1
    state.exchange_unbind("f", "e", "", {})

    assert not client.publish(b"", exchange="e")[0].routed


def test_what_an_exchange_cannot_route_goes_to_its_alternate() -> None:
    client = PureBroker().channel()
    client.exchange("main", "direct", alternate_exchange="rest")
    client.declare("main")
    client.declare("rest")
    client.bind("main", "main", "k")
    assert not client.publish(b"", exchange="main", key="other")[0].routed  # there is no such alternate yet
    client.exchange("rest", "fanout")
    client.bind("rest", "rest")

    client.publish(b"a", exchange="main", key="k")
    client.publish(b"b", exchange="main", key="other")

    assert (client.drain("main"), client.drain("rest")) == ([b"a"], [b"b"])


def test_carbon_copies_go_by_further_keys_and_nobody_sees_the_blind_ones() -> None:
    client = PureBroker().channel()
    for queue in ("to", "copy", "blind"):
        client.declare(queue)

    client.publish(b"", key="to", headers={"CC": ["copy", "to"], "BCC": ["blind"], "x": 1})

    found = [client.get(queue, no_ack=True) for queue in ("to", "copy", "blind")]
    assert [decode(each.message.properties).headers for each in found if each] == [{"CC": ["copy", "to"], "x": 1}] * 3
    assert client.broker.state.messages == 0


def test_carbon_copies_that_are_no_list_are_refused() -> None:
    client = PureBroker().channel()

    with pytest.raises(Refused) as caught:
        client.publish(b"", headers={"CC": "copy"})

    assert (caught.value.code, caught.value.hard) == (Code.PRECONDITION_FAILED, False)
    assert caught.value.text == 'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}'
