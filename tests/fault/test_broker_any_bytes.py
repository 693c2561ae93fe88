"""Whatever a client sends, the broker serves everybody else, and tells that client with a code of the protocol what is wrong.

A long run, each of the tests that many seconds: HOPD_FUZZ_SECONDS=600.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

import pika
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pika import spec

from hopd.broker.desk import Desk
from hopd.broker.refusal import Code
from hopd.broker.server import Broker
from hopd.broker.store import Store
from tests.fault.any_frames import BEGINNING, WRONG, Damage, Settling, anything, damages, settlings, sliced, speech
from tests.support.talk import Heard, Talk, connected, heard, message, method, new_desk
from tests.support.waiting import wait_until

#: How long each test goes on looking; 0: for as many examples as are said with it.
SECONDS = float(os.environ.get("HOPD_FUZZ_SECONDS", "0"))

#: What a client can be told, of its connection and of a channel. Not 541: that is an error of the broker's own.
HARD = {code for code in Code if code > 500 or code in (Code.CONNECTION_FORCED, Code.ACCESS_REFUSED)} - {Code.INTERNAL_ERROR}
SOFT = {code for code in Code if code < 500} - {Code.CONNECTION_FORCED}

pytestmark = pytest.mark.timeout(180 + 2 * SECONDS)

one_of_many = settings(suppress_health_check=list(HealthCheck), deadline=None)


def for_long(look: Callable[[], None]) -> None:
    """Look, and look again until the time is up."""
    until = monotonic() + SECONDS
    look()
    while monotonic() < until:
        look()


class _Failures(logging.Handler):
    """Collects what went wrong in the broker."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


@contextmanager
def no_failure() -> Iterator[None]:
    """The broker logs no error, and nothing less than one is looked at."""
    logger, failures = logging.getLogger("hopd"), _Failures()
    before, logger.level = logger.level, logging.ERROR
    logger.addHandler(failures)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(failures)
        logger.setLevel(before)
        logger.propagate = True
    assert failures.lines == []


def check_said(said: list[Heard]) -> None:
    """The broker has kept to the protocol: what it closed it closed with a code, and then it said no more there."""
    over = False
    closed: set[int] = set()
    for channel, told, _body in said:
        assert not over or isinstance(told, spec.Connection.CloseOk)
        if isinstance(told, spec.Connection.Close):
            assert told.reply_code in HARD, told
            over = True
        elif isinstance(told, spec.Channel.Close):
            assert told.reply_code in SOFT, told
            closed.add(channel)
        elif isinstance(told, (spec.Channel.CloseOk, spec.Channel.OpenOk)):
            closed.discard(channel)
        else:
            assert channel not in closed


def check_served(desk: Desk) -> None:
    """Another client is served."""
    other = connected(desk)
    queue = other.ask(1, spec.Queue.Declare(exclusive=True)).queue
    found = other.say(message(1, b"whole", routing_key=queue), method(1, spec.Basic.Get(queue=queue)))
    assert [each.body for each in found] == [b"whole"]
    other.say(method(1, spec.Basic.Ack(1)))
    other.session.lost()


def check_nothing_left(desk: Desk) -> None:
    """Without clients nothing is unsettled; without queues there are no messages, and they take no memory."""
    state = desk.state
    owner = object()
    state.connected(owner)
    for queue in state.queues():
        assert (queue.unsettled, queue.consumers) == (0, 0)
        state.queue_delete(owner, queue.name, if_unused=False, if_empty=False)
    state.disconnected(owner, desk.now)
    assert (state.messages, state.memory) == (0, 0)


# --- sessions without sockets -------------------------------------------------------------------


