"""How much a queue may hold, and what becomes of the rest."""

from __future__ import annotations

import pytest
from pika.exceptions import NackError

from tests.contract.client import Channel, Client, get, get_all, put, ready, take, wait_ready


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def queue_of(client: Client, kind: str, arguments: dict[str, object]) -> str:
    return client.quorum_queue(arguments) if kind == "quorum" else client.queue(arguments)


@pytest.mark.parametrize("overflow", [{}, {"x-overflow": "drop-head"}])
def test_a_queue_that_is_full_drops_its_oldest(client: Client, channel: Channel, kind: str, overflow: dict[str, str]) -> None:
    queue = queue_of(client, kind, {"x-max-length": 3, **overflow})

    put(channel, queue, *[str(number).encode() for number in range(10)])

    assert get_all(channel, queue) == [b"7", b"8", b"9"]


def test_a_queue_is_full_by_bytes_too(client: Client, channel: Channel, kind: str) -> None:
    queue = queue_of(client, kind, {"x-max-length-bytes": 10})

    put(channel, queue, b"aaaa", b"bbbb", b"cccc")

    assert get_all(channel, queue) == [b"bbbb", b"cccc"]


def test_only_bodies_count_as_bytes(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length-bytes": 10})

    put(channel, queue, b"aaaaa", b"bbbbb", headers={"long": "x" * 1000})

    assert get_all(channel, queue) == [b"aaaaa", b"bbbbb"]


def test_a_message_larger_than_its_queue_is_dropped(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length-bytes": 10})

    put(channel, queue, b"a", b"x" * 11)

    assert ready(channel, queue) == 0


def test_whichever_limit_is_met_first_holds(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length": 2, "x-max-length-bytes": 10})

    put(channel, queue, b"a", b"b", b"c")
    assert get_all(channel, queue) == [b"b", b"c"]

    put(channel, queue, b"aaaaaaaa", b"bbbbbbbb")
    assert get_all(channel, queue) == [b"bbbbbbbb"]


def test_a_queue_of_no_length_holds_nothing(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length": 0})

    put(channel, queue, b"0")

    assert ready(channel, queue) == 0


def test_what_is_unsettled_does_not_count(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length": 2})
    put(channel, queue, b"0", b"1")
    take(channel, queue)

    put(channel, queue, b"2")

    assert get_all(channel, queue) == [b"1", b"2"]


def test_what_comes_back_to_a_full_queue_is_the_oldest(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length": 2})
    put(channel, queue, b"0", b"1")
    first = take(channel, queue)
    put(channel, queue, b"2")

    channel.basic_nack(first.tag, requeue=True)

    wait_ready(channel, queue, 2)
    assert get_all(channel, queue) == [b"1", b"2"]


def test_a_full_queue_drops_no_more_than_it_must(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length": 1, "x-max-priority": 2})

    put(channel, queue, b"stays")
    put(channel, queue, b"overdue, and the head", priority=2, expiration="0")

    assert get_all(channel, queue) == [b"stays"]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_a_queue_that_rejects_keeps_its_oldest(client: Client, channel: Channel, overflow: str) -> None:
    queue = client.queue({"x-max-length": 2, "x-overflow": overflow})
    put(channel, queue, b"0", b"1")

    for _ in range(2):
        with pytest.raises(NackError):
            put(channel, queue, b"2")

    assert get_all(channel, queue) == [b"0", b"1"]


def test_a_queue_that_rejected_takes_again_when_there_is_room(client: Client, channel: Channel) -> None:
    queue = client.queue({"x-max-length": 1, "x-overflow": "reject-publish"})
    put(channel, queue, b"0")
    with pytest.raises(NackError):
        put(channel, queue, b"1")

    get_all(channel, queue)
    put(channel, queue, b"2")

    assert get_all(channel, queue) == [b"2"]


def test_without_confirms_a_rejected_message_is_gone_without_a_word(client: Client, channel: Channel) -> None:
    queue, silent = client.queue({"x-max-length": 1, "x-overflow": "reject-publish"}), client.open(confirms=False)

    put(silent, queue, b"0", b"1")
    silent.basic_qos()

    wait_ready(channel, queue, 1)
    assert get_all(channel, queue) == [b"0"]
    assert get(channel, queue) is None
