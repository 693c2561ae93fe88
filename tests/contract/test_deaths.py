"""What a message tells of its deaths: the header x-death and those of the first one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pika import BasicProperties
from pika.exceptions import NackError

from tests.contract.client import Channel, Client, Given, put, take, unique

SHORT = 50


@pytest.fixture
def graveyard(client: Client) -> str:
    return client.queue()


def to(graveyard: str, **arguments: object) -> dict[str, object]:
    """The arguments of a queue whose dead messages go to that one."""
    more = {name.replace("_", "-"): value for name, value in arguments.items()}
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard, **more}


def refuse(channel: Channel, queue: str) -> None:
    channel.basic_reject(take(channel, queue).tag, requeue=False)


def deaths(given: Given) -> list[dict[str, Any]]:
    """The table of deaths without their times."""
    return [{name: value for name, value in death.items() if name != "time"} for death in given.headers["x-death"]]


def first(given: Given) -> tuple[Any, ...]:
    return tuple(given.headers.get(f"x-first-death-{what}") for what in ("exchange", "queue", "reason"))


def death(queue: str, reason: str, count: int = 1, **more: Any) -> dict[str, object]:
    return {"count": count, "reason": reason, "queue": queue, "exchange": "", "routing-keys": [queue], **more}


def limit(milliseconds: int) -> dict[str, Any]:
    return {"original-expiration": str(milliseconds)}


def test_a_refused_message_tells_where_it_died_of_what(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0", headers={"mine": 1})

    refuse(channel, queue)

    dead = take(channel, graveyard)
    assert deaths(dead) == [death(queue, "rejected")]
    assert first(dead) == ("", queue, "rejected")
    assert dead.headers["mine"] == 1


def test_a_death_tells_when(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0")

    refuse(channel, queue)

    (told,) = take(channel, graveyard).headers["x-death"]
    assert abs(datetime.now(timezone.utc) - told["time"]) < timedelta(seconds=60)


def test_an_expired_message_tells_the_limit_that_it_had(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))

    put(channel, queue, b"0", expiration=str(SHORT))

    assert deaths(take(channel, graveyard)) == [death(queue, "expired", **limit(SHORT))]


def test_a_message_that_the_queue_expired_had_no_limit_of_its_own(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard, x_message_ttl=SHORT))

    put(channel, queue, b"0")

    assert deaths(take(channel, graveyard)) == [death(queue, "expired")]


def test_a_refused_message_tells_its_limit_too(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0", expiration="60000")

    refuse(channel, queue)

    assert deaths(take(channel, graveyard)) == [death(queue, "rejected", **limit(60_000))]


def test_a_message_that_outgrew_its_queue_says_so(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard, x_max_length=1))

    put(channel, queue, b"0", b"1")

    assert deaths(take(channel, graveyard)) == [death(queue, "maxlen")]


def test_so_does_one_that_had_no_time_either(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard, x_max_length=0, x_message_ttl=0))

    put(channel, queue, b"0")

    assert deaths(take(channel, graveyard)) == [death(queue, "maxlen")]


def test_so_does_one_that_was_not_let_in(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard, x_max_length=0, x_overflow="reject-publish-dlx"))

    with pytest.raises(NackError):
        put(channel, queue, b"0")

    assert deaths(take(channel, graveyard)) == [death(queue, "maxlen")]


def test_a_death_tells_the_exchange_and_the_keys_that_the_message_came_by(client: Client, channel: Channel, graveyard: str) -> None:
    exchange = client.exchange("topic")
    queue = client.queue(to(graveyard))
    channel.queue_bind(queue, exchange, "a.*")
    channel.basic_publish(exchange, "a.b", b"0", _headers({"CC": ["a.c", "b"], "BCC": ["d"]}))

    refuse(channel, queue)

    dead = take(channel, graveyard)
    assert deaths(dead) == [{**death(queue, "rejected"), "exchange": exchange, "routing-keys": ["a.b", "a.c", "b"]}]
    assert first(dead) == (exchange, queue, "rejected")


def test_the_last_death_comes_first(client: Client, channel: Channel, graveyard: str) -> None:
    second = client.queue(to(graveyard))
    queue = client.queue(to(second, x_message_ttl=SHORT))
    put(channel, queue, b"0")

    refuse(channel, second)

    dead = take(channel, graveyard)
    assert deaths(dead) == [death(second, "rejected"), death(queue, "expired")]
    assert first(dead) == ("", queue, "expired")


def test_whatever_came_before_the_last_death_comes_first(client: Client, channel: Channel, graveyard: str) -> None:
    third = client.queue(to(graveyard))
    second = client.queue(to(third))
    queue = client.queue(to(second))
    put(channel, queue, b"0")

    for each in (queue, second, third):
        refuse(channel, each)

    last, *others = [each["queue"] for each in deaths(take(channel, graveyard))]
    assert last == third
    assert sorted(others) == sorted([queue, second])  # RabbitMQ has them in an order of its own


def test_deaths_of_one_kind_are_counted(client: Client, channel: Channel) -> None:
    work, wait = unique("queue"), unique("queue")
    client.queue(to(wait), name=work)
    client.queue(to(work, x_message_ttl=SHORT), name=wait)
    put(channel, work, b"0")

    for count in (1, 2, 3):
        refuse(channel, work)
        again = take(channel, work)
        assert deaths(again) == [death(wait, "expired", count), death(work, "rejected", count)]
        assert first(again) == ("", work, "rejected")
        channel.basic_reject(again.tag, requeue=True)


def test_deaths_in_one_queue_of_two_causes_are_two(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0", expiration=str(SHORT))
    first_time = take(channel, graveyard)
    channel.basic_publish("", queue, b"0", BasicProperties(headers=first_time.headers))

    refuse(channel, queue)

    assert deaths(take(channel, graveyard)) == [
        death(queue, "rejected"),
        death(queue, "expired", **limit(SHORT)),
    ]


def test_a_publisher_may_hand_on_the_deaths_that_it_was_told(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    told = [{"queue": "elsewhere", "reason": "expired", "count": 5, "exchange": "", "routing-keys": ["elsewhere"]}]
    put(channel, queue, b"0", headers={"x-death": told, "x-first-death-queue": "elsewhere"})

    refuse(channel, queue)

    dead = take(channel, graveyard)
    assert deaths(dead) == [death(queue, "rejected"), *told]
    assert first(dead) == (None, "elsewhere", None)


def test_deaths_that_make_no_sense_are_left_out(client: Client, channel: Channel, graveyard: str) -> None:
    queue = client.queue(to(graveyard))
    put(channel, queue, b"0", headers={"x-death": "of boredom"})

    refuse(channel, queue)

    assert deaths(take(channel, graveyard)) == [death(queue, "rejected")]


def _headers(headers: dict[str, Any], **properties: Any) -> Any:
    return BasicProperties(headers=headers, **properties)
