"""The writer: what is queued leaves in its order, in as few writes as it takes, and whoever is in a hurry never waits for the stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from hopd.amqp import frames
from hopd.amqp.settlement import Settlement
from hopd.amqp.writer import Writer
from hopd.errors import ConnectionLost
from tests.support.waiting import wait_until

#: How many are to share a write.
SHARE = 16


class Stream:
    """A stream that keeps what it takes, and whose thread it was; it takes `room` bytes at once."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.threads: list[int] = []
        self.room = 1_000_000
        self.open = threading.Event()  # else a send waits
        self.open.set()
        self.sending = threading.Event()
        self.error: BaseException | None = None
        self.ended = False

    @property
    def taken(self) -> bytes:
        return b"".join(self.writes)

    def send(self, data: memoryview) -> int:
        self.sending.set()
        assert self.open.wait(10.0)
        return self._take(bytes(data))

    def send_now(self, data: bytes) -> int:
        return self._take(data[: self.room])

    def shutdown(self) -> None:
        self.ended = True

    def _take(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        self.writes.append(data)
        self.threads.append(threading.get_ident())
        return len(data)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def writer(stream: Stream) -> Iterator[Writer]:
    """A writer at work."""
    writer = Writer(threading.RLock())
    thread = threading.Thread(target=writer.run, args=(stream,))
    thread.start()
    writer.queue(b"begin")
    writer.wake()
    wait_until(lambda: stream.taken == b"begin" and not writer._writing.locked())
    stream.writes.clear()
    stream.threads.clear()
    stream.sending.clear()
    yield writer
    writer.stop()
    stream.open.set()
    thread.join(10.0)
    assert not thread.is_alive()


def test_what_was_queued_leaves_in_its_order_in_one_write(writer: Writer, stream: Stream) -> None:
    for piece in (b"a", b"b", b"c"):
        writer.queue(piece)
    writer.wake()

    wait_until(lambda: stream.taken == b"abc")
    assert stream.writes == [b"abc"]


# --- who is in a hurry --------------------------------------------------------------------------


def test_who_is_alone_sends_in_his_own_thread(writer: Writer, stream: Stream) -> None:
    writer.queue(b"a")
    writer.hurry(1)

    assert (stream.writes, stream.threads) == ([b"a"], [threading.get_ident()])


def test_who_is_not_alone_leaves_the_write_to_be_shared(writer: Writer, stream: Stream) -> None:
    writer.queue(b"a")
    writer.hurry(SHARE)

    wait_until(lambda: stream.taken == b"a")
    assert threading.get_ident() not in stream.threads


def test_much_is_sent_at_once_by_whoever_adds_to_it(writer: Writer, stream: Stream) -> None:
    for _ in range(SHARE):
        writer.queue(b"a")
    writer.hurry(SHARE)

    assert (stream.writes, stream.threads) == ([b"a" * SHARE], [threading.get_ident()])


def test_what_the_stream_does_not_take_at_once_is_sent_before_anything_else(writer: Writer, stream: Stream) -> None:
    # Given a stream that has room for little
    stream.room = 2

    # When somebody in a hurry has more than that, and then somebody else something
    writer.queue(b"abcd")
    writer.hurry(1)
    writer.queue(b"ef")
    writer.wake()

    # Then all of it arrives in its order
    wait_until(lambda: stream.taken == b"abcdef")
    assert stream.writes[0] == b"ab"


def test_nobody_waits_for_a_stream_that_takes_nothing(writer: Writer, stream: Stream) -> None:
    # Given a writer that waits for the stream
    stream.open.clear()
    writer.queue(b"a")
    writer.wake()
    assert stream.sending.wait(10.0)

    # When somebody else is in a hurry
    writer.queue(b"b")
    writer.hurry(1)
    sent = stream.taken

    # Then he has left it to the writer
    stream.open.set()
    wait_until(lambda: stream.taken == b"ab")
    assert sent == b""


def test_a_stream_that_is_lost_is_for_the_reader_to_tell(writer: Writer, stream: Stream) -> None:
    stream.error = ConnectionLost("reset by peer")

    writer.queue(b"a")
    writer.hurry(1)

    assert stream.ended


def test_a_signal_in_the_middle_of_a_write_ends_the_stream(writer: Writer, stream: Stream) -> None:
    """What comes next could be sent twice, or begin in the middle of a frame; and confirms would be counted wrongly."""
    stream.error = KeyboardInterrupt()

    writer.queue(b"a")
    with pytest.raises(KeyboardInterrupt):
        writer.hurry(1)

    assert stream.ended
    stream.error = None


# --- settlements --------------------------------------------------------------------------------


def test_what_was_settled_is_told_without_being_queued(writer: Writer, stream: Stream) -> None:
    settlement = Settlement(3, writer.ask)
    settlement.opened(1)

    settlement.ack(1)

    wait_until(lambda: stream.taken == frames.ack(3, 1, False))


def test_a_settlement_that_holds_something_back_is_asked_again_in_time(writer: Writer, stream: Stream) -> None:
    # Given many deliveries
    settlement = Settlement(3, writer.ask, ack_window=0.02)
    for tag in range(1, 101):
        settlement.opened(tag)

    # When one in the middle is settled, and nothing else happens
    settlement.ack(50)

    # Then the broker hears of it all the same
    wait_until(lambda: stream.taken == frames.ack(3, 50, False))


def test_settlements_come_before_what_is_queued_after_them(writer: Writer, stream: Stream) -> None:
    # Given a channel that is about to be closed
    settlement = Settlement(3, lambda _settlement: None)
    settlement.opened(1)
    settlement.ack(1)
    writer._speakers.append(settlement)

    # When its close is queued
    with writer._lock:
        writer.ask_all()
        writer.queue(b"close")
    writer.wake()

    # Then what was settled on it is told first
    wait_until(lambda: stream.taken == frames.ack(3, 1, False) + b"close")


# --- heartbeats ---------------------------------------------------------------------------------


def test_a_heartbeat_is_sent_when_nothing_else_was(writer: Writer, stream: Stream) -> None:
    writer.beat(0.02)

    wait_until(lambda: len(stream.writes) >= 3)
    assert set(stream.writes) == {frames.HEARTBEAT}


def test_nothing_beats_before_the_handshake_is_over(writer: Writer) -> None:
    assert writer._pause() is None


# --- the end ------------------------------------------------------------------------------------


def test_a_writer_that_stops_ends_the_stream(stream: Stream) -> None:
    writer = Writer(threading.RLock())
    writer.stop()

    writer.run(stream)  # type: ignore[arg-type]

    assert stream.ended


def test_after_the_end_nobody_touches_the_stream(writer: Writer, stream: Stream) -> None:
    writer.stop()
    writer.leave()

    writer.queue(b"a")
    writer.hurry(1)

    assert stream.taken == b""
