"""The library on a real broker: jobs are put, pulled and settled, and whatever goes wrong is said."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time

import pika
import pytest

import hopd
from hopd import (
    AlreadySettled,
    BrokerRefused,
    BrokerUnreachable,
    HopError,
    Job,
    Message,
    PullTimeout,
    PutTimeout,
    PutUncertain,
    Topic,
    Unroutable,
    WorkQueue,
    WorkQueueClosed,
)
from hopd.amqp import frames
from hopd.amqp.properties import Properties
from hopd.errors import UndecodableJob
from tests.support import worlds
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.node_control import NodeControl, QueueDepth
from tests.support.process import Processes
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def queue(broker: Node, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield queue


@pytest.fixture
def topic(queue: WorkQueue, topic_name: str) -> Topic:
    return queue.get_topic(topic_name)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(50) as pool:
        yield pool


def pulled(topic: Topic) -> Job:
    return topic.pull(timeout=20)


# --- putting and settling -----------------------------------------------------------------------


def test_what_is_put_is_pulled(topic: Topic) -> None:
    # Given a job
    message_id = topic.put(b"Hello", headers={"to": "anna", "n": 1.5}, priority=3, correlation_id="c")

    # When it is pulled
    job = pulled(topic)

    # Then it is the one
    assert (job.body, job.message_id, job.topic, job.attempt, job.redelivered) == (b"Hello", message_id, topic.name, 1, False)
    assert job.headers == {"to": "anna", "n": 1.5}
    assert (job.properties.priority, job.properties.correlation_id, job.properties.delivery_mode) == (3, "c", 2)
    assert abs((job.properties.timestamp or 0) - time()) < 60


def test_json_comes_back_as_it_was_put(topic: Topic) -> None:
    topic.put({"to": ["anna"], "n": 1})

    assert pulled(topic).json() == {"to": ["anna"], "n": 1}


def test_a_job_that_is_done_is_over(queue: WorkQueue, topic: Topic, broker: Node) -> None:
    topic.put(b"x")
    job = pulled(topic)

    settled = job.done()

    assert (settled, job.outcome) == (True, "done")
    queue.close()
    assert broker.list_queues()[topic.name] == QueueDepth(0, 0, 0)


def test_a_job_that_fails_with_requeue_comes_again(topic: Topic) -> None:
    topic.put(b"x")

    pulled(topic).fail(requeue=True)

    again = pulled(topic)
    assert (again.body, again.redelivered, again.attempt) == (b"x", True, 1)


def test_a_job_that_fails_without_requeue_is_dropped(queue: WorkQueue, topic: Topic, broker: Node) -> None:
    topic.put(b"x")
    job = pulled(topic)

    job.fail()

    assert job.outcome == "dropped"
    queue.close()
    assert broker.list_queues()[topic.name] == QueueDepth(0, 0, 0)


def test_a_job_that_is_given_back_comes_again(topic: Topic) -> None:
    topic.put(b"x")

    pulled(topic).give_back()

    assert pulled(topic).redelivered


def test_a_job_to_retry_waits_and_comes_again_as_another_attempt(topic: Topic) -> None:
    # Given a job with headers of its own
    message_id = topic.put(b"x", headers={"to": "anna"})

    # When it is to be tried again, twice
    pulled(topic).retry(0.1)
    pulled(topic).retry(0.1)

    # Then it comes as what it was, for the third time
    job = pulled(topic)
    assert (job.body, job.message_id, job.headers["to"], job.attempt) == (b"x", message_id, "anna", 3)


def test_a_job_to_retry_comes_no_earlier_than_asked_for(topic: Topic) -> None:
    topic.put(b"x")
    job = pulled(topic)
    began = monotonic()

    job.retry(0.25)
    pulled(topic)

    assert monotonic() - began >= 0.25


def test_a_buried_job_is_kept_with_the_reason(queue: WorkQueue, topic: Topic) -> None:
    # Given a job
    message_id = topic.put(b"x", headers={"to": "anna"}, content_type="a/b")

    # When it is buried
    job = pulled(topic)
    job.bury("no such user")

    # Then it lies aside, as it was, with the reason
    buried = pulled(queue.get_topic(f"{topic.name}.buried"))
    assert job.outcome == "buried"
    assert (buried.body, buried.message_id, buried.properties.content_type) == (b"x", message_id, "a/b")
    assert (buried.headers["to"], buried.headers["hop-reason"], buried.headers["hop-topic"]) == ("anna", "no such user", topic.name)


def test_what_only_concerned_the_first_way_of_a_job_does_not_travel_with_it(queue: WorkQueue, topic: Topic) -> None:
    # Given a job that expires, was copied to others, and says which user put it
    properties = Properties(headers={"CC": ["elsewhere"], "BCC": ["nowhere"], "to": "anna"}, expiration="60000", user_id="guest")
    topic.put_publishing(b"x", properties)
    job = pulled(topic)
    assert job.properties.user_id == "guest"

    # When it is buried
    job.bury("because")

    # Then it keeps only what is its own
    buried = pulled(queue.get_topic(f"{topic.name}.buried"))
    assert (buried.properties.user_id, buried.properties.expiration) == (None, None)
    assert (buried.headers["to"], buried.headers.keys() & {"CC", "BCC"}) == ("anna", set())


def test_a_job_whose_worker_goes_returns_to_its_topic(broker: Node, topic: Topic, exchange_name: str) -> None:
    # Given a worker that leaves in the middle of a job
    topic.put(b"x")
    with work_queue(broker.url, exchange=exchange_name) as leaving:
        pulled(leaving.get_topic(topic.name))

    # When another pulls, then it gets the job
    job = pulled(topic)
    assert (job.body, job.redelivered) == (b"x", True)


def test_a_job_is_settled_once(topic: Topic) -> None:
    topic.put(b"x")
    job = pulled(topic)
    job.done()

    for settle in (job.done, job.fail, lambda: job.retry(1), lambda: job.bury("x"), job.give_back):
        with pytest.raises(AlreadySettled, match="settled already"):
            settle()
    assert job.outcome == "done"


def test_of_two_who_settle_at_once_one_wins(topic: Topic, pool: ThreadPoolExecutor) -> None:
    # Given many jobs, each of which two want to settle
    topic.put_many([b"x"] * 50)
    jobs = [pulled(topic) for _ in range(50)]

    def settle(how: Callable[[Job], bool]) -> int:
        won = 0
        for job in jobs:
            try:
                won += how(job)
            except AlreadySettled:
                continue
        return won

    # When both do, then each job was settled by one of them
    first, second = pool.submit(settle, Job.done), pool.submit(settle, Job.fail)
    assert first.result(20) + second.result(20) == 50


def test_a_job_that_was_lost_cannot_be_settled_and_comes_again(proxy: Proxy, broker: Node, exchange_name: str, topic_name: str) -> None:
    # Given a job, and the loss of the connection it came over
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        topic = queue.get_topic(topic_name)
        topic.put(b"x")
        job = pulled(topic)
        connection = queue.consuming.open_connection()
        proxy.reset()
        wait_until(lambda: connection is not queue.consuming.open_connection())

        # When it is settled
        settled = job.done()

        # Then that is known to have come too late, and the job comes again
        assert (settled, job.outcome) == (False, "lost")
        again = pulled(topic)
        assert (again.body, again.redelivered, again.done()) == (b"x", True, True)


# --- many ---------------------------------------------------------------------------------------


def test_thousands_are_put_in_one_go(topic: Topic) -> None:
    assert topic.put_many(Message(b"x", message_id=str(number)) for number in range(5000)) == 5000

    assert topic.ready() == 5000


def test_fifty_threads_share_one_work_queue(topic: Topic, pool: ThreadPoolExecutor) -> None:
    # Given threads that put and pull at once
    def work(number: int) -> set[str]:
        for each in range(10):
            topic.put(b"x", message_id=f"{number}.{each}")
        done = set()
        for _ in range(10):
            job = pulled(topic)
            done.add(job.message_id or "")
            job.done()
        return done

    # When all have done their part
    done = list(pool.map(work, range(50)))

    # Then each job was done once
    assert sorted(job for part in done for job in part) == sorted(f"{number}.{job}" for number in range(50) for job in range(10))


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 5_000_000])
def test_a_body_of_any_size_goes_through(topic: Topic, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"\xce" * (size % 256)

    topic.put(body)

    assert pulled(topic).body == body


# --- what goes wrong with a put -----------------------------------------------------------------


def test_a_put_to_a_deleted_topic_is_unroutable(queue: WorkQueue, topic: Topic) -> None:
    topic.delete()

    with pytest.raises(Unroutable, match=f"{topic.name!r} on exchange {queue.exchange!r} was returned: NO_ROUTE"):
        topic.put(b"x")


def test_a_deleted_topic_is_there_again_when_it_is_asked_for(queue: WorkQueue, topic: Topic) -> None:
    topic.delete()

    queue.get_topic(topic.name).put(b"x")

    assert topic.ready() == 1


def test_a_put_to_an_exchange_that_is_not_there_is_unroutable(topic: Topic) -> None:
    with pytest.raises(Unroutable, match="no exchange 'nowhere'"):
        topic.put_publishing(b"x", Properties(), exchange="nowhere")


def test_a_put_after_one_that_cost_the_channel_is_as_good_as_any(topic: Topic) -> None:
    with pytest.raises(Unroutable):
        topic.put_publishing(b"x", Properties(), exchange="nowhere")

    topic.put(b"x")

    assert topic.ready() == 1


def test_many_puts_to_a_deleted_topic_are_each_unroutable(topic: Topic) -> None:
    topic.delete()

    with pytest.raises(hopd.PutManyFailed) as caught:
        topic.put_many([b"x"] * 100)

    assert caught.value.confirmed == 0
    assert {type(error) for error in caught.value.failures.values()} == {Unroutable}


def test_a_put_while_the_broker_is_away_fails_at_its_deadline(proxy: Proxy, broker: Node, exchange_name: str, topic_name: str) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        topic = queue.get_topic(topic_name)
        proxy.refuse()
        proxy.reset()

        with pytest.raises(PutTimeout, match="Connection refused") as caught:
            topic.put(b"x", timeout=0.3)
        assert not caught.value.sent


def test_a_put_waits_for_a_broker_that_comes_back(
    proxy: Proxy, broker: Node, exchange_name: str, topic_name: str, pool: ThreadPoolExecutor
) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        # Given a broker that is away, and a put
        topic = queue.get_topic(topic_name)
        proxy.refuse()
        proxy.reset()
        put = pool.submit(topic.put, b"x", timeout=20.0)
        wait_until(lambda: queue.status()["publishing"].state == "recovering")

        # When the broker comes back, then the job is put
        proxy.heal()
        assert put.result(20)
        assert topic.ready() == 1


def lose_the_confirm(proxy: Proxy, broker: Node, topic: Topic) -> None:
    """Reset the connection after the broker has a second job and before anybody hears of it."""
    wait_until(lambda: broker.list_queues()[topic.name].ready == 2)
    proxy.reset()
    proxy.heal()


def test_a_put_whose_confirm_is_lost_is_uncertain(
    proxy: Proxy, broker: Node, exchange_name: str, topic_name: str, pool: ThreadPoolExecutor
) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        # Given a put, whose confirm is held up
        topic = queue.get_topic(topic_name)
        topic.put(b"first")
        proxy.down.held = True
        put = pool.submit(topic.put, b"x", timeout=20.0)

        # When the connection is lost, then nobody can know
        lose_the_confirm(proxy, broker, topic)
        with pytest.raises(PutUncertain, match="may or may not have been put"):
            put.result(20)


def test_an_uncertain_put_that_is_tried_again_is_there_twice_under_one_id(
    proxy: Proxy, broker: Node, exchange_name: str, topic_name: str, pool: ThreadPoolExecutor
) -> None:
    with work_queue(proxy.through(broker.url), exchange=exchange_name) as queue:
        # Given a put, whose confirm is held up
        topic = queue.get_topic(topic_name)
        topic.put(b"first")
        proxy.down.held = True
        put = pool.submit(topic.put, b"x", timeout=20.0, retry_uncertain=True)

        # When the connection is lost
        lose_the_confirm(proxy, broker, topic)

        # Then it is put once more
        message_id = put.result(20)
        assert [pulled(topic).message_id for _ in range(3)][1:] == [message_id] * 2


# --- messages nobody can read -------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """Properties with headers of tables in tables: the broker passes them on at any depth."""
    table = b"\x00\x00\x00\x00"
    for _ in range(depth):
        table = struct.pack(">I", 3 + len(table)) + b"\x01kF" + table
    return b"\x20\x00" + table


BROKEN = nested(1000)


@pytest.fixture
def unreadable(queue: WorkQueue, topic: Topic) -> Job:
    """A pulled job with headers that no table is."""
    deadline = monotonic() + 20
    connection = queue.publishing.connection(deadline)
    channel = connection.channel(deadline, ack_window=0.0)
    method = frames.publish_method(channel.number, queue.exchange.encode(), topic.name.encode())
    with connection.lock:
        connection.send(frames.publish(method, channel.number, BROKEN, b"body", connection.frame_max))
    return pulled(topic)


def test_a_job_with_broken_headers_is_pulled_like_any_other(unreadable: Job) -> None:
    assert (unreadable.body, unreadable.done()) == (b"body", True)


def test_broken_headers_are_an_error_of_their_job_alone(topic: Topic, unreadable: Job) -> None:
    with pytest.raises(UndecodableJob):
        _ = unreadable.headers

    topic.put(b"next")
    assert pulled(topic).body == b"next"


def test_a_job_with_broken_headers_is_buried_with_its_body_and_what_it_had_for_headers(
    queue: WorkQueue, topic: Topic, unreadable: Job
) -> None:
    unreadable.bury("its headers are broken")

    buried = pulled(queue.get_topic(f"{topic.name}.buried"))
    assert (buried.body, buried.headers["hop-raw-properties"]) == (b"body", BROKEN)


# --- topics of all kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "amq.mine", "x" * 201, "line\nbreak", "\ud800"])
def test_what_cannot_be_a_topic_is_refused(queue: WorkQueue, name: str) -> None:
    with pytest.raises(HopError, match="is no topic"):
        queue.get_topic(name)


@pytest.mark.parametrize("name", ["\u00fc", "a b", "a.b#*"])
def test_any_printable_name_can_be_a_topic(queue: WorkQueue, topic_name: str, name: str) -> None:
    topic = queue.get_topic(name + topic_name)

    topic.put(b"x")

    assert pulled(topic).topic == name + topic_name


def test_a_transient_topic_is_shared_with_those_who_declared_it_so(broker: Node, exchange_name: str, topic_name: str) -> None:
    # Given a queue that another client declared transient, as Go's Hop does
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        connection.channel().queue_declare(topic_name)

    # When a transient work queue uses it
    with work_queue(broker.url, exchange=exchange_name, durable=False) as queue:
        topic = queue.get_topic(topic_name)
        topic.put(b"x")

        # Then it works, and so do jobs
        assert pulled(topic).properties.delivery_mode == 1


def test_a_topic_whose_queue_differs_is_used_as_it_is_with_a_warning(
    broker: Node, exchange_name: str, topic_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a queue with arguments of its own
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        connection.channel().queue_declare(topic_name, durable=True, arguments={"x-max-priority": 5})

    # When it is used as a topic
    with work_queue(broker.url, exchange=exchange_name) as queue:
        topic = queue.get_topic(topic_name)
        topic.put(b"x")

        # Then it works, and somebody is told
        assert pulled(topic).body == b"x"
    assert "queue_differs" in [getattr(record, "event", None) for record in caplog.records]


def test_an_expired_job_is_not_pulled(topic: Topic) -> None:
    topic.put(b"x", expires=0.01)

    wait_until(lambda: topic.ready() == 0)


def test_quorum_topics_count_what_comes_again(broker: Node, exchange_name: str, topic_name: str) -> None:
    with work_queue(broker.url, exchange=exchange_name, queue_type="quorum") as queue:
        topic = queue.get_topic(topic_name)
        topic.put(b"x")

        pulled(topic).fail(requeue=True)

        assert pulled(topic).attempt == 2


# --- getting in ---------------------------------------------------------------------------------


def test_brokers_are_tried_in_turn(broker: Node, proxy: Proxy, topic_name: str, exchange_name: str) -> None:
    proxy.refuse()

    with work_queue([proxy.through(broker.url), broker.url], exchange=exchange_name) as queue:
        assert queue.get_topic(topic_name).put(b"x")


def test_connecting_says_at_once_what_is_wrong(broker: Node) -> None:
    with hopd.connect(broker.url) as queue:
        assert queue.status()["publishing"].state == "open"


@pytest.mark.parametrize(
    ("change", "code", "complaint"),
    [
        (("guest:guest", "guest:s3cret"), 403, "ACCESS_REFUSED"),
        (("guest:guest", "nobody:s3cret"), 403, "ACCESS_REFUSED"),
        (("/", "/no-such-vhost"), 530, "vhost no-such-vhost"),
    ],
    ids=["wrong password", "unknown user", "unknown vhost"],
)
def test_a_broker_that_refuses_us_says_why(broker: Node, change: tuple[str, str], code: int, complaint: str) -> None:
    head, path = broker.url.rsplit("/", 1)
    url = f"{head}/{path}".replace(*change) if change[0] != "/" else head + change[1]

    with pytest.raises(BrokerRefused, match=complaint) as caught, work_queue(url) as queue:
        queue.connect()

    assert caught.value.code == code
    assert "s3cret" not in repr(caught.value)


def test_a_broker_that_stays_silent_is_given_up(broker: Node, proxy: Proxy) -> None:
    proxy.stay_silent()

    with pytest.raises(BrokerUnreachable), work_queue(proxy.through(broker.url), connect_timeout=0.1, max_connection_retry=0.5) as queue:
        queue.connect()


def test_a_broker_sees_the_name_of_a_connection(rabbitmq: NodeControl, topic_name: str) -> None:
    with work_queue(rabbitmq.url, name=topic_name) as queue:
        queue.connect()

        # Connections of other tests may go while they are asked.
        asked = "[catch rabbit_networking:connection_info(C, [client_properties]) || C <- rabbit_networking:connections()]"
        properties = rabbitmq.eval(asked)

    assert f"{topic_name}-publish" in properties


# --- the end ------------------------------------------------------------------------------------


def test_closing_sends_every_settlement(queue: WorkQueue, topic: Topic, broker: Node) -> None:
    # Given many jobs, settled in the reverse order and just before the end
    topic.put_many([b"x"] * 100)
    for job in reversed([pulled(topic) for _ in range(100)]):
        job.done()

    # When the work queue is closed, then the broker has heard of each of them
    queue.close()
    assert broker.list_queues()[topic.name] == QueueDepth(0, 0, 0)


def test_closing_gives_unsettled_jobs_back(queue: WorkQueue, topic: Topic, broker: Node) -> None:
    topic.put_many([b"x"] * 5)
    jobs = [pulled(topic) for _ in range(3)]

    queue.close()

    assert [job.done() for job in jobs] == [False] * 3
    assert broker.list_queues()[topic.name] == QueueDepth(5, 0, 0)


def test_closing_leaves_no_thread(broker: Node, topic_name: str) -> None:
    before = threading.active_count()
    with work_queue(broker.url) as queue:
        topic = queue.get_topic(topic_name)
        topic.put(b"x")
        pulled(topic)

    wait_until(lambda: threading.active_count() <= before)


def test_closing_twice_is_once(queue: WorkQueue) -> None:
    queue.connect()

    queue.close()
    queue.close()

    assert {status.state for status in queue.status().values()} == {"closed"}


def test_a_closed_work_queue_takes_and_gives_nothing(queue: WorkQueue, topic: Topic) -> None:
    queue.close()

    for use in (lambda: topic.put(b"x"), topic.pull, lambda: queue.get_topic("other"), queue.connect, topic.ready):
        with pytest.raises(WorkQueueClosed):
            use()


def test_closing_waits_for_puts_under_way(queue: WorkQueue, topic: Topic, pool: ThreadPoolExecutor) -> None:
    # Given many jobs being put
    numbers = iter(range(3000))
    put = pool.submit(topic.put_many, (b"x" for _ in numbers))
    wait_until(lambda: next(numbers, 3000) > 10)

    # When the work queue is closed, then all of them are confirmed first
    queue.close()
    assert put.result(20) > 2000


# --- other processes ----------------------------------------------------------------------------

FORKING = """
import os, sys
if sys.argv[1] == "patched":
    from gevent import monkey
    monkey.patch_all()
from hopd import ForkedProcess, WorkQueue

def refused(use):
    try:
        use()
    except ForkedProcess as error:
        return True

with WorkQueue(sys.argv[2]) as queue:
    topic = queue.get_topic(sys.argv[3])
    topic.put(b"one")
    job = topic.pull(20)
    child = os.fork()
    if child == 0:
        uses = [lambda: topic.put(b"two"), lambda: topic.pull(1), lambda: queue.get_topic("x"), queue.connect, topic.ready, job.done]
        answers = [refused(use) for use in uses]
        queue.close()
        print("child", answers, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert job.done()
    topic.put(b"three")
    print("parent", topic.pull(20).body, flush=True)
"""


def test_a_forked_process_is_told_so_and_does_its_parent_no_harm(broker: Node, processes: Processes, topic_name: str) -> None:
    process = processes.python("-c", FORKING, "patched" if worlds.patched() else "plain", broker.url, topic_name)

    assert process.wait(60) == 0, process.stderr
    assert process.stdout.splitlines() == ["child [True, True, True, True, True, True]", "parent b'three'"]


def test_a_pull_ends_when_nothing_comes(topic: Topic) -> None:
    with pytest.raises(PullTimeout):
        topic.pull(timeout=0.01)
