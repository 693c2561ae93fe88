"""What goes out on a connection: everybody's frames in one row, and as many of them as there are in one write."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Protocol

from hopd.amqp import frames
from hopd.amqp.transport import Transport
from hopd.errors import BrokerError

LOGGER = logging.getLogger(__name__)


class Speaker(Protocol):
    """Something that has frames to send at a time of its own: a settlement, for one."""

    @property
    def due(self) -> float | None:
        """When `take` must be called again though nobody asked for it (monotonic seconds); None for not at all."""

    def take(self, now: float) -> bytes:
        """The frames to send now. Called under the connection's lock."""


class Writer:
    """Sends what a connection has to say. Its duties:

    1. keep frames in the order in which they were queued, and ask speakers for theirs when they want to be asked;
    2. send all there is in one write: in its own thread, which waits as long as the stream takes nothing, or in that of somebody who
       is in a hurry, as far as the stream takes it;
    3. send a heartbeat when nothing else was said for half the interval.

    `lock` is the connection's: it guards the queue. Who writes holds `_writing`, takes the lock inside of it, and never the other way.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._queue: deque[bytes] = deque()
        self._speakers: deque[Speaker] = deque()  # want to be asked now
        self._later: dict[Speaker, None] = {}  # are asked when they are due
        self._wakeup = threading.Event()
        self._stopping = threading.Event()
        self._writing = threading.Lock()
        self._rest = b""  # was collected, and not taken by the stream yet
        self._stream: Transport | None = None
        self._last_sent = monotonic()
        self._interval: float | None = None

    # --- for everybody ------------------------------------------------------------------------

    def queue(self, data: bytes) -> None:
        """Let frames leave with the next write. Under the lock, where their order matters."""
        self._queue.append(data)

    def ask(self, speaker: Speaker) -> None:
        """Ask the speaker for its frames, soon. From any thread."""
        self._speakers.append(speaker)
        self.wake()

    def wake(self) -> None:
        """Have what is queued sent soon, together with what is queued until then."""
        if not self._wakeup.is_set():  # the writer clears it before it looks for what there is
            self._wakeup.set()

    def hurry(self, share: int) -> None:
        """Have what is queued sent: now, if so many pieces share the write (1: it waits for no others), else soon. Not under the lock."""
        if len(self._queue) < share or not self._send_now():
            self.wake()

    def ask_all(self) -> None:
        """Queue the frames of every speaker that has some, ahead of what is queued next. Under the lock."""
        now = monotonic()
        asked = [speaker for speaker in self._later if (speaker.due or now) <= now]
        while self._speakers:
            asked.append(self._speakers.popleft())
        for speaker in asked:
            data = speaker.take(now)
            if data:
                self._queue.append(data)
            if speaker.due is None:
                self._later.pop(speaker, None)
            else:
                self._later[speaker] = None

    # --- for its connection -------------------------------------------------------------------

    def run(self, stream: Transport) -> None:
        """Write until `stop`, or until the stream is lost; then end the stream, which tells the reader."""
        self._stream = stream
        try:
            while not self._stopping.is_set():
                self._wakeup.wait(self._pause())
                self._wakeup.clear()
                with self._writing:
                    self._send(stream, self._collect())
        except BrokerError as error:
            LOGGER.debug("The writer stops: %s", error, extra={"event": "writer_stopped"})
        finally:
            # The reader sees the end of the stream and tells everybody; the writer only has to leave.
            stream.shutdown()

    def beat(self, interval: float) -> None:
        """From now on send heartbeats: one in half of `interval` seconds when there was nothing else to send."""
        self._interval = interval
        self.wake()

    def stop(self) -> None:
        """Send nothing any more."""
        self._stopping.set()
        self.wake()

    def leave(self) -> None:
        """Wait until nobody writes any more. After `stop`, and when its own thread has ended: the others never wait for the stream."""
        with self._writing:
            self._stream = None

    # --- writing ------------------------------------------------------------------------------

    def _pause(self) -> float | None:
        """Seconds until there is something to do though nobody wakes us; None for not at all."""
        if self._queue or self._speakers or self._rest:
            return 0.0
        times = [speaker.due for speaker in self._later if speaker.due is not None]
        if self._interval is not None:
            times.append(self._last_sent + self._interval / 2)
        return max(0.0, min(times) - monotonic()) if times else None

    def _collect(self) -> bytes:
        """Everything that is to be sent now, in one piece."""
        with self._lock:
            self.ask_all()
            pieces = [self._rest, *self._queue]
            self._queue.clear()
        self._rest = b""
        data = b"".join(pieces)
        if not data and self._interval is not None and monotonic() - self._last_sent >= self._interval / 2:
            return frames.HEARTBEAT
        return data

    def _send(self, stream: Transport, data: bytes) -> None:
        if not data:
            return
        rest = memoryview(data)
        # A broker under an alarm takes nothing for as long as it likes; a dead one is noticed by the reader, which ends this loop.
        while rest and not self._stopping.is_set():
            rest = rest[stream.send(rest) :]
        self._last_sent = monotonic()

    def _send_now(self) -> bool:
        """Send without waiting; False when somebody else writes, or the stream does not take it all."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            return self._stream is not None and self._send_some(self._stream)
        finally:
            self._writing.release()

    def _send_some(self, stream: Transport) -> bool:
        try:
            data = self._collect()
            if data:
                self._rest = data[stream.send_now(data) :]
                self._last_sent = monotonic()
        except BaseException as error:  # also what a signal raises in the main thread: then nobody knows what was sent
            stream.shutdown()
            if not isinstance(error, BrokerError):
                raise
        return not self._rest
