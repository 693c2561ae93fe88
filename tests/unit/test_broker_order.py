"""Who is given which message, and when: order, prefetch, turns, priorities, a single active consumer."""

from __future__ import annotations

from hopd.broker.model import Limits
from tests.support.pure_broker import PureBroker, headers, message


def letters(first: str, last: str) -> list[bytes]:
    return [bytes((code,)) for code in range(ord(first), ord(last) + 1)]


# --- order ------------------------------------------------------------------------------------------------------------


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    client = PureBroker().channel()
    client.declare()
    client.publish(*letters("a", "c"))

    client.consume()
    client.publish(*letters("d", "e"))

    assert client.bodies() == letters("a", "e")
    assert [client.broker.ready(), client.broker.state.queues()[0].unsettled] == [0, 5]


def test_a_message_that_goes_back_goes_to_its_old_place() -> None:
    client = PureBroker().channel()
    client.declare()
    client.publish(*letters("a", "e"))
    client.prefetch(3)
    client.consume(tag="c")
    first, second, _ = client.deliveries()
    client.cancel("c")

    client.nack(second.tag)
    client.nack(first.tag)

    assert client.drain() == [b"a", b"b", b"d", b"e"]


def test_a_message_that_goes_back_comes_again_at_once_and_says_so() -> None:
    client = PureBroker().channel()
    client.declare()
    client.publish(b"a", b"b")
    client.prefetch(1)
    client.consume()
    (first,) = client.deliveries()

    client.reject(first.tag, requeue=True)

    (again,) = client.deliveries()
    assert (first.redelivered, again.redelivered, again.message.body) == (False, True, b"a")
    assert again.tag == first.tag + 1


def test_what_a_channel_had_unsettled_returns_when_it_closes_and_before_anything_newer() -> None:
    broker = PureBroker()
    first, second = broker.channel(), broker.channel()
    first.declare()
    first.consume()
    first.publish(*letters("a", "d"))
    first.ack(2)
    second.consume()
    first.publish(*letters("e", "f"))  # one to each
    assert second.bodies() == [b"f"]

    first.leave()

    assert second.bodies() == [b"a", b"c", b"d", b"e"]


def test_all_of_it_returns_before_anybody_is_given_some_of_it() -> None:
    broker = PureBroker()
    keeper, other = broker.channel(), broker.channel()
    keeper.declare()
    keeper.prefetch(5)
    keeper.consume()
    keeper.publish(*letters("a", "e"))
    other.prefetch(1)
    other.consume()

    keeper.close()

    assert other.bodies() == [b"a"]
    assert other.drain() == letters("b", "e")


def test_what_one_channel_gives_back_does_not_go_to_another_one_of_a_client_that_leaves() -> None:
    broker = PureBroker()
    client = broker.channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.consume()
    client.publish(b"a")
    second = broker.state.open_channel(client, 2)
    broker.state.consume(second, "q", "c", no_ack=False, exclusive=False, arguments={}, now=broker.now)

    client.leave()

    delivery = broker.channel().get()
    assert delivery is not None
    assert headers(delivery) == {"x-delivery-count": 1}


def test_what_one_consumer_gives_back_does_not_go_to_another_one_of_a_channel_that_closes() -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_queue_type="quorum", x_single_active_consumer=True)
    client.prefetch(1)
    client.consume(tag="active")
    client.consume(tag="next")
    client.publish(b"a", b"b")

    client.close()

    assert client.bodies() == [b"a"]
    other = client.broker.channel()
    other.consume()
    assert [headers(delivery) for delivery in other.deliveries()] == [{"x-delivery-count": 1}, {}]


def test_recover_gives_everything_unsettled_back() -> None:
    client = PureBroker().channel()
    client.declare()
    client.consume()
    client.publish(*letters("a", "c"))
    client.ack(2)
    client.deliveries()

    client.recover()

    assert [(each.tag, each.message.body, each.redelivered) for each in client.deliveries()] == [(4, b"a", True), (5, b"c", True)]


# --- settling ---------------------------------------------------------------------------------------------------------


def test_acks_may_come_in_any_order() -> None:
    client = PureBroker().channel()
    client.declare()
    client.consume()
    client.publish(*letters("a", "z"))

    for tag in [*range(26, 13, -1), *range(1, 14)]:
        client.ack(tag)

    assert client.broker.state.messages == client.broker.state.memory == 0


