"""A delivery is settled once: what ack, nack, reject and recover do, and which tags they may name."""

from __future__ import annotations

import pytest

from tests.contract.client import Channel, Client, Inbox, get, get_all, put, ready, refused, settle, take, wait_ready

KINDS = ["classic", "quorum"]


@pytest.fixture(params=KINDS)
def queue(request: pytest.FixtureRequest, client: Client) -> str:
    """A queue of each kind with three messages."""
    name = client.quorum_queue() if request.param == "quorum" else client.queue()
    put(client.channel, name, b"1", b"2", b"3")
    return name


@pytest.fixture
def other(client: Client) -> Channel:
    """A channel on which the claims look at what the settling one left."""
    return client.open()


def deliver(client: Client, queue: str, count: int = 3) -> tuple[Channel, Inbox]:
    """A channel that holds `count` deliveries, with the tags 1 to `count`."""
    channel = client.open(prefetch=count)
    inbox = Inbox(channel, queue)
    assert [each.tag for each in inbox.wait(count)] == list(range(1, count + 1))
    return channel, inbox


# --- what becomes of the message --------------------------------------------------------------------


def test_a_message_acked_is_gone(client: Client, queue: str, other: Channel) -> None:
    channel, _ = deliver(client, queue)

    channel.basic_ack(2)
    channel.close()

    wait_ready(other, queue, 2)
    assert get_all(other, queue) == [b"1", b"3"]


def test_an_ack_of_several_covers_every_tag_up_to_its_own(client: Client, queue: str, other: Channel) -> None:
    channel, _ = deliver(client, queue)

    channel.basic_ack(2, multiple=True)
    channel.close()

    wait_ready(other, queue, 1)
    assert get_all(other, queue) == [b"3"]


def test_the_tag_zero_with_multiple_means_everything_so_far(client: Client, queue: str, other: Channel) -> None:
    channel, inbox = deliver(client, queue)

    channel.basic_ack(0, multiple=True)
    put(other, queue, b"4")

    assert [each.body for each in inbox.wait(4)][3:] == [b"4"]
    channel.close()
    wait_ready(other, queue, 1)
    assert get_all(other, queue) == [b"4"]


def test_the_tag_zero_with_multiple_is_right_even_if_nothing_is_unsettled(client: Client, channel: Channel) -> None:
    channel.basic_ack(0, multiple=True)
    channel.basic_nack(0, multiple=True)

    channel.basic_qos()


@pytest.mark.parametrize("how", ["reject", "nack"])
def test_a_message_refused_without_requeue_is_gone(client: Client, queue: str, other: Channel, how: str) -> None:
    channel, _ = deliver(client, queue)

    getattr(channel, f"basic_{how}")(2, requeue=False)
    channel.close()

    wait_ready(other, queue, 2)
    assert get_all(other, queue) == [b"1", b"3"]


def test_a_nack_of_several_covers_every_tag_up_to_its_own(client: Client, queue: str, other: Channel) -> None:
    channel, _ = deliver(client, queue)

    channel.basic_nack(2, multiple=True, requeue=False)
    channel.close()

    wait_ready(other, queue, 1)
    assert get_all(other, queue) == [b"3"]


@pytest.mark.parametrize("how", ["reject", "nack"])
def test_a_message_requeued_is_delivered_again_to_the_same_consumer(client: Client, queue: str, how: str) -> None:
    channel, inbox = deliver(client, queue)

    getattr(channel, f"basic_{how}")(2, requeue=True)

    again = inbox.wait(4)[3]
    assert (again.tag, again.body, again.redelivered) == (4, b"2", True)


def test_recover_returns_everything_unsettled(client: Client, queue: str) -> None:
    channel, inbox = deliver(client, queue)
    channel.basic_ack(2)

    channel.basic_recover(requeue=True)

    again = inbox.wait(5)[3:]
    assert [(each.body, each.redelivered) for each in again] == [(b"1", True), (b"3", True)]


