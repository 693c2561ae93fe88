"""What a publisher is told: confirms, refusals and returns, and in which order."""

from __future__ import annotations

import pytest
from pika import BasicProperties, frame, spec
from pika.exceptions import NackError, UnroutableError

from tests.contract.client import Channel, Client, get_all, put, ready, refused
from tests.contract.wire import Wire, published

PERSISTENT = BasicProperties(delivery_mode=2)


def confirming(wire: Wire) -> Wire:
    wire.open()
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    return wire


def settled(wire: Wire, count: int) -> dict[int, str]:
    """What became of the first `count` publishes, by their numbers."""
    fates: dict[int, str] = {}
    while len(fates) < count:
        found = wire.read()
        assert isinstance(found.method, (spec.Basic.Ack, spec.Basic.Nack)), found
        last = found.method.delivery_tag
        tags = [tag for tag in range(1, last + 1) if tag not in fates] if found.method.multiple else [last]
        for tag in tags:
            assert tag not in fates, "a publish is settled twice"
            fates[tag] = found.method.NAME
    return fates


# --- confirms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["transient", "durable", "quorum"])
@pytest.mark.parametrize("delivery_mode", [1, 2])
def test_every_publish_is_confirmed_once(client: Client, wire: Wire, kind: str, delivery_mode: int) -> None:
    queue = client.quorum_queue() if kind == "quorum" else client.queue(shared=True, durable=kind == "durable")
    properties = BasicProperties(delivery_mode=delivery_mode)
    confirming(wire)

    for _ in range(50):
        wire.publish(1, spec.Basic.Publish(routing_key=queue), b"x", properties)

    assert settled(wire, 50) == dict.fromkeys(range(1, 51), "Basic.Ack")
    assert ready(client.channel, queue) == 50


def test_confirms_count_from_the_choice_to_have_them(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"before")
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)

    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"after")

    assert wire.expect(spec.Basic.Ack, 1).delivery_tag == 1


def test_choosing_confirms_again_changes_nothing(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    confirming(wire)
    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"0")
    assert wire.expect(spec.Basic.Ack, 1).delivery_tag == 1

    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"1")

    assert wire.expect(spec.Basic.Ack, 1).delivery_tag == 2


