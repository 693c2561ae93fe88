"""Consumers: their tags, how they end, who may be one, and what is said when the broker ends one."""

from __future__ import annotations

import re

import pytest
from pika import spec

from tests.contract.client import Channel, Client, Inbox, consumers, get_all, hung_up, put, refused, settle, unique, wait_ready
from tests.contract.wire import Wire

NOTIFIED = {"consumer_cancel_notify": True}


# --- tags -------------------------------------------------------------------------------------------


def test_a_consumer_has_the_tag_that_it_chose(client: Client) -> None:
    assert Inbox(client.open(), client.queue(), consumer_tag="mine").tag == "mine"


def test_a_consumer_that_chose_none_is_given_a_tag(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()

    first = wire.ask(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
    second = wire.ask(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)

    assert re.fullmatch(r"amq\.ctag-[\w-]{22}", first.consumer_tag)
    assert first.consumer_tag != second.consumer_tag


def test_a_tag_is_used_once_on_a_channel(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.ask(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"), spec.Basic.ConsumeOk)

    wire.send(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"))

    wire.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'")


def test_two_channels_may_use_the_same_tag(client: Client, channel: Channel) -> None:
    queue = client.queue()
    inboxes = [Inbox(client.open(), queue, consumer_tag="mine") for _ in range(2)]

    put(channel, queue, b"0", b"1")

    assert [len(inbox.wait(1)) for inbox in inboxes] == [1, 1]


def test_a_tag_is_free_again_after_its_consumer_was_cancelled(client: Client) -> None:
    queue, consuming = client.queue(), client.open()
    consuming.basic_cancel(Inbox(consuming, queue, consumer_tag="mine").tag)

    assert Inbox(consuming, queue, consumer_tag="mine").tag == "mine"


# --- ends -------------------------------------------------------------------------------------------


def test_a_cancelled_consumer_is_given_nothing_more(client: Client, channel: Channel) -> None:
    queue, consuming = client.queue(), client.open()
    inbox = Inbox(consuming, queue)

    consuming.basic_cancel(inbox.tag)
    put(channel, queue, b"0")

    inbox.exactly()
    assert consumers(channel, queue) == 0


def test_what_a_cancelled_consumer_holds_can_still_be_settled(client: Client, channel: Channel) -> None:
    queue = client.queue()
    put(channel, queue, b"0", b"1")
    consuming = client.open(prefetch=2)
    inbox = Inbox(consuming, queue)
    inbox.wait(2)
    consuming.basic_cancel(inbox.tag)

    consuming.basic_ack(1)
    consuming.close()

    wait_ready(channel, queue, 1)
    assert get_all(channel, queue) == [b"1"]


def test_cancelling_a_consumer_that_is_not_there_is_right(wire: Wire) -> None:
    wire.open()

    assert wire.ask(1, spec.Basic.Cancel("nobody"), spec.Basic.CancelOk).consumer_tag == "nobody"


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_consumers_of_a_deleted_queue_are_told(client: Client, channel: Channel, kind: str) -> None:
    queue = client.queue() if kind == "classic" else client.quorum_queue()
    inbox = Inbox(client.open(), queue)

    channel.queue_delete(queue)

    inbox.wait_cancelled()


def test_the_notice_names_the_consumer_and_wants_no_answer(client: Client, channel: Channel, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open(NOTIFIED)
    wire.ask(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"), spec.Basic.ConsumeOk)

    channel.queue_delete(queue)

    notice = wire.expect(spec.Basic.Cancel, 1)
    assert (notice.consumer_tag, notice.nowait) == ("mine", True)


def test_a_client_that_does_not_know_the_notice_is_told_nothing(client: Client, channel: Channel, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.ask(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"), spec.Basic.ConsumeOk)

    channel.queue_delete(queue)

    wire.ask(1, spec.Basic.Qos(), spec.Basic.QosOk)


def test_what_is_unsettled_of_a_deleted_queue_may_still_be_settled(client: Client, channel: Channel) -> None:
    queue, consuming = client.queue(), client.open()
    put(channel, queue, b"0", b"1")
    inbox = Inbox(consuming, queue)
    inbox.wait(2)
    channel.queue_delete(queue)
    inbox.wait_cancelled()

    consuming.basic_ack(1)
    consuming.basic_nack(2, requeue=True)

    consuming.basic_qos()


def test_a_channel_that_closes_takes_its_consumers_with_it(client: Client, channel: Channel) -> None:
    queue, consuming = client.queue(), client.open()
    Inbox(consuming, queue)
    Inbox(consuming, queue)
    assert consumers(channel, queue) == 2

    consuming.close()

    settle(channel, queue)
    assert consumers(channel, queue) == 0


# --- who may be one ---------------------------------------------------------------------------------


def test_an_exclusive_consumer_tolerates_no_other(client: Client, stranger: Client) -> None:
    queue = client.queue(shared=True)
    Inbox(client.open(), queue, exclusive=True)

    with refused(stranger.channel, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
        Inbox(stranger.channel, queue)


def test_where_others_consume_nobody_becomes_exclusive(client: Client) -> None:
    queue, another = client.queue(), client.open()
    Inbox(client.open(), queue)

    with refused(another, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
        Inbox(another, queue, exclusive=True)


def test_after_the_exclusive_consumer_others_may_come(client: Client, channel: Channel) -> None:
    queue, consuming = client.queue(), client.open()
    consuming.basic_cancel(Inbox(consuming, queue, exclusive=True).tag)
    inbox = Inbox(client.open(), queue)

    put(channel, queue, b"0")

    inbox.exactly(b"0")


def test_an_exclusive_consumer_keeps_nobody_from_getting(client: Client, channel: Channel) -> None:
    queue = client.queue()
    Inbox(client.open(prefetch=1), queue, exclusive=True)
    put(channel, queue, b"0", b"1")

    assert get_all(channel, queue) == [b"1"]


def test_a_queue_that_is_not_there_cannot_be_consumed(client: Client) -> None:
    channel, nowhere = client.open(), unique("nowhere")

    with refused(channel, 404, f"NOT_FOUND - no queue '{nowhere}' in vhost '/'"):
        Inbox(channel, nowhere)


def test_arguments_that_mean_nothing_to_the_broker_are_no_matter(client: Client, channel: Channel) -> None:
    queue = client.queue()
    inbox = Inbox(client.open(), queue, arguments={"x-whatever": 3})

    put(channel, queue, b"0")

    inbox.exactly(b"0")


def test_a_recovery_without_requeue_is_not_implemented(client: Client) -> None:
    with hung_up(client.channel, 540, "NOT_IMPLEMENTED - requeue=false"):
        client.channel.basic_recover(requeue=False)
