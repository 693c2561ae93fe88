"""The work queue: one broker and one exchange, a group of topics, and the connections that serve them."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any

from hopd import names
from hopd.amqp.connection import Connection
from hopd.amqp.endpoint import Options, Tls, parse
from hopd.amqp.fork import stays_with_parent
from hopd.amqp.publisher import Publisher
from hopd.amqp.recovery import Backoff, Link, LinkStatus
from hopd.amqp.topology import QueueSpec
from hopd.errors import ForkedProcess, HopError, WorkQueueClosed
from hopd.pull import A_YEAR
from hopd.topic import Topic


class WorkQueue:
    """A work queue. Threads and greenlets share one; it connects when it is first used and again whenever it is cut off.

    `url` is one AMQP URL or several, tried in turn. Times are in seconds. `durable=False` makes topics and jobs transient, as Go's
    Hop does by default. `max_connection_retry` bounds how long a lost connection is tried for before callers get an error (None: for
    ever), with pauses that grow up to `recovery_max`; `put_timeout` bounds how long a put may take.

    There is one connection for pulling and one for putting, each opened when first needed: a broker under an alarm stops reading
    from those that publish, and settlements must not wait behind that.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        exchange: str = names.EXCHANGE,
        durable: bool = True,
        queue_type: str = "classic",
        max_connection_retry: float | None = 900.0,
        recovery_max: float = 30.0,
        put_timeout: float = 30.0,
        heartbeat: float = 60.0,
        connect_timeout: float = 10.0,
        name: str = "hopd",
        tls: Tls | None = None,
    ) -> None:
        urls = [url] if isinstance(url, str) else list(url)
        if not urls:
            raise HopError("a work queue needs at least one broker URL")
        self.exchange = exchange
        self.durable = durable
        self.queue_type = queue_type
        self.put_timeout = put_timeout
        self.call_timeout = A_YEAR if max_connection_retry is None else max_connection_retry
        endpoints = [parse(one, tls) for one in urls]

        def link(purpose: str) -> Link:
            options = Options(f"{name}-{purpose}", heartbeat, connect_timeout)
            return Link(endpoints, options, backoff=Backoff(cap=recovery_max), give_up_after=max_connection_retry)

        self.consuming, self.publishing = link("consume"), link("publish")
        self._publisher = Publisher(self.publishing)
        self._topics: dict[str, Topic] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._forked = False
        self._prefix = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        stays_with_parent(self)

    def get_topic(self, name: str) -> Topic:
        """The topic of that name, declared in the broker if it is not there. Asking again declares it again, should it be gone."""
        self.check_process()
        topic = self.topic(name)
        topic.declare()
        return topic

    def topic(
        self, name: str, *, durable: bool | None = None, queue_type: str | None = None, arguments: Mapping[str, Any] | None = None
    ) -> Topic:
        """The topic of that name without asking the broker. The first call says what its queue is like."""
        problem = names.topic_problem(name)
        if problem:
            raise HopError(f"{name!r} is no topic: {problem}")
        with self._lock:
            if self._closed:
                raise WorkQueueClosed
            topic = self._topics.get(name)
            if topic is None:
                queue = QueueSpec(name, self.durable if durable is None else durable, queue_type or self.queue_type, arguments or {})
                topic = self._topics[name] = Topic(queue, self, self._publisher, self.publishing, self.consuming)
            return topic

    def forget(self, name: str) -> None:
        """Have the next call of `topic` say anew what the topic's queue is like. Who has the topic may go on with it."""
        with self._lock:
            self._topics.pop(name, None)

    def connect(self) -> WorkQueue:
        """Connect now instead of with the first use; `BrokerUnreachable` or `BrokerRefused` when that fails."""
        self.any_connection(monotonic() + self.call_timeout)
        return self

    def status(self) -> dict[str, LinkStatus]:
        """How the two connections stand: `consuming` and `publishing`."""
        return {"consuming": self.consuming.status(), "publishing": self.publishing.status()}

    def close(self, timeout: float = 10.0) -> None:
        """Let the puts under way be confirmed, send every settlement, give unsettled jobs back, leave: within about `timeout` seconds."""
        if self._forked:
            return  # the connections are the parent's
        deadline = monotonic() + timeout
        with self._lock:
            self._closed = True
            topics = list(self._topics.values())
        for topic in topics:
            topic.close()
        # Puts first, as a job that is being buried is settled only when it is safe; but settlements need some of the time, too.
        self._publisher.wait_idle(deadline - timeout / 4)
        self.consuming.close(deadline)
        self.publishing.close(deadline)
        self._publisher.close()

    def __enter__(self) -> WorkQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- for its topics -----------------------------------------------------------------------

    def new_id(self) -> str:
        """An id no other job has: a random prefix for the work queue, and a count."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def check_process(self) -> None:
        """`ForkedProcess` in a child of the process that made the work queue."""
        if self._forked:
            raise ForkedProcess

    def leave_to_parent(self) -> None:
        """In a forked child: the work queue is not ours."""
        self._forked = True

    def any_connection(self, deadline: float) -> Connection:
        """A connection that is open, else the one for putting: producers are the many, and then need no second one."""
        return self.consuming.open_connection() or self.publishing.connection(deadline)


def connect(url: str | Sequence[str], **options: Any) -> WorkQueue:
    """A connected `WorkQueue`; takes the same options."""
    return WorkQueue(url, **options).connect()
