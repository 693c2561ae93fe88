"""Queues: declaring, finding, purging and deleting them."""

from __future__ import annotations

import re

import pytest

from tests.contract.client import (
    Channel,
    Client,
    Inbox,
    get,
    get_all,
    hung_up,
    publish,
    put,
    ready,
    refused,
    take,
    unique,
)

# --- declaring --------------------------------------------------------------------------------------


def test_a_new_queue_is_empty_and_unconsumed(channel: Channel) -> None:
    name = unique("queue")

    answer = channel.queue_declare(name, exclusive=True).method

    assert (answer.queue, answer.message_count, answer.consumer_count) == (name, 0, 0)


@pytest.mark.parametrize("passive", [False, True])
def test_declaring_again_tells_what_it_holds(client: Client, channel: Channel, passive: bool) -> None:
    queue = client.queue()
    put(channel, queue, b"0", b"1", b"2")
    Inbox(client.open(prefetch=1), queue).wait(1)

    answer = channel.queue_declare(queue, passive=passive, exclusive=True).method

    assert (answer.queue, answer.message_count, answer.consumer_count) == (queue, 2, 1)


def test_a_queue_without_a_name_is_given_one(channel: Channel) -> None:
    first, second = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))

    assert re.fullmatch(r"amq\.gen-[\w-]{22}", first)
    assert first != second


def test_a_queue_that_was_given_its_name_is_found_by_it_but_not_declared(client: Client) -> None:
    channel = client.open()
    name = channel.queue_declare("", exclusive=True).method.queue

    assert channel.queue_declare(name, passive=True).method.queue == name

    with refused(channel, 403, f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"):
        channel.queue_declare(name, exclusive=True)


def test_no_name_means_the_queue_declared_last_on_the_channel(client: Client, channel: Channel) -> None:
    client.queue()
    last = client.queue()
    channel.queue_bind("", "amq.direct", last)

    publish(channel, "amq.direct", last, b"0", b"1", b"2")

    assert ready(channel, last) == 3
    assert get(channel, "", auto_ack=True) is not None
    assert channel.queue_purge("").method.message_count == 2
    channel.queue_delete("")
    with refused(channel, 404, f"NOT_FOUND - no queue '{last}' in vhost '/'"):
        channel.queue_declare(last, passive=True)


def test_without_a_queue_declared_no_name_means_nothing(client: Client) -> None:
    channel = client.open()

    with refused(channel, 404, "NOT_FOUND - no previously declared queue"):
        channel.basic_get("")


def test_a_name_may_have_255_bytes_and_any_letters(client: Client, channel: Channel) -> None:
    name = (unique("größe-☃-") + "x" * 255).encode()[:255].decode()
    client.queue(name=name)
    put(channel, name, b"0")

    assert take(channel, name).routing_key == name


# --- finding ----------------------------------------------------------------------------------------


def test_declaring_passively_makes_nothing(client: Client) -> None:
    channel, nowhere = client.open(), unique("nowhere")

    with refused(channel, 404, f"NOT_FOUND - no queue '{nowhere}' in vhost '/'"):
        channel.queue_declare(nowhere, passive=True)


def test_declaring_passively_compares_nothing(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length": 5}, shared=True)

    channel.queue_declare(queue, passive=True, durable=True, auto_delete=True, arguments={"x-max-length": 6})


def test_names_that_begin_with_amq_are_the_brokers(client: Client) -> None:
    channel, name = client.open(), f"amq.{unique('queue')}"

    with refused(channel, 403, f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"):
        channel.queue_declare(name)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "invalid property 'non-durable' for queue '{}' in vhost '/'"),
        ({"durable": True, "exclusive": True}, "invalid property 'exclusive-owner' for queue '{}' in vhost '/'"),
        ({"durable": True, "auto_delete": True}, "invalid property 'auto-delete' for queue '{}' in vhost '/'"),
    ],
)
def test_a_quorum_queue_is_durable_and_everybodys(client: Client, options: dict[str, bool], text: str) -> None:
    channel, name = client.open(), unique("queue")

    with refused(channel, 406, f"PRECONDITION_FAILED - {text.format(name)}"):
        channel.queue_declare(name, arguments={"x-queue-type": "quorum"}, **options)


def test_a_quorum_queue_has_a_name(client: Client) -> None:
    channel = client.open()

    with refused(channel, 406, "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"):
        channel.queue_declare("", durable=True, arguments={"x-queue-type": "quorum"})


# --- purging ----------------------------------------------------------------------------------------


def test_purging_tells_how_many_it_removed(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, b"0", b"1", b"2")

    assert channel.queue_purge(queue).method.message_count == 3
    assert ready(channel, queue) == 0


def test_purging_spares_what_is_unsettled(client: Client, channel: Channel) -> None:
    queue, holder = client.queue(), client.open()
    put(channel, queue, b"0", b"1", b"2")
    assert get(holder, queue) is not None

    assert channel.queue_purge(queue).method.message_count == 2

    holder.basic_nack(1, requeue=True)
    assert take(channel, queue).body == b"0"


def test_a_queue_that_is_not_there_cannot_be_purged(client: Client) -> None:
    channel, nowhere = client.open(), unique("nowhere")

    with refused(channel, 404, f"NOT_FOUND - no queue '{nowhere}' in vhost '/'"):
        channel.queue_purge(nowhere)


# --- deleting ---------------------------------------------------------------------------------------


def test_deleting_tells_how_many_were_ready(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, b"0", b"1", b"2")
    get(client.open(), queue)

    assert channel.queue_delete(queue).method.message_count == 2


def test_deleting_what_is_not_there_is_right(channel: Channel) -> None:
    assert channel.queue_delete(unique("nowhere")).method.message_count == 0


def test_a_queue_deleted_and_declared_again_is_a_new_one(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, b"0")
    channel.queue_bind(queue, "amq.direct", queue)

    channel.queue_delete(queue)
    client.queue(name=queue)
    publish(channel, "amq.direct", queue, b"1")

    assert ready(channel, queue) == 0


def test_a_queue_in_use_is_not_deleted_if_unused_is_asked_for(client: Client) -> None:
    queue, channel = client.queue(), client.open()
    Inbox(channel, queue)

    with refused(channel, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"):
        channel.queue_delete(queue, if_unused=True)


def test_a_queue_that_holds_messages_is_not_deleted_if_empty_is_asked_for(client: Client) -> None:
    queue, channel = client.queue(), client.open()
    put(channel, queue, b"0")

    with refused(channel, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"):
        channel.queue_delete(queue, if_empty=True)

    assert get_all(client.channel, queue) == [b"0"]


@pytest.mark.parametrize("flag", ["if_unused", "if_empty"])
def test_a_quorum_queue_is_deleted_without_conditions(client: Client, flag: str) -> None:
    queue = client.quorum_queue()

    words = f"queue.delete operations with {flag.replace('_', '-')} flag set are not supported by quorum queues"
    with hung_up(client.channel, 540, f"NOT_IMPLEMENTED - cannot delete queue '{queue}' in vhost '/'. {words}"):
        client.channel.queue_delete(queue, **{flag: True})


def test_an_unused_and_empty_queue_is_deleted_if_that_is_asked_for(client: Client, channel: Channel) -> None:
    queue = client.queue()

    channel.queue_delete(queue, if_unused=True, if_empty=True)

    with refused(channel, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"):
        channel.queue_declare(queue, passive=True)