class Clients:
    """Some clients of one broker, each with two channels open. They note what they are told, and go on after whatever that is:
    with a new channel or connection, or (`deaf`) as if nothing had been said."""

    def __init__(self, count: int, store: Store | None = None, *, deaf: bool = False) -> None:
        self._deaf = deaf
        self.desk = new_desk(store)
        self._store = store
        if store is not None:
            self.desk.state.restore(store.load(), self.desk.now)
        self._talks = [connected(self.desk, 1, 2) for _ in range(count)]
        self._told: list[list[Heard]] = [[] for _ in self._talks]
        #: The codes of connections that the broker has closed.
        self.closed_with: list[int] = []
        #: By client and channel: the deliveries that are not settled, as far as it matters that most of them are.
        self._tags: dict[tuple[int, int], list[int]] = defaultdict(list)

    def send(self, client: int, said: bytes | Settling) -> None:
        """Have one of them send something, and all take what they are told for it."""
        self._talks[client].session.receive(said if isinstance(said, bytes) else self._settle(client, said))
        self._turn()

    def _settle(self, client: int, settling: Settling) -> bytes:
        tags = self._tags[client, settling.channel]
        if not tags:
            return b""
        frame = settling.frame(tags)
        del tags[0 if settling.multiple else settling.which % len(tags) : settling.which % len(tags) + 1]
        return frame

    def _turn(self) -> None:
        """What the server does in a turn."""
        self.desk.load()
        self.desk.submit()
        for client, talk in enumerate(self._talks):
            told = heard(talk.session.take_output())
            talk.session.wrote()
            self._told[client] += told
            for each in [] if self._deaf else told:
                self._go_on(client, each)

    def _go_on(self, client: int, told: Heard) -> None:
        """A client whose channel was closed opens it again, and one whose connection was closed comes in again."""
        session = self._talks[client].session
        if isinstance(told.method, (spec.Basic.Deliver, spec.Basic.GetOk)):
            self._tags[client, told.channel].append(told.method.delivery_tag)
        elif isinstance(told.method, spec.Channel.OpenOk):
            self._tags[client, told.channel].clear()
        elif isinstance(told.method, spec.Channel.Close):
            session.receive(method(told.channel, spec.Channel.CloseOk()) + method(told.channel, spec.Channel.Open()))
        elif isinstance(told.method, spec.Channel.CloseOk):
            session.receive(method(told.channel, spec.Channel.Open()))
        elif isinstance(told.method, spec.Connection.Close):
            session.receive(method(0, spec.Connection.CloseOk()))
            check_said(self._told[client])
            self.closed_with.append(told.method.reply_code)
            self._talks[client], self._told[client] = connected(self.desk, 1, 2), []
            self._tags = defaultdict(list, {of: tags for of, tags in self._tags.items() if of[0] != client})

    def pass_time(self, seconds: float) -> None:
        """Let happen what is due by then, and what waits for the disk."""
        self.desk.now += seconds
        due = self.desk.state.due()
        if due is not None and due <= self.desk.now:
            self.desk.state.tick(self.desk.now)
        if seconds and self._store is not None:
            self.desk.submit()
            self.desk.written(self._store.commit())
        self._turn()

    def check(self) -> None:
        """All were told what they may be told, others are served, and those that leave leave nothing behind."""
        for told in self._told:
            check_said(told)
        check_served(self.desk)
        for talk in self._talks:
            talk.session.lost()
        check_nothing_left(self.desk)


_steps = st.lists(st.tuples(st.integers(0, 1), speech | speech | settlings, st.sampled_from([0, 0, 0, 0.5, 2.0])), min_size=20, max_size=60)


def test_clients_may_ask_for_anything_in_any_order() -> None:
    @settings(one_of_many, max_examples=120)
    @given(steps=_steps)
    def look(steps: list[tuple[int, bytes | Settling, float]]) -> None:
        with no_failure():
            clients = Clients(2)
            clients.send(0, BEGINNING)
            for client, data, seconds in steps:
                clients.send(client, data)
                clients.pass_time(seconds)
            clients.check()

    for_long(look)


