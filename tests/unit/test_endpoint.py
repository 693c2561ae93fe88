"""Broker URLs, taken apart."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hopd.amqp.endpoint import Endpoint, Tls, parse
from hopd.errors import BrokerError


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "vhost"),
    [
        ("amqp://broker", "broker", 5672, "guest", "guest", "/"),
        ("amqp://broker/", "broker", 5672, "guest", "guest", "/"),
        ("amqp://broker:5673/jobs", "broker", 5673, "guest", "guest", "jobs"),
        ("amqps://broker", "broker", 5671, "guest", "guest", "/"),
        ("amqp://anna:s3cret@broker/", "broker", 5672, "anna", "s3cret", "/"),
        ("amqp://anna:@broker/", "broker", 5672, "anna", "", "/"),
        ("amqp://an%40na:p%2Fw%3A@broker/", "broker", 5672, "an@na", "p/w:", "/"),
        ("amqp://broker/%2F", "broker", 5672, "guest", "guest", "/"),
        ("amqp://broker/a%2Fb", "broker", 5672, "guest", "guest", "a/b"),
        ("amqp://[::1]:5673/", "::1", 5673, "guest", "guest", "/"),
        ("AMQP://broker", "broker", 5672, "guest", "guest", "/"),
    ],
)
def test_a_url_names_where_and_who(url: str, host: str, port: int, user: str, password: str, vhost: str) -> None:
    endpoint = parse(url)

    assert (endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.vhost) == (host, port, user, password, vhost)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("broker:5672", "starts with amqp://"),
        ("http://broker", "starts with amqp://"),
        ("amqp://", "names no host"),
        ("amqp:///jobs", "names no host"),
        ("amqp://broker:port/", "not valid"),
        ("amqp://broker:70000/", "not valid"),
        ("amqp://[::1/", "not valid"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(BrokerError, match=complaint):
        parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://anna:s3cret@broker:port/",
        "amqp://anna:s3cret@broker:70000/",
        "amqp://anna:s3cret@[broker/",
        "amqp://anna:s3cret/@broker/",
        "amqp://anna:s3cret#@broker/",
        "amqp://anna:s3cret?@broker/",
        "http://anna:s3cret@broker/",
        "anna:s3cret@broker",
    ],
)
def test_a_complaint_shows_no_password(url: str) -> None:
    with pytest.raises(BrokerError) as caught:
        parse(url)

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://anna:s3cret@broker/", "amqp://anna:***@broker:5672"),
        ("amqps://anna:s3cret@broker/jobs", "amqps://anna:***@broker:5671/jobs"),
        ("amqp://anna:s3cret@[::1]/", "amqp://anna:***@[::1]:5672"),
    ],
)
def test_an_endpoint_is_shown_without_its_password(url: str, shown: str) -> None:
    endpoint = parse(url)

    assert str(endpoint) == shown
    assert "s3cret" not in repr(endpoint)


def test_only_amqps_has_tls() -> None:
    assert parse("amqp://broker", Tls()).tls is None


def test_amqps_trusts_what_it_is_told_to() -> None:
    tls = Tls(ca_file="/etc/ca.pem")

    assert parse("amqps://broker", tls).tls == tls


def test_tls_verifies_the_brokers_name_unless_told_not_to() -> None:
    assert (Tls().context().check_hostname, Tls().context().verify_mode) == (True, ssl.CERT_REQUIRED)


def test_tls_can_be_told_to_verify_nothing() -> None:
    assert Tls(verify=False).context().verify_mode == ssl.CERT_NONE


def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")

    with pytest.raises(ssl.SSLError):
        Tls(ca_file=str(tmp_path / "ca.pem")).context()


def test_endpoints_are_values() -> None:
    assert parse("amqp://broker/") == Endpoint("broker", 5672, "guest", "guest", "/", None)