def test_each_channel_counts_for_itself(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    confirming(wire).open_channel(2)
    wire.ask(2, spec.Confirm.Select(), spec.Confirm.SelectOk)

    for number in (1, 2):
        wire.publish(number, spec.Basic.Publish(routing_key=queue), b"0")
        assert wire.expect(spec.Basic.Ack, number).delivery_tag == 1


def test_a_message_that_no_queue_wants_is_confirmed(wire: Wire) -> None:
    confirming(wire)

    wire.publish(1, spec.Basic.Publish(exchange="amq.direct", routing_key="nobody"), b"0", PERSISTENT)

    assert wire.expect(spec.Basic.Ack, 1).delivery_tag == 1


def test_a_confirmed_message_is_ready(client: Client) -> None:
    queue = client.queue(shared=True, durable=True)

    for number in range(20):
        put(client.channel, queue, str(number).encode(), delivery_mode=2)
        assert ready(client.channel, queue) == number + 1


def test_a_message_confirmed_by_several_queues_is_confirmed_once(client: Client, wire: Wire) -> None:
    exchange = client.exchange("fanout")
    for durable in (False, True):
        client.channel.queue_bind(client.queue(shared=True, durable=durable), exchange)
    confirming(wire)

    for _ in range(5):
        wire.publish(1, spec.Basic.Publish(exchange=exchange), b"0", PERSISTENT)

    assert settled(wire, 5) == dict.fromkeys(range(1, 6), "Basic.Ack")
    wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


def test_without_the_choice_nothing_is_confirmed(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()

    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"0")

    wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_a_full_queue_that_rejects_says_so(client: Client, overflow: str) -> None:
    queue = client.queue({"x-max-length": 1, "x-overflow": overflow})
    put(client.channel, queue, b"0")

    with pytest.raises(NackError):
        put(client.channel, queue, b"1")

    assert get_all(client.channel, queue) == [b"0"]


def test_one_queue_that_rejects_is_enough_for_a_refusal(client: Client, channel: Channel) -> None:
    exchange = client.exchange("fanout")
    full, roomy = client.queue({"x-max-length": 0, "x-overflow": "reject-publish"}), client.queue()
    for queue in (full, roomy):
        channel.queue_bind(queue, exchange)

    with pytest.raises(NackError):
        channel.basic_publish(exchange, "", b"0")

    assert get_all(channel, roomy) == [b"0"]


# --- returns ----------------------------------------------------------------------------------------


def test_a_mandatory_message_that_no_queue_wants_is_returned(wire: Wire) -> None:
    wire.open()

    wire.publish(
        1,
        spec.Basic.Publish(exchange="amq.direct", routing_key="nobody", mandatory=True),
        b"body",
        BasicProperties(message_id="7", priority=3),
    )

    returned = wire.expect_message(spec.Basic.Return)
    method = returned.method
    assert (method.reply_code, method.reply_text, method.exchange, method.routing_key) == (312, "NO_ROUTE", "amq.direct", "nobody")
    assert (returned.body, returned.properties.message_id, returned.properties.priority) == (b"body", "7", 3)


def test_a_return_comes_before_the_confirm_of_the_same_message(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    confirming(wire)

    wire.send_bytes(
        published(1, spec.Basic.Publish(routing_key=queue), b"0")
        + published(1, spec.Basic.Publish(exchange="amq.direct", routing_key="nobody", mandatory=True), b"1")
        + published(1, spec.Basic.Publish(routing_key=queue), b"2")
    )

    seen: list[str | int] = []
    while 3 not in seen:
        found = wire.read()
        if isinstance(found, frame.Method):
            seen += ["returned"] if isinstance(found.method, spec.Basic.Return) else _tags(seen, found.method)
    assert seen.index("returned") < seen.index(2)


def _tags(seen: list[str | int], ack: spec.Basic.Ack) -> list[str | int]:
    first = 1 if ack.multiple else ack.delivery_tag
    return [tag for tag in range(first, ack.delivery_tag + 1) if tag not in seen]


def test_a_mandatory_message_that_a_queue_wants_is_not_returned(client: Client, channel: Channel) -> None:
    queue = client.queue()

    channel.basic_publish("", queue, b"0", mandatory=True)

    assert get_all(channel, queue) == [b"0"]


def test_the_default_exchange_returns_as_well(client: Client, channel: Channel) -> None:
    with pytest.raises(UnroutableError) as caught:
        channel.basic_publish("", "nobody", b"0", mandatory=True)

    (returned,) = caught.value.messages
    assert (returned.method.exchange, returned.method.routing_key, returned.body) == ("", "nobody", b"0")


def test_a_message_that_is_not_mandatory_vanishes(channel: Channel) -> None:
    channel.basic_publish("", "nobody", b"0")


def test_immediate_is_not_implemented(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()

    wire.publish(1, spec.Basic.Publish(routing_key=queue, immediate=True), b"0")

    wire.expect_close(540, "NOT_IMPLEMENTED - immediate=true")


# --- what cannot be published -----------------------------------------------------------------------

EXPIRATIONS = [
    ("soon", "no_integer"),
    ("", "no_integer"),
    (" 5", "no_integer"),
    ("-1", "{value_negative,-1}"),
    ("1.5", '{leftover_string,".5"}'),
    ("5 ", '{leftover_string," "}'),
    ("315360000001", "{value_too_large,315360000001}"),
]


@pytest.mark.parametrize(("expiration", "why"), EXPIRATIONS)
def test_an_expiration_is_a_whole_number_of_milliseconds(client: Client, expiration: str, why: str) -> None:
    channel = client.open(confirms=False)

    with refused(channel, 406, f"PRECONDITION_FAILED - invalid expiration '{expiration}': {why}"):
        put(channel, "anywhere", b"0", expiration=expiration)


def test_a_message_says_no_other_user_than_its_own(client: Client) -> None:
    channel, queue = client.open(confirms=False), client.queue()
    put(channel, queue, b"0", user_id="guest")

    text = "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'"
    with refused(channel, 406, text):
        put(channel, queue, b"1", user_id="somebody")

    assert get_all(client.channel, queue) == [b"0"]


def test_there_are_two_delivery_modes(client: Client) -> None:
    channel = client.open(confirms=False)

    with refused(channel, 406, "PRECONDITION_FAILED - invalid message: {delivery_mode_unknown,3}"):
        put(channel, "anywhere", b"0", delivery_mode=3)
