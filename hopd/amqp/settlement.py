"""What is settled on one channel, and what to tell the broker about it, in as few frames as it takes.

RabbitMQ 3.10 finds the message of a single basic.ack by walking everything unsettled on the channel from its head,
while one `multiple` takes a whole prefix at once. So a finished delivery whose predecessors still run waits for them,
but never longer than `ack_window`, and not at all where little is unsettled.

Threads: `opened` and `take` run under the connection's lock; the settling calls may come from anywhere and touch only
operations that are atomic on their own (set.remove, list.append), so that a job costs no lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from hopd.amqp import frames
from hopd.errors import AlreadySettled, ForkedProcess

#: Seconds a finished delivery waits for its predecessors, by default: a random 1-50 ms workload then needs almost no single acks.
ACK_WINDOW = 0.05

#: With fewer unsettled deliveries than this a single ack is cheap for the broker, and waiting would only hold up prefetch.
FEW_UNSETTLED = 64

_T = TypeVar("_T")


def _drained(items: list[_T]) -> list[_T]:
    """Take what is in the list. It stays the same list, so that a thread about to append to it loses nothing."""
    taken = items[:]
    del items[: len(taken)]
    return taken


class _Parents(set[int]):
    """The deliveries of the process that we were forked from."""

    def remove(self, tag: int) -> None:
        raise ForkedProcess(f"delivery {tag} belongs to the process that received it, and this is a child of it")


class Settlement:
    """The unsettled deliveries of one channel, from its opening to its end.

    A delivery keeps the settlement it came with; a channel that is opened again has a new one. So a stale tag cannot
    reach the wire: settling on a closed settlement returns False and is counted in `stale`.
    """

    def __init__(self, channel: int, wake: Callable[[Settlement], None], *, ack_window: float = ACK_WINDOW) -> None:
        self._channel = channel
        self._wake = wake
        self._ack_window = ack_window
        self._unsettled: set[int] = set()
        self._finished: list[int] = []  # since the last take
        self._frames: list[bytes] = []  # rejects and nacks since the last take
        # What the broker has not been told of, never more than the prefetch. What it has been told of is not kept: behind a
        # delivery that hangs that would be all that come and go meanwhile.
        self._open: set[int] = set()
        self._lowest = 1  # no open tag is lower
        self._pending: set[int] = set()  # finished, not yet told
        self._held: deque[tuple[float, list[int]]] = deque()  # finished out of order: when they must be told at the latest
        self._dirty = False
        self._hurry = False
        self.closed = False
        self.stale = 0

    @property
    def unsettled(self) -> int:
        """How many deliveries are not finished; one that is claimed is not. To within those that are settled meanwhile."""
        return len(self._open) - len(self._pending) - len(self._finished)

    def opened(self, tag: int) -> None:
        """A delivery arrived."""
        self._unsettled.add(tag)
        self._open.add(tag)

    def claim(self, tag: int) -> bool:
        """Reserve the one settlement a delivery has; False when its channel is gone and the broker will deliver it again.

        `AlreadySettled` when somebody was faster. After it, exactly one of `ack_claimed` and `unclaim` is called.
        """
        try:
            self._unsettled.remove(tag)
        except KeyError:
            raise AlreadySettled(f"delivery {tag} is settled already: done, fail, retry and bury settle a job once") from None
        if self.closed:
            self.stale += 1
            return False
        return True

    def unclaim(self, tag: int) -> None:
        """Give a claim back: what had to happen before the settlement failed."""
        self._unsettled.add(tag)

    def ack_claimed(self, tag: int) -> bool:
        """The claimed delivery is done. False when its channel went meanwhile."""
        if self.closed:
            self.stale += 1
            return False
        self._finished.append(tag)
        if not self._dirty:
            self._mark()
        return True

    def ack(self, tag: int) -> bool:
        """The delivery is done."""
        return self.claim(tag) and self.ack_claimed(tag)

    def reject(self, tag: int, *, requeue: bool) -> bool:
        """The delivery failed; back to the queue, or out of it."""
        return self.claim(tag) and self._say(tag, frames.reject(self._channel, tag, requeue))

    def nack(self, tag: int) -> bool:
        """The delivery goes back unharmed: nobody worked on it."""
        return self.claim(tag) and self._say(tag, frames.nack(self._channel, tag, True))

    def hurry(self) -> None:
        """From now on hold nothing back: the channel is draining."""
        self._hurry = True
        self._mark()

    def close(self) -> None:
        """The channel is gone; whatever is unsettled is the broker's again."""
        self.closed = True
        self._held.clear()  # else the writer would look after it for ever

    def leave_to_parent(self) -> None:
        """In a forked child: the deliveries are the parent's to settle."""
        self._unsettled = _Parents()
        self.close()

    def _say(self, tag: int, frame: bytes) -> bool:
        self._frames.append(frame)
        # After its frame: `take` may run in between, and the frame must not be overtaken by a `multiple` that covers the tag.
        self._finished.append(-tag)
        self._mark()
        return True

    def _mark(self) -> None:
        self._dirty = True
        self._wake(self)

    def take(self, now: float) -> bytes:
        """The frames to send now. Call again at `due` at the latest; `now` is monotonic seconds."""
        self._dirty = False
        if self.closed:
            return b""
        finished = self._collect()
        pieces = _drained(self._frames)
        prefix = self._advance()
        if prefix is not None:
            pieces.append(prefix)
        if self._hurry or len(self._unsettled) + len(self._pending) < FEW_UNSETTLED:
            pieces.extend(self._tell(sorted(self._pending)))
            self._held.clear()
        else:
            pieces.extend(self._tell_overdue(now))
            if finished and not self._pending.isdisjoint(finished):
                self._held.append((now + self._ack_window, finished))
        return b"".join(pieces)

    @property
    def due(self) -> float | None:
        """When `take` must be called again though nothing new finished (monotonic seconds); None for not at all."""
        return self._held[0][0] if self._held else None

    def _collect(self) -> list[int]:
        """The tags acked since the last take."""
        batch = _drained(self._finished)
        finished = []
        for tag in batch:
            if tag > 0:
                finished.append(tag)
            else:
                self._open.discard(-tag)
        self._pending.update(finished)
        return finished

    def _advance(self) -> bytes | None:
        """Move past all that is finished, from the lowest open tag on: one ack for it."""
        open_, pending = self._open, self._pending
        last = count = told = 0
        tag = self._lowest
        while open_:
            if tag in pending:
                pending.remove(tag)
                open_.remove(tag)
                last = tag
                count += 1
            elif tag in open_:
                break
            else:
                told += 1
                if told > len(open_):  # those that came and went while one hung: one look at what is left is shorter than their way
                    told, tag = 0, min(open_) - 1
            tag += 1
        self._lowest = tag
        # A `multiple` must name a tag that is itself unsettled (else 406), so it names the last one that nobody told the broker.
        return frames.ack(self._channel, last, count > 1) if last else None

    def _tell_overdue(self, now: float) -> list[bytes]:
        overdue: list[int] = []
        while self._held and self._held[0][0] <= now:
            overdue += [tag for tag in self._held.popleft()[1] if tag in self._pending]
        return self._tell(overdue)

    def _tell(self, tags: list[int]) -> list[bytes]:
        self._pending.difference_update(tags)
        self._open.difference_update(tags)
        return [frames.ack(self._channel, tag, False) for tag in tags]
