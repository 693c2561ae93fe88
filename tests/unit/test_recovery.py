"""What a link decides by itself: how long to pause, which broker is next, when to give up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.amqp import recovery
from hopd.amqp.connection import Connection
from hopd.amqp.endpoint import Endpoint, Options
from hopd.amqp.recovery import Backoff, Link, LinkStatus
from hopd.errors import BrokerError, BrokerRefused, BrokerUnreachable, ConnectionLost, ForkedProcess, WorkQueueClosed
from tests.support.waiting import wait_until

PROMPT = Backoff(first=0.001, cap=0.001)
REFUSED = BrokerRefused("ACCESS_REFUSED - Login was refused (403)", code=403)
UNREACHABLE = BrokerUnreachable("Connection refused")


# --- pauses -------------------------------------------------------------------------------------


@given(st.floats(0.01, 10), st.floats(0.01, 100), st.integers(1, 10_000))
def test_a_pause_is_between_a_tenth_of_its_bound_and_its_bound(first: float, cap: float, attempt: int) -> None:
    backoff = Backoff(first, cap)

    assert backoff.bound(attempt) / 10 <= backoff.pause(attempt) <= backoff.bound(attempt)


@given(st.floats(0.01, 10), st.floats(0.01, 100), st.integers(1, 10_000))
def test_bounds_double_up_to_the_cap(first: float, cap: float, attempt: int) -> None:
    backoff = Backoff(first, cap)

    assert backoff.bound(attempt + 1) == min(cap, backoff.bound(attempt) * 2)


def test_pauses_differ_so_that_a_fleet_does_not_come_back_as_one() -> None:
    assert len({Backoff().pause(10) for _ in range(100)}) > 90


# --- links whose connections the test makes -----------------------------------------------------


class FakeConnection:
    """A connection that the script opens, or ends with a reason."""

    def __init__(self, endpoint: Endpoint, script: Script) -> None:
        self.endpoint = endpoint
        self.is_open = False
        self.blocked: str | None = None
        self.on_blocked: Callable[[str | None], None]
        self._script = script
        self._over = threading.Event()
        self._reason: BrokerError = ConnectionLost("the connection was closed by us")

    def run(self, on_open: Callable[[Connection], None]) -> BrokerError:
        reason = self._script.next(self.endpoint)
        if reason is not None:
            return reason
        self.is_open = True
        self._script.opened.append(self)
        on_open(self)  # type: ignore[arg-type]
        self._over.wait()
        self.is_open = False
        return self._reason

    def lose(self, reason: BrokerError) -> None:
        self._reason = reason
        self._over.set()

    def close(self, _deadline: float) -> None:
        self._over.set()

    def abort(self) -> None:
        self._over.set()


class Script:
    """What happens to connections: a reason why each fails, or None for one that opens. The last one goes on for ever."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.opened: list[Any] = []
        self.reasons: dict[str, list[BrokerError | None]] = {}

    def next(self, endpoint: Endpoint) -> BrokerError | None:
        self.tried.append(endpoint.host)
        reasons = self.reasons[endpoint.host]
        return reasons.pop(0) if len(reasons) > 1 else reasons[0]


