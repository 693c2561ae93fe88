"""A broker that will not have us: the reason is told, the password is not, and we come back when it will."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.daemon import Daemon, handler, put, wait_empty
from tests.support.node_control import NodeControl
from tests.support.process import Processes
from tests.support.waiting import wait_until

PASSWORD = "hunter2-not-for-logs"


class User:
    """A user of the broker who may do everything."""

    def __init__(self, node: NodeControl, name: str) -> None:
        self.node = node
        self.name = name
        self.url = f"amqp://{name}:{PASSWORD}@127.0.0.1:{urlsplit(node.url).port}/"

    def create(self) -> None:
        self.node.eval(f'rabbit_auth_backend_internal:add_user(<<"{self.name}">>, <<"{PASSWORD}">>, <<"test">>)')
        grant = f'<<"{self.name}">>, <<"/">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>'
        self.node.eval(f"rabbit_auth_backend_internal:set_permissions({grant})")

    def delete(self) -> None:
        self.node.eval(f'rabbit_auth_backend_internal:delete_user(<<"{self.name}">>, <<"test">>)')


@pytest.fixture
def user(broker: NodeControl, exchange_name: str) -> Iterator[User]:
    user = User(broker, exchange_name)
    user.create()
    yield user
    user.delete()


def reason(daemon: Daemon) -> str:
    return daemon.status()["broker"]["reason"] or ""


def test_a_user_who_is_deleted_is_told_as_the_reason_and_comes_back_when_it_is_there_again(
    processes: Processes, tmp_path: Path, broker: NodeControl, user: User, topic_name: str
) -> None:
    daemon = Daemon(processes, tmp_path, user.url, {topic_name: handler("record")}, logging={"level": "debug"}).wait_consuming()

    user.delete()
    wait_until(lambda: "403" in reason(daemon), 60, "the refusal is the reason")
    shown = json.dumps(daemon.status())
    user.create()
    daemon.wait_consuming()

    put(broker.url, daemon.ledger, topic_name, 10)
    wait_empty(broker, topic_name)
    assert daemon.leave() == 0
    assert PASSWORD not in shown + daemon.process.stdout + daemon.process.stderr


def test_a_virtual_host_that_is_missing_is_told_as_the_reason(processes: Processes, tmp_path: Path, broker: NodeControl) -> None:
    daemon = Daemon(processes, tmp_path, broker.url + "no-such-host", {"emails": handler("record")}).wait_up()

    wait_until(lambda: "530" in reason(daemon), 60, "the refusal is the reason")

    assert "no-such-host" in reason(daemon)
    assert daemon.leave() == 0
