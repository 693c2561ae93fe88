"""Fixtures of all tests.

A test that needs a broker asks for `broker` (shared, so it must not be stopped; names of its own keep tests apart) or for
`own_node` (one of its own, to be killed, frozen and alarmed), and runs on RabbitMQ and on the embedded broker. One that needs
Erlang, users, TLS or a cluster asks for `rabbitmq` or `own_rabbitmq`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import broker as support
from tests.support.embedded import EmbeddedNode
from tests.support.ledger import Ledger
from tests.support.node import Node, OwnNode
from tests.support.node_control import NodeControl
from tests.support.private_node import PrivateNode
from tests.support.process import ROOT, Processes
from tests.support.proxy import Proxy

_DIRECTORY = pytest.StashKey[Path]()
_OWNER = pytest.StashKey[support.SharedNode]()

# The time that one example takes says nothing on a machine that also runs brokers. In CI examples are the same each time, as
# hypothesis itself has it there: a change is judged by what it changed. Elsewhere each run looks at others.
settings.register_profile("hopd", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ)
settings.load_profile("hopd")

#: Fixtures that are a broker for fewer than all tests, of the kind that is their parameter.
_OWN = ("own_node", "own_broker", "node")


# --- the node of the run ------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        if "hopd_broker" in workerinput:
            config.stash[_DIRECTORY] = Path(workerinput["hopd_broker"])
    elif not config.option.collectonly and support.missing() is None:
        owner = support.SharedNode()
        config.stash[_OWNER] = owner
        config.stash[_DIRECTORY] = owner.directory


def pytest_unconfigure(config: pytest.Config) -> None:
    owner = config.stash.get(_OWNER, None)
    if owner is not None:
        owner.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker of pytest-xdist where the node of the run is."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    if _DIRECTORY in config.stash:
        node.workerinput["hopd_broker"] = str(config.stash[_DIRECTORY])  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take minutes come first, or everybody waits for them at the end; then unit tests: the node starts meanwhile."""
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, not item.path.is_relative_to(ROOT / "tests" / "unit")))
    for item in items:
        if _needs_rabbitmq(item):
            item.add_marker(pytest.mark.broker)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the node started now, so that it is up when the first test asks for it."""
    wanted = any(_needs_shared_rabbitmq(item) for item in session.items)
    if wanted and _DIRECTORY in session.config.stash:
        support.want(session.config.stash[_DIRECTORY])


def _needs_rabbitmq(item: pytest.Item) -> bool:
    own = "own_rabbitmq" in getattr(item, "fixturenames", ())
    return own or _needs_shared_rabbitmq(item) or any(_parameter(item, fixture) == "rabbitmq" for fixture in _OWN)


def _needs_shared_rabbitmq(item: pytest.Item) -> bool:
    return "rabbitmq" in getattr(item, "fixturenames", ()) or _parameter(item, "broker") == "rabbitmq"


def _parameter(item: pytest.Item, fixture: str) -> object:
    """What the fixture is parametrized with in this test."""
    return getattr(getattr(item, "callspec", None), "params", {}).get(fixture)


# --- no RabbitMQ to be had ----------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("broker") is None:
        return
    reason = support.missing()
    if reason is not None and os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so this test must run)", pytrace=False)
    if reason is not None:
        pytest.skip(reason)


def pytest_report_header() -> list[str]:
    reason = support.missing()
    return [] if reason is None else [f"!!! no broker: {reason}", f"!!! tests that need one will {_fate()}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reason = support.missing()
    if reason is not None:
        terminalreporter.write_line(f"!!! tests that need a broker did {_fate()}: {reason}", red=True, bold=True)


def _fate() -> str:
    return "FAIL, because CI is set" if os.environ.get("CI") else "NOT RUN"


# --- what workers of pytest-xdist tell ----------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A worker dies of half a surrogate in what a test printed or logged, and we have tests about those: they become `?`."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_encodable, value))
    return value


# --- fixtures -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rabbitmq(request: pytest.FixtureRequest) -> NodeControl:
    """The RabbitMQ node of this run: `.url`, `.list_queues()`, `.eval()`. Never stop it or raise an alarm on it."""
    return support.shared_node(request.config.stash[_DIRECTORY])


@pytest.fixture(scope="session")
def embedded_node() -> Iterator[EmbeddedNode]:
    """The embedded broker of this process. Never stop it or raise an alarm on it."""
    with EmbeddedNode() as node:
        yield node.wait_ready()


@pytest.fixture(scope="session", params=support.BROKERS)
def broker(request: pytest.FixtureRequest) -> Node:
    """A broker of each kind: `.url`, `.list_queues()`. Never stop it or raise an alarm on it."""
    node: Node = request.getfixturevalue("rabbitmq" if request.param == "rabbitmq" else "embedded_node")
    return node


@pytest.fixture
def own_rabbitmq() -> Iterator[PrivateNode]:
    """A RabbitMQ node for this test alone, serving. It may be killed, stopped, frozen, alarmed, restarted."""
    with PrivateNode() as node:
        yield node.wait_ready(support.START_TIMEOUT)


@pytest.fixture(params=support.BROKERS)
def own_node(request: pytest.FixtureRequest) -> Iterator[OwnNode]:
    """A broker of each kind for this test alone, serving. It may be killed, stopped, frozen, alarmed, restarted."""
    with support.node_of(request.param) as node:
        yield node


@pytest.fixture
def proxy(broker: Node) -> Iterator[Proxy]:
    """A proxy in front of the broker: `proxy.through(broker.url)`."""
    with Proxy(broker.port) as proxy:
        yield proxy


@pytest.fixture
def topic_name(request: pytest.FixtureRequest) -> str:
    """A topic's name that no other test uses."""
    return support.unique_name(request.node.name.split("[")[0])


@pytest.fixture
def exchange_name(request: pytest.FixtureRequest) -> str:
    """An exchange's name that no other test uses."""
    return support.unique_name("exchange")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes; whatever is left of them ends with the test."""
    processes = Processes(tmp_path)
    yield processes
    processes.end()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """What was put and what was handled; `env=ledger.environment` for the process that handles."""
    return Ledger(tmp_path / "ledger")
