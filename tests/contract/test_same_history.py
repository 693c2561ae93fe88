"""The same things are done to RabbitMQ and to the embedded broker, whatever comes to mind, and both must show the same.

What is done comes from a seed. It is done to one queue, with one for its dead: what happens between queues happens at any time in
RabbitMQ.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from pika.exceptions import ChannelClosedByBroker, NackError

from tests.contract.client import PATIENCE, Channel, Client, Given, get, put, ready, settle
from tests.support.embedded import EmbeddedNode
from tests.support.node_control import NodeControl
from tests.support.waiting import wait_until

SEEDS = range(12)

#: How many things are done in one history.
LENGTH = 60

Step = Callable[["History"], object]


class History:
    """One queue of a broker, and what was seen of it."""

    def __init__(self, client: Client, kind: str, arguments: dict[str, Any]) -> None:
        self.client = client
        self.channel = client.open()
        self.dead = client.queue()
        arguments = {**arguments, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead}
        self.queue = client.quorum_queue(arguments) if kind == "quorum" else client.queue(arguments)
        self.seen: list[object] = []

    def do(self, step: Step) -> None:
        """Do something, and see what comes of it."""
        try:
            self.seen.append(step(self))
        except NackError:
            self.seen.append("refused")
        except ChannelClosedByBroker as error:
            self.seen.append((error.reply_code, error.reply_text))
            self.reopen()

    def reopen(self) -> None:
        """What is unsettled goes back."""
        if self.channel.is_open:
            self.channel.close()
        self.channel = self.client.open()

    def counts(self) -> tuple[int, int]:
        """How many are ready, and how many are dead."""
        return ready(self.client.channel, self.queue), ready(self.client.channel, self.dead)

    def end(self) -> list[object]:
        """What is left, and what died (a quorum queue buries those of one moment in any order)."""
        return [self.rest(self.queue), sorted(self.rest(self.dead), key=str)]

    def rest(self, queue: str) -> list[object]:
        settle(self.client.channel, queue)
        return [shown(given) for given in iter(lambda: get(self.client.channel, queue, auto_ack=True), None)]


def shown(given: Given | None) -> object:
    """What must be the same of a message."""
    if given is None:
        return None
    deaths = [(death["reason"], int(death["count"])) for death in given.headers.get("x-death", [])]
    return given.body, given.redelivered, given.headers.get("x-delivery-count"), given.properties.priority, deaths


def synced(settling: Callable[[Channel], object]) -> Step:
    """A settlement, and an answer that comes after it."""

    def step(history: History) -> str:
        settling(history.channel)
        history.channel.basic_qos()
        return "settled"

    return step


def steps(chance: random.Random) -> list[Step]:
    """What is done, in order."""
    return [_step(chance, number) for number in range(LENGTH)]


def _step(chance: random.Random, number: int) -> Step:
    tag, several, again = chance.randint(1, 6), chance.random() < 0.3, chance.random() < 0.6
    body, priority, persistent = str(number).encode() * chance.randint(1, 3), chance.randint(0, 7), chance.randint(1, 2)
    no_ack = chance.random() < 0.2
    kinds: list[tuple[int, Step]] = [
        (8, lambda history: put(history.channel, history.queue, body, priority=priority, delivery_mode=persistent)),
        (7, lambda history: shown(get(history.channel, history.queue, auto_ack=no_ack))),
        (2, synced(lambda channel: channel.basic_ack(tag, several))),
        (3, synced(lambda channel: channel.basic_nack(tag, several, again))),
        (2, synced(lambda channel: channel.basic_reject(tag, again))),
        (1, lambda history: history.channel.basic_recover(True)),
        (1, lambda history: history.reopen()),
        (1, lambda history: history.channel.queue_purge(history.queue).method.message_count if number % 3 == 0 else None),
    ]
    return chance.choices([step for _, step in kinds], [weight for weight, _ in kinds])[0]


def arguments(chance: random.Random, kind: str) -> dict[str, Any]:
    """What the queue is."""
    possible: dict[str, list[Any]] = {"x-max-length": [0, 1, 3], "x-max-length-bytes": [3, 10]}
    if kind == "quorum":
        possible["x-delivery-limit"] = [0, 1, 2]
    else:
        possible |= {"x-max-priority": [2, 5], "x-overflow": ["drop-head", "reject-publish", "reject-publish-dlx"], "x-message-ttl": [0]}
    return {name: chance.choice(values) for name, values in possible.items() if chance.random() < 0.35}


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("seed", SEEDS)
def test_both_brokers_tell_the_same_of_the_same_history(rabbitmq: NodeControl, embedded_node: EmbeddedNode, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    given, done = arguments(chance, kind), steps(chance)
    with Client(rabbitmq.url) as theirs, Client(embedded_node.url) as ours:
        one, other = History(theirs, kind, given), History(ours, kind, given)

        for number, step in enumerate([*done, History.reopen]):
            one.do(step)
            other.do(step)
            assert one.seen[-1] == other.seen[-1], f"step {number} of {given}"
            # RabbitMQ takes back what a closed channel had, and buries its dead, when it comes to it.
            wait_until(lambda: one.counts() == other.counts(), PATIENCE, f"both hold as much after step {number} of {given}")

        assert one.end() == other.end(), given