class Bench:
    """A link over scripted connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.links: list[Link] = []
        self.seen: list[LinkStatus] = []

    def link(self, *, give_up_after: float | None = None, backoff: Backoff = PROMPT, **reasons: list[BrokerError | None]) -> Link:
        self.script.reasons = reasons
        endpoints = [Endpoint(host, 5672, "anna", "s3cret", "/", None) for host in reasons]
        link = Link(endpoints, Options(), backoff=backoff, give_up_after=give_up_after, on_change=self.seen.append)
        self.links.append(link)
        return link


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    script = Script()
    monkeypatch.setattr(recovery, "Connection", lambda endpoint, _options: FakeConnection(endpoint, script))
    bench = Bench(script)
    yield bench
    for link in bench.links:
        link.close(soon())


def soon() -> float:
    return monotonic() + 10.0


def test_a_link_connects_when_it_is_first_asked(bench: Bench) -> None:
    link = bench.link(one=[None])
    before = link.status().state

    connection = link.connection(soon())

    assert (before, connection.is_open, link.status().state) == ("closed", True, "open")


def test_whoever_asks_gets_the_same_connection(bench: Bench) -> None:
    link = bench.link(one=[None])

    assert link.connection(soon()) is link.connection(soon()) is link.open_connection()


def test_a_lost_connection_is_made_again(bench: Bench) -> None:
    link = bench.link(one=[None])
    link.connection(soon())

    bench.script.opened[0].lose(ConnectionLost("reset"))
    wait_for_end(bench.script.opened[0])

    assert link.connection(soon()) is bench.script.opened[1]


def wait_for_end(connection: FakeConnection) -> None:
    wait_until(lambda: not connection.is_open)


def test_brokers_are_tried_in_turn(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE], two=[UNREACHABLE], three=[None])

    assert link.connection(soon()) is bench.script.opened[0]
    assert bench.script.tried == ["one", "two", "three"]


def test_after_a_loss_the_broker_that_worked_is_tried_first(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE], two=[None])
    link.connection(soon())

    bench.script.opened[0].lose(ConnectionLost("reset"))
    wait_for_end(bench.script.opened[0])
    link.connection(soon())

    assert bench.script.tried == ["one", "two", "two"]


def test_a_deadline_ends_the_wait_and_tells_the_last_reason(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE], backoff=Backoff(first=60.0, cap=60.0))

    with pytest.raises(BrokerUnreachable, match=r"no connection to amqp://anna:\*\*\*@one:5672: .*"):
        link.connection(monotonic() + 0.05)


def test_after_a_time_of_failing_a_link_gives_up(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE], give_up_after=0.02)

    with pytest.raises(BrokerUnreachable, match="Connection refused"):
        link.connection(soon())

    assert link.status().state == "closed"


def test_a_link_that_gave_up_begins_anew_when_it_is_asked_again(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE], give_up_after=0.0)
    with pytest.raises(BrokerUnreachable):
        link.connection(soon())

    bench.script.reasons["one"] = [None]

    assert link.connection(soon()).is_open


def test_a_link_that_must_never_give_up_does_not(bench: Bench) -> None:
    link = bench.link(one=[*[UNREACHABLE] * 50, None])

    assert link.connection(soon()).is_open


def test_a_password_that_never_worked_is_not_tried_for_long(bench: Bench) -> None:
    link = bench.link(one=[REFUSED], give_up_after=900.0)

    with pytest.raises(BrokerRefused, match="Login was refused") as caught:
        link.connection(soon())

    assert caught.value.code == 403


def test_a_password_that_never_worked_is_tried_for_ever_by_a_daemon(bench: Bench) -> None:
    link = bench.link(one=[*[REFUSED] * 20, None])

    assert link.connection(soon()).is_open


def test_a_password_that_did_work_may_be_rotated_back(bench: Bench) -> None:
    # Given a link that was open
    link = bench.link(one=[None, *[REFUSED] * 20, None], give_up_after=900.0)
    link.connection(soon())

    # When its password stops working for a while
    bench.script.opened[0].lose(ConnectionLost("reset"))
    wait_for_end(bench.script.opened[0])

    # Then it recovers
    assert link.connection(soon()).is_open


def test_a_refusal_by_one_broker_leaves_the_others_to_try(bench: Bench) -> None:
    link = bench.link(one=[REFUSED], two=[None], give_up_after=900.0)

    assert link.connection(soon()).is_open


def test_a_refusal_is_final_only_when_every_broker_refuses(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE, UNREACHABLE, None], two=[REFUSED], give_up_after=900.0)

    assert link.connection(soon()).endpoint.host == "one"


def test_closing_ends_whoever_waits(bench: Bench) -> None:
    # Given somebody who waits for a broker that is away
    link = bench.link(one=[UNREACHABLE], backoff=Backoff(first=60.0, cap=60.0))
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            link.connection(soon())
        except WorkQueueClosed as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: link.status().next_try is not None)

    # When the link is closed, then the wait ends with it
    link.close(soon())
    waiting.join(10.0)
    assert len(ended) == 1


def test_a_closed_link_stays_closed(bench: Bench) -> None:
    link = bench.link(one=[None])
    link.connection(soon())

    link.close(soon())

    with pytest.raises(WorkQueueClosed):
        link.connection(soon())
    assert link.status().state == "closed"


def test_closing_leaves_no_thread(bench: Bench) -> None:
    before = threading.active_count()
    link = bench.link(one=[None])
    link.connection(soon())

    link.close(soon())

    wait_until(lambda: threading.active_count() <= before)


def test_closing_a_link_that_was_never_used_is_no_error(bench: Bench) -> None:
    link = bench.link(one=[None])

    link.close(soon())
    link.close(soon())

    assert bench.script.tried == []


def test_another_process_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    link = bench.link(one=[None])

    monkeypatch.setattr(os, "getpid", lambda: -1)

    with pytest.raises(ForkedProcess):
        link.connection(soon())


# --- status -------------------------------------------------------------------------------------


def test_the_status_tells_attempt_next_try_and_reason(bench: Bench) -> None:
    # Given a broker that is away, and a long pause
    link = bench.link(one=[UNREACHABLE], backoff=Backoff(first=60.0, cap=60.0))
    link.start()
    wait_until(lambda: link.status().next_try is not None)

    # Then the status says how it stands
    status = link.status()
    assert (status.state, status.url, status.attempt, status.reason) == ("recovering", "amqp://anna:***@one:5672", 1, "Connection refused")
    assert status.next_try is not None
    assert 5.0 < status.next_try <= 60.0


def test_the_status_names_the_broker_that_is_connected(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE], two=[None])
    link.connection(soon())

    assert link.status() == LinkStatus("open", "amqp://anna:***@two:5672", 0, None, None)


def test_a_blocked_connection_says_why(bench: Bench) -> None:
    # Given an open link
    link = bench.link(one=[None])
    link.connection(soon())
    connection = bench.script.opened[0]

    # When the broker blocks it, and unblocks it again
    connection.blocked = "low on memory"
    connection.on_blocked("low on memory")
    blocked = link.status()
    connection.blocked = None
    connection.on_blocked(None)

    # Then the status follows
    assert (blocked.state, blocked.reason) == ("blocked", "low on memory")
    assert (link.status().state, link.status().reason) == ("open", None)


def test_every_change_of_state_is_told(bench: Bench) -> None:
    link = bench.link(one=[UNREACHABLE, None])
    link.connection(soon())
    link.close(soon())

    assert [status.state for status in bench.seen] == ["recovering", "open", "closed"]