def test_what_is_unsettled_when_its_channel_closes_is_ready_again(client: Client, queue: str, other: Channel) -> None:
    channel, _ = deliver(client, queue)
    assert ready(other, queue) == 0

    channel.close()

    wait_ready(other, queue, 3)
    first = take(other, queue)
    assert (first.body, first.redelivered) == (b"1", True)


def test_what_is_unsettled_when_its_connection_ends_is_ready_again(client: Client, stranger: Client, other: Channel) -> None:
    queue = client.queue(shared=True)
    put(other, queue, b"1", b"2")
    deliver(stranger, queue, 2)

    stranger.connection.close()

    wait_ready(other, queue, 2)
    assert get_all(other, queue) == [b"1", b"2"]


def test_without_acks_a_message_is_gone_once_it_is_delivered(client: Client, queue: str, other: Channel) -> None:
    channel = client.open()
    inbox = Inbox(channel, queue, auto_ack=True)
    inbox.exactly(b"1", b"2", b"3")

    channel.close()

    settle(other, queue)
    assert ready(other, queue) == 0


def test_a_message_got_without_ack_is_gone(client: Client, queue: str, other: Channel) -> None:
    channel = client.open()
    assert take(channel, queue, auto_ack=True).body == b"1"

    channel.close()

    assert get_all(other, queue) == [b"2", b"3"]


def test_messages_got_and_messages_delivered_share_one_row_of_tags(client: Client, queue: str) -> None:
    channel = client.open(prefetch=1)
    first = take(channel, queue)
    Inbox(channel, queue).wait(1)

    second = take(channel, queue)

    assert (first.tag, second.tag, second.body) == (1, 3, b"3")


# --- which tags may be named ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ack", "nack", "reject"])
def test_a_tag_that_was_never_given_closes_the_channel(client: Client, how: str) -> None:
    channel = client.open()

    with refused(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 5"):
        getattr(channel, f"basic_{how}")(5)


@pytest.mark.parametrize("multiple", [False, True])
def test_a_tag_beyond_the_last_closes_the_channel(client: Client, queue: str, other: Channel, multiple: bool) -> None:
    channel, _ = deliver(client, queue)

    with refused(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 4"):
        channel.basic_ack(4, multiple)

    wait_ready(other, queue, 3)


@pytest.mark.parametrize("how", ["ack", "nack", "reject"])
def test_settling_a_tag_twice_closes_the_channel(client: Client, queue: str, other: Channel, how: str) -> None:
    channel, _ = deliver(client, queue)
    channel.basic_ack(1)

    with refused(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        getattr(channel, f"basic_{how}")(1)

    wait_ready(other, queue, 2)


def test_a_tag_that_a_multiple_has_covered_is_settled(client: Client, queue: str) -> None:
    channel, _ = deliver(client, queue)
    channel.basic_ack(3, multiple=True)

    with refused(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 2"):
        channel.basic_ack(2)


def test_the_tag_of_a_multiple_must_itself_be_unsettled(client: Client, queue: str) -> None:
    channel, _ = deliver(client, queue)
    channel.basic_ack(3)

    with refused(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 3"):
        channel.basic_ack(3, multiple=True)


def test_the_tag_zero_alone_is_unknown(client: Client, queue: str) -> None:
    channel, _ = deliver(client, queue)

    with refused(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 0"):
        channel.basic_ack(0)


def test_a_tag_belongs_to_its_channel(client: Client, queue: str) -> None:
    deliver(client, queue)
    another = client.open()

    with refused(another, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        another.basic_ack(1)


def test_there_is_nothing_to_settle_without_acks(client: Client, queue: str) -> None:
    channel = client.open()
    Inbox(channel, queue, auto_ack=True).wait(3)

    with refused(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        channel.basic_ack(1)


def test_an_ack_frees_its_place_even_out_of_order(client: Client, queue: str, other: Channel) -> None:
    channel, inbox = deliver(client, queue)
    put(other, queue, b"4", b"5")

    channel.basic_ack(3)
    channel.basic_ack(1)

    inbox.exactly(b"1", b"2", b"3", b"4", b"5")
    assert get(other, queue) is None