def test_what_arrives_may_be_anything_and_damaged() -> None:
    @settings(one_of_many, max_examples=120)
    @given(frames=st.lists(anything, max_size=20), damage=damages, size=st.integers(1, 200))
    def look(frames: list[bytes], damage: Damage, size: int) -> None:
        with no_failure():
            clients = Clients(1, deaf=True)
            clients.send(0, BEGINNING)
            for data in sliced(damage.do(b"".join(frames)), size):
                clients.send(0, data)
            clients.check()

    for_long(look)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_no_client_may_send_closes_its_connection_with_the_right_code_whatever_was_before(wrong: str) -> None:
    data, code = WRONG[wrong]

    @settings(one_of_many, max_examples=10)
    @given(steps=st.lists(st.tuples(st.integers(0, 1), speech | settlings), max_size=20), size=st.integers(1, 20))
    def look(steps: list[tuple[int, bytes | Settling]], size: int) -> None:
        with no_failure():
            clients = Clients(2)
            clients.send(0, BEGINNING)
            for client, said in steps:
                clients.send(client, said)
            clients.pass_time(0)  # who has to open a channel again has done so
            clients.closed_with.clear()
            for piece in sliced(data, size):
                clients.send(0, piece)
            assert clients.closed_with == [code]
            clients.check()

    look()


def test_a_client_may_come_in_with_anything() -> None:
    come_in = (
        b"AMQP\0\0\x09\x01",
        method(0, spec.Connection.StartOk({}, "PLAIN", b"\0guest\0guest", "en_US")),
        method(0, spec.Connection.TuneOk(10, 4096, 60)),
        method(0, spec.Connection.Open("/")),
    )

    @settings(one_of_many, max_examples=120)
    @given(steps=st.integers(0, 4), frames=st.lists(anything, max_size=3), damage=damages, size=st.integers(1, 200))
    def look(steps: int, frames: list[bytes], damage: Damage, size: int) -> None:
        with no_failure():
            talk = Talk()
            stream = damage.do(b"".join([*come_in[:steps], *frames]))
            said = b""
            for data in sliced(stream, size):
                talk.session.receive(data)
                said += talk.raw()
            check_said(heard(said.removeprefix(come_in[0])))
            check_served(talk.desk)

    for_long(look)


def test_what_is_durable_is_found_again_whatever_clients_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "hopd.store")

    @settings(one_of_many, max_examples=40)
    @given(steps=_steps)
    def look(steps: list[tuple[int, bytes | Settling, float]]) -> None:
        with no_failure(), closing(Store(path)) as store:
            clients = Clients(2, store)
            clients.send(0, BEGINNING)
            for client, data, seconds in steps:
                clients.send(client, data)
                clients.pass_time(seconds)
            clients.pass_time(0.1)
            held = {queue.name: queue.ready + queue.unsettled for queue in clients.desk.state.queues()}
        with no_failure(), closing(Store(path)) as store:
            again = Clients(1, store)
            assert all(queue.ready <= held[queue.name] for queue in again.desk.state.queues())
            again.check()
            again.desk.submit()
            store.commit()

    for_long(look)


# --- a server, and sockets -----------------------------------------------------------------------


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


def answer(broker: Broker, pieces: list[bytes]) -> bytes:
    """All that a client is told that sends these and then hangs up."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=30.0) as client:
        said = b""
        try:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(65_536):
                said += data
        except ConnectionError:
            pass  # it was thrown out before it had said everything
        return said


def test_a_server_survives_anything_that_comes_over_a_socket(broker: Broker) -> None:
    come_in = (
        b"AMQP\0\0\x09\x01"
        + method(0, spec.Connection.StartOk({}, "PLAIN", b"\0guest\0guest", "en_US"))
        + method(0, spec.Connection.TuneOk(10, 4096, 60))
        + method(0, spec.Connection.Open("/"))
        + b"".join(method(channel, spec.Channel.Open()) for channel in (1, 2))
        + BEGINNING
    )

    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        other = connection.channel()
        queue = other.queue_declare("", exclusive=True).method.queue

        @settings(one_of_many, max_examples=100)
        @given(polite=st.booleans(), frames=st.lists(anything, max_size=20), damage=damages, size=st.integers(1, 5000))
        def look(polite: bool, frames: list[bytes], damage: Damage, size: int) -> None:
            with no_failure():
                stream = damage.do(b"".join(frames))
                answer(broker, sliced(come_in + stream if polite else stream, size))
                # Somebody else, who has been there all the time, is served
                other.basic_publish("", queue, b"whole")
                assert other.basic_get(queue, auto_ack=True)[2] == b"whole"

        for_long(look)
    wait_until(lambda: broker.connections == 0, 10, "all clients are gone")
