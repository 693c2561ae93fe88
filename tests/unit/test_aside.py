"""Moving jobs aside: which queue, which headers, and publish before settle."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

import pytest

from hopd import names
from hopd.amqp import frames
from hopd.amqp.outgoing import Outgoing
from hopd.amqp.properties import Properties, decode, encode
from hopd.amqp.settlement import Settlement
from hopd.amqp.topology import QueueSpec
from hopd.amqp.wire import Delivery
from hopd.aside import ENDLESS, RETRY_QUEUE_IDLE, Aside, buried_queue, move, retry_queue, travelling
from hopd.delay import Wait
from hopd.errors import AlreadySettled, BrokerError, BrokerRefused, BrokerUnreachable, PutRefused, PutTimeout, Unroutable

TAG = 3

#: Far enough for everything here. Monotonic seconds.
LATER = 1e12


class FakeBroker:
    """Publisher, link, connection and channel in one: keeps what it is asked for, after raising what it was told to."""

    server_version = (3, 10, 8)

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.declared: list[str] = []
        self.put_errors: list[Exception] = []
        self.errors: list[BrokerError] = []

    def publish(self, message: Outgoing, deadline: float) -> None:
        if self.put_errors:
            raise self.put_errors.pop(0)
        self.published.append(message)

    def connection(self, deadline: float) -> FakeBroker:
        if self.errors:
            raise self.errors.pop(0)
        return self

    def channel(self, deadline: float, *, ack_window: float) -> FakeBroker:
        return self

    def declare_queue(self, name: str, deadline: float, **options: Any) -> int:
        self.declared.append(name)
        return 0

    def close(self, deadline: float) -> None:
        """A channel's end."""

    @property
    def last(self) -> Properties:
        return decode(self.published[-1].properties)


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def aside(broker: FakeBroker) -> Aside:
    return Aside(QueueSpec("emails"), broker, broker)  # type: ignore[arg-type]


@pytest.fixture
def settlement() -> Settlement:
    return Settlement(1, lambda settlement: None)


def delivery(settlement: Settlement, **properties: Any) -> Delivery:
    one = Delivery(1, TAG, False, b"", encode(Properties(**properties)), b"hello")
    one.settlement = settlement
    settlement.opened(TAG)
    return one


# --- the queues ---------------------------------------------------------------------------------


def test_a_retry_queue_sends_jobs_back_to_their_topic_and_goes_when_nobody_needs_it() -> None:
    assert retry_queue(QueueSpec("emails"), 5000, ()) == QueueSpec(
        "emails.retry.5000",
        True,
        "classic",
        {
            "x-message-ttl": 5000,
            "x-expires": 5000 + RETRY_QUEUE_IDLE * 1000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "emails",
        },
    )


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("version", [(3, 10, 0), (4, 1, 0)])
def test_durable_jobs_wait_in_a_quorum_queue_that_keeps_them_until_they_are_back(kind: str, version: tuple[int, ...]) -> None:
    spec = retry_queue(QueueSpec("emails", True, kind), 5000, version)

    assert spec.queue_type == "quorum"
    assert (spec.arguments["x-dead-letter-strategy"], spec.arguments["x-overflow"]) == ("at-least-once", "reject-publish")


@pytest.mark.parametrize(("durable", "version"), [(False, (3, 10, 8)), (True, (3, 9, 29)), (True, ())])
def test_jobs_wait_in_a_classic_queue_where_there_is_nothing_better(durable: bool, version: tuple[int, ...]) -> None:
    spec = retry_queue(QueueSpec("emails", durable), 5000, version)

    assert spec.queue_type == "classic"
    assert "x-dead-letter-strategy" not in spec.arguments


def test_a_transient_topics_queues_are_transient() -> None:
    topic = QueueSpec("emails", durable=False)

    assert (retry_queue(topic, 100, (3, 10, 8)).durable, buried_queue(topic).durable) == (False, False)


@pytest.mark.parametrize(("kind", "arguments"), [("classic", {}), ("quorum", {"x-delivery-limit": ENDLESS})])
def test_a_buried_job_can_be_looked_at_any_number_of_times(kind: str, arguments: dict[str, int]) -> None:
    topic = QueueSpec("emails", True, kind, {"x-delivery-limit": 5})

    assert buried_queue(topic) == QueueSpec("emails.buried", True, kind, arguments)


# --- what travels -------------------------------------------------------------------------------


def test_a_job_keeps_its_properties_and_headers_on_its_way() -> None:
    given = Properties(headers={"x": 1}, message_id="7", priority=3, correlation_id="c", timestamp=5, type="t")

    moved = travelling(encode(given), {names.ATTEMPTS: 1})

    assert moved == Properties(headers={"x": 1, names.ATTEMPTS: 1}, message_id="7", priority=3, correlation_id="c", timestamp=5, type="t")


@pytest.mark.parametrize(
    "header",
    [
        {"x-delivery-count": 3},
        {"CC": ["other"]},
        {"x-death": [{"queue": "emails", "reason": "expired", "count": 1}]},
        {"x-first-death-reason": "expired"},
        {"x-last-death-queue": "emails"},
        Wait(100, 0, 100, 5).headers,
    ],
    ids=lambda header: next(iter(header)),
)
def test_what_belongs_to_the_old_place_stays_there(header: dict[str, Any]) -> None:
    assert travelling(encode(Properties(headers={"x": 1, **header})), {}).headers == {"x": 1}


