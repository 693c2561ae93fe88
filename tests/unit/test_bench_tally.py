"""What the bench's jobs do, and what a contender tells of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import tally as module
from tests.bench.order import VARIABLE, Order
from tests.bench.tally import Tally
from tests.support.clock import Clock


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "reports"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def order(ear: socket.socket) -> Order:
    return Order("amqp://", "bench", ear.getsockname(), jobs=7, first=2, last=5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def heard(ear: socket.socket) -> list[dict[str, Any]]:
    reports = []
    while True:
        try:
            reports.append(json.loads(ear.recv(65536)))
        except BlockingIOError:
            return reports


def test_an_order_travels_in_the_environment(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, order.environment()[VARIABLE])

    assert Order.from_environment() == order


def test_the_first_and_the_last_of_the_counted_jobs_are_reported(order: Order, ear: socket.socket, clock: Clock) -> None:
    # Given jobs that take a second
    tally = Tally(replace(order, shortest=1.0, longest=1.0))

    # When more are done than are counted
    for _ in range(7):
        tally.run(b"")

    # Then there are two reports, and the second one says how long it took from the first
    assert [report["mark"] for report in heard(ear)] == ["first", "last"]


def test_the_time_between_the_two_reports_is_told(order: Order, ear: socket.socket, clock: Clock) -> None:
    tally = Tally(replace(order, shortest=1.0, longest=1.0))

    for _ in range(5):
        tally.run(b"")

    assert heard(ear)[-1]["seconds"] == 3.0


def test_the_time_that_long_jobs_take_between_the_two_reports_is_told(order: Order, ear: socket.socket, clock: Clock) -> None:
    # Given that every third job is long
    tally = Tally(replace(order, shortest=1.0, longest=1.0, long_every=3, long=10.0))

    for _ in range(5):
        tally.run(b"")

    assert heard(ear)[-1]["held"] == 10.0


def test_how_old_jobs_were_is_told(order: Order, ear: socket.socket, clock: Clock) -> None:
    # Given jobs that come two milliseconds after their put
    tally = Tally(replace(order, timed=True))
    put = (clock.time_ns() - 2_000_000).to_bytes(8, "big")

    for _ in range(5):
        tally.run(put + bytes(92))

    last = heard(ear)[-1]
    assert (last["p50"], last["p99"]) == (0.002, 0.002)


def test_every_contender_draws_the_same_durations(order: Order) -> None:
    waiting = replace(order, shortest=0.001, longest=0.05)
    one, other = Tally(waiting), Tally(waiting)

    assert [one.duration() for _ in range(20)] == [other.duration() for _ in range(20)]


def test_durations_lie_between_the_two_of_the_order(order: Order) -> None:
    tally = Tally(replace(order, shortest=0.001, longest=0.05))

    assert all(0.001 <= tally.duration() <= 0.05 for _ in range(100))