def test_multiple_settles_all_up_to_a_tag_and_with_tag_0_all_there_are() -> None:
    client = PureBroker().channel()
    client.declare()
    client.consume()
    client.publish(*letters("a", "e"))

    client.ack(1)
    client.ack(3, multiple=True)
    assert client.broker.state.messages == 2
    client.nack(0, multiple=True, requeue=False)

    assert client.broker.state.messages == 0


# --- prefetch ---------------------------------------------------------------------------------------------------------


def test_a_consumer_has_no_more_unsettled_than_its_prefetch() -> None:
    client = PureBroker().channel()
    client.declare()
    client.publish(*letters("a", "e"))
    client.prefetch(2)
    client.consume()

    assert client.bodies() == [b"a", b"b"]
    client.ack(2)
    assert client.bodies() == [b"c"]
    client.reject(1)
    assert client.bodies() == [b"d"]


def test_a_prefetch_holds_for_consumers_that_start_later_only() -> None:
    client = PureBroker().channel()
    client.declare()
    client.prefetch(1)
    client.consume(tag="one")
    client.prefetch(0)
    client.publish(*letters("a", "c"))

    assert client.bodies() == [b"a"]
    client.consume(tag="all")
    assert client.bodies() == [b"b", b"c"]


def test_a_prefetch_of_the_whole_channel_holds_for_all_its_consumers_together() -> None:
    client = PureBroker().channel()
    client.declare("one")
    client.declare("two")
    client.prefetch(3, whole_channel=True)
    client.consume("one")
    client.consume("two")
    client.publish(*letters("a", "c"), key="one")
    client.publish(*letters("d", "e"), key="two")

    assert client.bodies() == letters("a", "c")
    client.ack(1)
    assert client.bodies() == [b"d"]
    client.prefetch(4, whole_channel=True)
    assert client.bodies() == [b"e"]


def test_what_is_asked_for_does_not_count_towards_the_prefetch() -> None:
    client = PureBroker().channel()
    client.declare()
    client.prefetch(1, whole_channel=True)
    client.publish(*letters("a", "c"))
    assert client.get() is not None

    client.consume()

    assert client.bodies() == [b"b"]


def test_without_acks_there_is_no_prefetch_and_nothing_to_settle() -> None:
    client = PureBroker().channel()
    client.declare()
    client.prefetch(1)
    client.consume(no_ack=True)
    client.publish(*letters("a", "c"))

    assert client.bodies() == letters("a", "c")
    assert (client.channel.unsettled, client.broker.state.messages) == ({}, 0)


def test_a_consumer_of_a_quorum_queue_has_a_prefetch_even_when_it_asked_for_none() -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.publish(*[b""] * 2001)

    client.consume()

    assert len(client.bodies()) == 2000


# --- whose turn it is -------------------------------------------------------------------------------------------------


def test_consumers_take_turns() -> None:
    broker = PureBroker()
    clients = [broker.channel() for _ in range(3)]
    clients[0].declare()
    for client in clients:
        client.consume()

    clients[0].publish(*letters("a", "f"))

    assert [client.bodies() for client in clients] == [[b"a", b"d"], [b"b", b"e"], [b"c", b"f"]]


def test_who_has_no_room_is_passed_over() -> None:
    broker = PureBroker()
    busy, idle = broker.channel(), broker.channel()
    busy.declare()
    busy.prefetch(1)
    busy.consume()
    idle.consume()

    busy.publish(*letters("a", "d"))
    assert (busy.bodies(), idle.bodies()) == ([b"a"], [b"b", b"c", b"d"])
    busy.ack(1)
    busy.publish(*letters("e", "f"))

    assert (busy.bodies(), idle.bodies()) == ([b"f"], [b"e"])


def test_consumers_of_a_higher_priority_come_first_while_they_have_room() -> None:
    broker = PureBroker()
    low, high = broker.channel(), broker.channel()
    low.declare()
    low.consume()
    high.prefetch(2)
    high.consume(x_priority=5)

    low.publish(*letters("a", "d"))

    assert (high.bodies(), low.bodies()) == ([b"a", b"b"], [b"c", b"d"])
    high.ack(1)
    low.publish(b"e")
    assert (high.bodies(), low.bodies()) == ([b"e"], [])


