"""A broker that refuses puts one by one: a full queue, or a channel that has gone stale in a cluster."""

from __future__ import annotations

from time import monotonic

from hopd import PutRefused, Topic
from hopd.amqp.confirms import RENEW_AFTER
from tests.support.channels import channel_pids
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.waiting import wait_until

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


def refused(topic: Topic) -> bool:
    try:
        topic.put(b"one too many")
    except PutRefused:
        return True
    return False


def test_a_full_topic_refuses_puts_and_takes_them_when_there_is_room(broker: NodeControl, topic_name: str) -> None:
    with work_queue(broker.url) as queue:
        topic = queue.topic(topic_name, arguments=FULL)
        topic.declare()
        wait_until(lambda: refused(topic), why="the topic is full")
        job = topic.pull(5)

        job.done()

        wait_until(lambda: not refused(topic), why="the topic takes a job again")


def test_refusals_renew_the_channel_and_leave_none_behind(broker: NodeControl, topic_name: str) -> None:
    connection = f"{topic_name}-publish"
    with work_queue(broker.url, name=topic_name) as queue:
        topic = queue.topic(topic_name, arguments=FULL)
        topic.declare()
        wait_until(lambda: refused(topic), why="the topic is full")
        before = channel_pids(broker, connection)
        until = monotonic() + 3 * RENEW_AFTER

        wait_until(lambda: refused(topic) and monotonic() > until, why="the channel was renewed a few times")

        wait_until(lambda: len(channel_pids(broker, connection)) == 1, why="the old channels are gone")
        assert channel_pids(broker, connection) != before