def test_nothing_that_would_end_or_refuse_a_job_aside_travels() -> None:
    moved = travelling(encode(Properties(expiration="1000", user_id="guest")), {})

    assert (moved.expiration, moved.user_id) == (None, None)


# --- bury, retry, wait on -----------------------------------------------------------------------


def test_a_job_that_came_too_early_waits_on_with_what_is_left(aside: Aside, broker: FakeBroker, settlement: Settlement) -> None:
    wait = Wait(step=60_000, left=500, whole=60_500, due_at=1_700_000_000_000)

    aside.wait_on(delivery(settlement, headers={"x": 1, **Wait(5, 6, 7, 8).headers}), wait, LATER)

    assert broker.published[0].routing_key == "emails.retry.60000"
    assert broker.last.headers == {"x": 1, **wait.headers}


def test_buried_jobs_are_kept_for_ever_unless_told_otherwise(aside: Aside, broker: FakeBroker, settlement: Settlement) -> None:
    one = delivery(settlement)
    aside.bury(one, {}, LATER)
    for_ever = broker.last.expiration
    aside.keep_buried = 1209600.0
    aside.bury(one, {}, LATER)

    assert (for_ever, broker.last.expiration) == (None, "1209600000")


def test_a_retried_job_does_not_expire_as_a_buried_one_does(aside: Aside, broker: FakeBroker, settlement: Settlement) -> None:
    aside.keep_buried = 5.0

    aside.retry(delivery(settlement), 5.0, {}, LATER)

    assert broker.last.expiration is None


def test_a_queue_is_declared_once_for_a_while(aside: Aside, broker: FakeBroker, settlement: Settlement) -> None:
    one = delivery(settlement)
    aside.retry(one, 5.0, {}, LATER)
    first = list(broker.declared)

    aside.retry(one, 4.0, {}, LATER)

    assert set(first) == {"emails.retry.5000"}
    assert broker.declared == first


def test_a_queue_that_was_deleted_meanwhile_is_declared_again(aside: Aside, broker: FakeBroker, settlement: Settlement) -> None:
    one = delivery(settlement)
    aside.retry(one, 5.0, {}, LATER)
    first = len(broker.declared)
    broker.put_errors = [Unroutable()]

    aside.retry(one, 5.0, {}, LATER)

    assert (len(broker.declared), len(broker.published)) == (2 * first, 2)


@pytest.mark.parametrize(("trouble", "error"), [(BrokerRefused("no", code=403), PutRefused), (BrokerUnreachable(), PutTimeout)])
def test_a_queue_that_cannot_be_declared_is_a_job_that_was_not_put(
    aside: Aside, broker: FakeBroker, settlement: Settlement, trouble: BrokerError, error: type[Exception]
) -> None:
    broker.errors = [trouble]

    with pytest.raises(error, match=r"emails\.retry\.5000"):
        aside.retry(delivery(settlement), 5.0, {}, LATER)


# --- publish, then settle -----------------------------------------------------------------------


def test_a_delivery_is_settled_after_it_was_published(settlement: Settlement) -> None:
    one = delivery(settlement)
    sent_before: list[bytes] = []

    assert move(one, lambda: sent_before.append(settlement.take(0.0)))

    assert sent_before == [b""]
    assert settlement.take(0.0) == frames.ack(1, TAG, False)


def test_a_delivery_that_could_not_be_published_is_as_unsettled_as_before(settlement: Settlement) -> None:
    one = delivery(settlement)

    def publish() -> None:
        raise PutTimeout

    with pytest.raises(PutTimeout):
        move(one, publish)

    assert settlement.take(0.0) == b""
    assert settlement.ack(TAG)


def test_nothing_is_published_for_a_delivery_that_the_broker_has_back(settlement: Settlement) -> None:
    one = delivery(settlement)
    settlement.close()
    published: list[int] = []

    assert not move(one, lambda: published.append(1))
    assert published == []


def test_a_delivery_whose_channel_goes_while_it_is_published_counts_as_not_moved(settlement: Settlement) -> None:
    assert not move(delivery(settlement), settlement.close)


def test_a_settled_delivery_is_not_moved(settlement: Settlement) -> None:
    one = delivery(settlement)
    settlement.ack(TAG)

    with pytest.raises(AlreadySettled):
        move(one, lambda: pytest.fail("published"))


def test_a_short_deadline_is_kept_while_another_waits_to_declare(aside: Aside, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given one who waits for a broker that is away
    waits, over = threading.Event(), threading.Event()

    def connection(_deadline: float) -> FakeBroker:
        waits.set()
        over.wait(10.0)
        return broker

    monkeypatch.setattr(broker, "connection", connection)
    patient = threading.Thread(target=aside.declare, args=(None, LATER))
    patient.start()
    waits.wait(10.0)

    # When another cannot wait as long, then it does not have to
    with pytest.raises(PutTimeout, match="others were waiting"):
        aside.declare(None, monotonic() + 0.02)
    over.set()
    patient.join(10.0)
