"""Channels: many of them, one after the other on a number, and what closing one does."""

from __future__ import annotations

from pika import spec

from tests.contract.client import Client, Inbox, get_all, put, unique, wait_ready
from tests.contract.wire import Wire

BYE = spec.Channel.Close(200, "bye", 0, 0)


def test_a_channel_number_can_be_used_again(wire: Wire) -> None:
    wire.open()

    for _ in range(20):
        wire.ask(1, BYE, spec.Channel.CloseOk)
        wire.open_channel(1)


def test_a_channel_begins_anew(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0", b"1")
    wire.open()
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    wire.send(1, spec.Basic.Get(queue=queue))
    assert wire.expect_message(spec.Basic.GetOk).method.delivery_tag == 1

    wire.ask(1, BYE, spec.Channel.CloseOk)
    wire.open_channel(1)

    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"not confirmed")
    wire.send(1, spec.Basic.Get(queue=queue))
    assert wire.expect_message(spec.Basic.GetOk).method.delivery_tag == 1


def test_many_channels_work_side_by_side(client: Client) -> None:
    channels = [client.open(confirms=False) for _ in range(100)]
    queues = [client.queue() for _ in channels]
    for number, (channel, queue) in enumerate(zip(channels, queues, strict=True)):
        put(channel, queue, str(number).encode())

    got = []
    for channel, queue in zip(channels, queues, strict=True):
        got += get_all(channel, queue)

    assert got == [str(number).encode() for number in range(100)]


def test_every_number_that_was_agreed_can_be_used(wire: Wire) -> None:
    wire.open(channel_max=2047)

    wire.open_channel(2047)


def test_a_channel_that_was_refused_something_can_be_opened_again(wire: Wire) -> None:
    wire.open()
    wire.send(1, spec.Queue.Declare(queue=unique("nowhere"), passive=True))

    assert wire.expect(spec.Channel.Close, 1).reply_code == 404
    wire.send(1, spec.Channel.CloseOk())

    wire.open_channel(1)


def test_a_refusal_names_the_method_that_was_refused(wire: Wire) -> None:
    wire.open()
    nowhere = unique("nowhere")

    wire.send(1, spec.Queue.Declare(queue=nowhere, passive=True))

    close = wire.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{nowhere}' in vhost '/'")
    assert (close.class_id, close.method_id) == (50, 10)


def test_what_comes_after_a_refusal_is_not_done(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()

    wire.send(1, spec.Basic.Ack(9))
    wire.publish(1, spec.Basic.Publish(routing_key=queue), b"too late")
    wire.send(1, spec.Queue.Declare(queue=queue, passive=True))
    wire.send(1, spec.Queue.Delete(queue=queue))

    wire.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 9")
    wire.open_channel(1)
    assert wire.ask(1, spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).message_count == 0


def test_two_that_close_at_once_are_both_answered(wire: Wire) -> None:
    wire.open()

    wire.send(1, spec.Basic.Ack(9), BYE)

    wire.expect(spec.Channel.Close, 1)
    wire.expect(spec.Channel.CloseOk, 1)
    wire.send(1, spec.Channel.CloseOk())
    wire.open_channel(1)


def test_a_refusal_on_one_channel_leaves_the_others(client: Client) -> None:
    queue, other = client.queue(), client.open()
    inbox = Inbox(other, queue)
    broken = client.open(confirms=False)
    broken.basic_ack(9)
    put(client.channel, queue, b"0")

    other.basic_ack(inbox.wait(1)[0].tag)

    inbox.exactly(b"0")


def test_what_a_refused_channel_held_is_ready_again(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0", b"1")
    wire.open()
    wire.ask(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
    for _ in range(2):
        wire.expect_message(spec.Basic.Deliver)

    wire.send(1, spec.Basic.Ack(1), spec.Basic.Ack(1))

    wire.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1")
    wait_ready(client.channel, queue, 1)
    assert get_all(client.channel, queue) == [b"1"]


def test_a_client_that_is_cut_off_gives_everything_back(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0")
    wire.open()
    wire.ask(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
    wire.expect_message(spec.Basic.Deliver)

    wire.cut()

    wait_ready(client.channel, queue, 1)


def test_a_half_sent_message_is_forgotten_with_its_client(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    wire.open()
    wire.send(1, spec.Basic.Publish(routing_key=queue))

    wire.cut()
    put(client.channel, queue, b"0")

    assert get_all(client.channel, queue) == [b"0"]


def test_flow_is_always_on(wire: Wire) -> None:
    wire.open()

    assert wire.ask(1, spec.Channel.Flow(True), spec.Channel.FlowOk).active is True


def test_prefetch_of_a_channel_is_gone_with_it(client: Client, wire: Wire) -> None:
    queue = client.queue(shared=True)
    put(client.channel, queue, b"0", b"1")
    wire.open()
    wire.ask(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    wire.ask(1, BYE, spec.Channel.CloseOk)
    wire.open_channel(1)

    wire.ask(1, spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)

    for _ in range(2):
        wire.expect_message(spec.Basic.Deliver)
