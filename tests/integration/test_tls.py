"""amqps:// to a real rabbitmq: whoever is trusted is talked to, whoever is not is refused, and nothing hangs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from hopd import BrokerRefused, BrokerUnreachable, WorkQueue
from hopd.amqp.endpoint import Tls
from tests.support.library import work_queue
from tests.support.node_control import NodeControl
from tests.support.private_node import free_port
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and what it has signed for the name localhost."""

    directory: Path

    @property
    def ca(self) -> str:
        return str(self.directory / "ca.pem")

    @property
    def certificate(self) -> str:
        return str(self.directory / "server.pem")

    @property
    def key(self) -> str:
        return str(self.directory / "server.key")


def authority(directory: Path) -> Authority:
    directory.mkdir()
    made = Authority(directory)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", f"{directory}/ca.key", "-out", made.ca, "-subj", "/CN=hopd test CA", "-days", "2")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    signed = ("-CA", made.ca, "-CAkey", f"{directory}/ca.key", "-days", "2")
    openssl(
        "req",
        "-x509",
        *curve,
        "-keyout",
        made.key,
        "-out",
        made.certificate,
        *names,
        *signed,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    )
    return made


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "trusted")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "stranger")


@pytest.fixture(scope="module")
def port(rabbitmq: NodeControl, trusted: Authority) -> int:
    """A port of the run's node that speaks TLS. It asks for a certificate, and accepts who has none."""
    port = free_port()
    files = f'{{cacertfile, "{trusted.ca}"}}, {{certfile, "{trusted.certificate}"}}, {{keyfile, "{trusted.key}"}}'
    options = f"[{files}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, false}}]"
    rabbitmq.eval(f'begin rabbit_networking:ensure_ssl(), rabbit_networking:start_ssl_listener({{"127.0.0.1", {port}}}, {options}, 1) end')
    return port


@pytest.fixture
def url(port: int) -> str:
    return f"amqps://guest:guest@localhost:{port}/"


@pytest.fixture
def queue(url: str, trusted: Authority, exchange_name: str) -> Iterator[WorkQueue]:
    with work_queue(url, tls=Tls(ca_file=trusted.ca), exchange=exchange_name) as queue:
        yield queue


def test_jobs_go_through_tls(queue: WorkQueue, topic_name: str) -> None:
    topic = queue.get_topic(topic_name)

    topic.put_many([str(number) for number in range(500)])

    came = []
    for _ in range(500):
        job = topic.pull(20)
        came.append(int(job.body))
        job.done()
    assert sorted(came) == list(range(500))


def test_a_large_body_goes_through_tls(queue: WorkQueue, topic_name: str) -> None:
    topic = queue.get_topic(topic_name)
    body = bytes(range(256)) * 20_000

    topic.put(body)

    assert topic.pull(20).body == body


def test_threads_put_and_pull_through_tls_at_once(queue: WorkQueue, topic_name: str) -> None:
    # Given threads that put and pull over the same two connections
    topic = queue.get_topic(topic_name)
    done: list[bytes] = []

    def work(number: int) -> None:
        for each in range(20):
            topic.put(f"{number}.{each}")
            job = topic.pull(20)
            done.append(job.body)
            job.done()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # Then each job was done once
    assert sorted(done) == sorted(f"{number}.{each}".encode() for number in range(8) for each in range(20))


def test_a_client_may_prove_who_it_is(url: str, trusted: Authority) -> None:
    tls = Tls(ca_file=trusted.ca, cert_file=trusted.certificate, key_file=trusted.key)

    with work_queue(url, tls=tls) as queue:
        assert queue.connect().status()["publishing"].state == "open"


def test_a_certificate_of_a_stranger_is_not_trusted(url: str, stranger: Authority) -> None:
    with pytest.raises(BrokerRefused, match="certificate is not trusted"), work_queue(url, tls=Tls(ca_file=stranger.ca)) as queue:
        queue.connect()


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(url: str) -> None:
    with pytest.raises(BrokerRefused, match="certificate is not trusted"), work_queue(url) as queue:
        queue.connect()


def test_a_certificate_for_another_name_is_not_trusted(url: str, trusted: Authority) -> None:
    elsewhere = url.replace("localhost", "127.0.0.1")

    with pytest.raises(BrokerRefused, match="certificate is not trusted"), work_queue(elsewhere, tls=Tls(ca_file=trusted.ca)) as queue:
        queue.connect()


def test_the_name_to_expect_can_be_told(url: str, trusted: Authority) -> None:
    elsewhere = url.replace("localhost", "127.0.0.1")

    with work_queue(elsewhere, tls=Tls(ca_file=trusted.ca, server_name="localhost")) as queue:
        assert queue.connect().status()["publishing"].state == "open"


def test_tls_to_a_port_without_it_is_refused(rabbitmq: NodeControl, trusted: Authority) -> None:
    url = f"amqps://guest:guest@localhost:{rabbitmq.port}/"

    with pytest.raises(BrokerUnreachable), work_queue(url, tls=Tls(ca_file=trusted.ca), max_connection_retry=0.1) as queue:
        queue.connect()


def test_no_tls_to_a_port_that_wants_it_is_refused(port: int) -> None:
    url = f"amqp://guest:guest@localhost:{port}/"

    with pytest.raises(BrokerUnreachable), work_queue(url, max_connection_retry=0.1) as queue:
        queue.connect()


def test_a_pull_through_tls_goes_on_when_the_connection_is_lost(port: int, trusted: Authority, exchange_name: str, topic_name: str) -> None:
    # Given a work queue on a bad network
    tls = Tls(ca_file=trusted.ca)
    with Proxy(port) as proxy, work_queue(f"amqps://guest:guest@localhost:{proxy.port}/", tls=tls, exchange=exchange_name) as queue:
        topic = queue.get_topic(topic_name)
        topic.put_many([str(number) for number in range(100)])
        came: set[bytes] = set()

        # When it is cut again and again while jobs are pulled
        proxy.cut("down", after=6000, times=3)
        while len(came) < 100:
            job = topic.pull(20)
            came.add(job.body)
            job.done()

    # Then all of them come
    assert came == {str(number).encode() for number in range(100)}


def test_closing_ends_a_tls_connection_whose_peer_is_gone(port: int, trusted: Authority) -> None:
    # Given a connection whose peer is gone without a word
    before = threading.active_count()
    with Proxy(port) as proxy:
        queue = WorkQueue(f"amqps://guest:guest@localhost:{proxy.port}/", tls=Tls(ca_file=trusted.ca)).connect()
        proxy.black_hole()

        # When it is closed, then that ends at its deadline
        began = monotonic()
        queue.close(timeout=0.2)
        assert monotonic() - began < 0.2 + 2.5
    wait_until(lambda: threading.active_count() <= before)
