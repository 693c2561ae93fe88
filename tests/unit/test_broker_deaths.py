"""Dead letters: where they go, what they carry, and that they do not go round for ever."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.amqp.properties import Properties, decode, encode
from hopd.broker.deaths import counted, dead_lettered, returns_by_itself
from hopd.broker.headers import split
from hopd.broker.model import Message
from tests.support.pure_broker import START, Hand, PureBroker, headers


def client_with_dead_letters(**arguments: Any) -> Hand:
    client = PureBroker().channel()
    client.declare("dead")
    client.declare(x_dead_letter_exchange="", x_dead_letter_routing_key="dead", **arguments)
    return client


def death_of(client: Hand) -> dict[str, Any]:
    delivery = client.get("dead")
    assert delivery is not None
    (death,) = headers(delivery)["x-death"]
    assert isinstance(death, dict)
    return death


# --- what they carry --------------------------------------------------------------------------------------------------


def test_a_dead_letter_tells_where_it_was_why_it_left_and_when() -> None:
    client = PureBroker().channel()
    client.declare("dead")
    client.declare(x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    client.bind("q", "amq.topic", "#")
    client.publish(b"a", exchange="amq.topic", key="jobs.mail", headers={"mine": 1}, message_id="7")
    client.get()

    client.reject(1)

    delivery = client.get("dead")
    assert delivery is not None
    assert (delivery.message.exchange, delivery.message.routing_key) == ("", "dead")
    assert decode(delivery.message.properties).message_id == "7"
    when = datetime.fromtimestamp(START, timezone.utc)
    assert headers(delivery) == {
        "mine": 1,
        "x-first-death-reason": "rejected",
        "x-first-death-queue": "q",
        "x-first-death-exchange": "amq.topic",
        "x-death": [{"count": 1, "reason": "rejected", "queue": "q", "time": when, "exchange": "amq.topic", "routing-keys": ["jobs.mail"]}],
    }


def test_each_way_out_has_its_reason() -> None:
    reasons = []
    for arguments in ({"x_message_ttl": 0}, {"x_max_length": 0}, {"x_max_length": 0, "x_overflow": "reject-publish-dlx"}):
        client = client_with_dead_letters(**arguments)
        client.publish(b"a")
        reasons.append(death_of(client)["reason"])
    client = client_with_dead_letters(durable=True, x_queue_type="quorum", x_delivery_limit=0)
    client.publish(b"a")
    client.get()
    client.nack(1)
    reasons.append(death_of(client)["reason"])

    assert reasons == ["expired", "maxlen", "maxlen", "delivery_limit"]


def test_a_dead_letter_no_longer_expires_and_says_when_it_would_have() -> None:
    client = client_with_dead_letters()
    client.publish(b"a", ttl=1.5)

    client.broker.wait(1.5)

    delivery = client.get("dead")
    assert delivery is not None
    assert decode(delivery.message.properties).expiration is None
    assert headers(delivery)["x-death"][0]["original-expiration"] == "1500"


def test_the_same_death_again_is_counted_and_the_last_one_comes_first() -> None:
    client = PureBroker().channel()
    client.declare("wait", x_message_ttl=1000, x_dead_letter_exchange="", x_dead_letter_routing_key="q")
    client.declare(x_dead_letter_exchange="", x_dead_letter_routing_key="wait")
    client.consume()
    client.publish(b"a")
    for tag in (1, 2, 3):
        client.reject(tag)
        client.broker.wait(1.0)

    last = headers(client.deliveries()[-1])
    deaths = last["x-death"]

    assert [(death["queue"], death["reason"], death["count"]) for death in deaths] == [("wait", "expired", 3), ("q", "rejected", 3)]
    assert (last["x-first-death-queue"], last["x-first-death-reason"]) == ("q", "rejected")


def test_a_dead_letter_without_a_key_of_its_queue_keeps_its_own() -> None:
    client = PureBroker().channel()
    client.declare("dead")
    client.bind("dead", "amq.direct", "k")
    client.declare("q", x_dead_letter_exchange="amq.direct")
    client.bind("q", "amq.topic", "k")

    client.publish(b"a", exchange="amq.topic", key="k")
    client.get()
    client.reject(1)

    delivery = client.get("dead")
    assert delivery is not None
    assert (delivery.message.exchange, delivery.message.routing_key) == ("amq.direct", "k")


def test_without_a_dead_letter_exchange_it_is_gone_and_with_one_that_is_not_there_too() -> None:
    client = PureBroker().channel()
    client.declare(x_dead_letter_exchange="none")
    client.publish(b"a")
    client.get()

    client.reject(1)

    assert client.broker.state.messages == 0


def test_a_rejected_message_goes_where_its_queue_says_although_an_ack_is_multiple() -> None:
    client = client_with_dead_letters()
    client.consume()
    client.publish(b"a", b"b", b"c")

    client.nack(2, multiple=True, requeue=False)

    assert client.drain("dead") == [b"a", b"b"]


def test_what_clients_wrote_into_the_record_does_no_harm() -> None:
    for nonsense in ("text", 5, [1, "x"], [{"queue": 5}], [{"count": "many", "queue": "q", "reason": "rejected"}], None):
        client = client_with_dead_letters()
        client.publish(b"a", headers={"x-death": nonsense})
        client.get()

        client.reject(1)

        delivery = client.get("dead")
        assert delivery is not None
        assert headers(delivery)["x-death"][0]["queue"] == "q"


def test_broken_properties_do_not_keep_a_message_from_dying() -> None:
    client = client_with_dead_letters(x_message_ttl=0)
    broken = Message("", "q", b"\x20\x00\x00\x00\x00\xffx", b"a", False, 0, None, 1)

    client.broker.state.publish(broken, START)
    client.broker.pump()

    assert death_of(client)["reason"] == "expired"


# --- going round ------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_back_by_itself_is_dropped() -> None:
    client = PureBroker().channel()
    client.declare(x_message_ttl=1000, x_dead_letter_exchange="", x_dead_letter_routing_key="other")
    client.declare("other", x_message_ttl=1000, x_dead_letter_exchange="", x_dead_letter_routing_key="q")
    client.publish(b"a")

    client.broker.wait(2.0)

    assert client.broker.state.messages == 0


def test_a_full_queue_that_is_its_own_dead_letter_queue_drops() -> None:
    for overflow in ("drop-head", "reject-publish-dlx"):
        client = PureBroker().channel()
        client.declare(x_max_length=1, x_overflow=overflow, x_dead_letter_exchange="", x_dead_letter_routing_key="q")

        client.publish(b"a", b"b")

        assert client.broker.ready() == 1


def test_a_message_that_somebody_rejected_on_its_way_may_come_again() -> None:
    deaths = [{"queue": "wait", "reason": "expired"}, {"queue": "q", "reason": "rejected"}]
    expired = [{"queue": "wait", "reason": "expired"}, {"queue": "q", "reason": "maxlen"}]

    assert not returns_by_itself(deaths, "q")
    assert returns_by_itself(expired, "q")
    assert returns_by_itself(deaths, "wait")
    assert not returns_by_itself(expired, "elsewhere")


@pytest.mark.timeout(20)
def test_a_circle_of_full_queues_ends_also_for_what_was_rejected_before_it() -> None:
    client = PureBroker().channel()
    client.declare(x_dead_letter_exchange="", x_dead_letter_routing_key="a")
    client.declare("a", x_max_length=0, x_dead_letter_exchange="", x_dead_letter_routing_key="b")
    client.declare("b", x_max_length=0, x_dead_letter_exchange="", x_dead_letter_routing_key="a")
    client.publish(b"a")
    client.get()

    client.reject(1)

    assert client.broker.state.messages == 0


def test_a_long_chain_of_full_queues_is_no_deep_call() -> None:
    client = PureBroker().channel()
    for number in range(200):
        client.declare(f"q{number}", x_max_length=0, x_dead_letter_exchange="", x_dead_letter_routing_key=f"q{number + 1}")
    client.declare("q200")

    client.publish(b"a", key="q0")

    assert client.broker.ready("q200") == 1


# --- everything else stays as it was --------------------------------------------------------------------------------------

TEXTS = st.one_of(st.none(), st.text(max_size=20))
PROPERTIES = st.builds(
    Properties,
    content_type=TEXTS,
    content_encoding=TEXTS,
    headers=st.dictionaries(
        st.text(min_size=1, max_size=8), st.one_of(st.integers(-(2**40), 2**40), st.text(max_size=9), st.booleans()), max_size=4
    ),
    delivery_mode=st.sampled_from([None, 1, 2]),
    priority=st.sampled_from([None, 0, 9]),
    correlation_id=TEXTS,
    reply_to=TEXTS,
    expiration=st.sampled_from([None, "1000"]),
    message_id=TEXTS,
    timestamp=st.sampled_from([None, 1_700_000_000]),
    type=TEXTS,
    user_id=TEXTS,
    app_id=TEXTS,
    cluster_id=TEXTS,
)


@given(PROPERTIES)
def test_properties_that_are_taken_apart_are_put_together_again_as_they_were(properties: Properties) -> None:
    raw = encode(properties)

    assert split(raw).join() == raw


@given(PROPERTIES)
def test_dying_and_counting_change_nothing_but_the_headers_and_the_expiration(properties: Properties) -> None:
    original = Message("e", "k", encode(properties), b"body", True, 3, 1.0, 1)

    dead = dead_lettered(original, "q", "expired", exchange="x", key=None, now=START).message
    again = counted(original, 7)

    def others(raw: bytes) -> list[Any]:
        found = decode(raw)
        return [getattr(found, name) for name in found.__slots__ if name not in ("headers", "expiration")]

    assert others(dead.properties) == others(again.properties) == others(original.properties)
    assert decode(again.properties).headers == {**properties.headers, "x-delivery-count": 7}
    assert decode(again.properties).expiration == properties.expiration
    assert (dead.body, dead.persistent, dead.priority, dead.expiration) == (b"body", True, 3, None)


@given(st.binary(max_size=60))
def test_any_bytes_for_properties_can_be_taken_apart(raw: bytes) -> None:
    split(raw).join()