def test_a_consumer_that_ended_gets_nothing_more_but_keeps_what_it_has() -> None:
    client = PureBroker().channel()
    client.declare()
    client.prefetch(1)
    client.consume(tag="c")
    client.publish(b"a", b"b")
    client.cancel("c")

    client.ack(1)

    assert client.bodies() == [b"a"]
    assert client.broker.ready() == 1


def test_a_single_active_consumer_gets_everything_until_it_ends() -> None:
    broker = PureBroker()
    clients = [broker.channel() for _ in range(3)]
    clients[0].declare(x_single_active_consumer=True)
    for client in clients:
        client.prefetch(2)
    clients[0].consume(tag="first")
    clients[1].consume()
    clients[2].consume(x_priority=3)
    clients[0].publish(*letters("a", "d"))
    assert [client.bodies() for client in clients] == [[b"a", b"b"], [], []]

    clients[0].cancel("first")
    assert [client.bodies() for client in clients] == [[], [], [b"c", b"d"]]
    clients[2].leave()

    assert [client.bodies() for client in clients] == [[], [b"c", b"d"], []]


def test_what_the_active_consumer_had_is_back_before_the_next_one_is_given_anything() -> None:
    broker = PureBroker()
    active, following = broker.channel(), broker.channel()
    active.declare(x_single_active_consumer=True)
    active.prefetch(2)
    active.consume()
    following.consume()
    active.publish(*letters("a", "d"))

    active.close()

    assert following.bodies() == letters("a", "d")


# --- priorities of messages -------------------------------------------------------------------------------------------


def test_messages_of_a_higher_priority_come_first_and_no_priority_is_the_lowest() -> None:
    client = PureBroker().channel()
    client.declare(x_max_priority=3)
    for body, priority in ((b"a", 0), (b"b", 2), (b"c", 9), (b"d", 3), (b"e", 2)):
        client.publish(body, priority=priority)

    assert client.drain() == [b"c", b"d", b"b", b"e", b"a"]


def test_a_message_that_goes_back_keeps_its_place_among_those_of_its_priority() -> None:
    client = PureBroker().channel()
    client.declare(x_max_priority=1)
    client.publish(b"low", priority=0)
    client.publish(b"high", b"higher", priority=1)
    delivery = client.get()
    assert delivery is not None

    client.nack(delivery.tag)

    assert client.drain() == [b"high", b"higher", b"low"]


# --- quorum queues ----------------------------------------------------------------------------------------------------


def test_in_a_quorum_queue_with_a_limit_messages_come_again_in_the_order_in_which_they_came_back() -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_queue_type="quorum", x_delivery_limit=5)
    client.publish(*letters("a", "c"))
    client.get()
    client.get()

    client.nack(2)
    client.nack(1)

    assert client.drain() == [b"b", b"a", b"c"]


def test_in_a_quorum_queue_without_a_limit_what_is_returned_comes_last() -> None:
    client = PureBroker().channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.publish(*letters("a", "d"))
    for _ in range(3):
        client.get()

    client.nack(2)
    client.nack(1)

    assert client.drain() == [b"d", b"b", b"a"]


def test_in_any_quorum_queue_what_a_client_leaves_behind_comes_first() -> None:
    broker = PureBroker()
    client, other = broker.channel(), broker.channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.publish(*letters("a", "d"))
    client.get()
    client.get()

    client.leave()

    assert other.drain() == letters("a", "d")


def test_a_returned_message_is_still_redelivered_after_it_was_on_disk() -> None:
    client = PureBroker(paging=True, limits=Limits(page_messages=4)).channel()
    client.declare(durable=True, x_queue_type="quorum")
    client.publish(*letters("a", "z"), persistent=True)
    client.get()

    client.nack(1)

    deliveries = [client.get() for _ in range(26)]
    assert [each.redelivered for each in deliveries if each is not None] == [False] * 25 + [True]


# --- who does not read ------------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_given_no_more_than_a_bound() -> None:
    broker = PureBroker(limits=Limits(max_unwritten=10 * message(b"x").size))
    slow, quick = broker.channel(), broker.channel()
    slow.declare()
    broker.reading = False
    slow.consume(no_ack=True)

    slow.publish(*[b"x"] * 50)
    assert len(slow.bodies()) == 10
    quick.consume()
    assert len(quick.bodies()) == 10
    broker.reading = True
    broker.state.wrote(slow, broker.now)
    broker.pump()

    assert len(slow.bodies()) == 30
