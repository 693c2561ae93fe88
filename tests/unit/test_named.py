"""What a config names: handlers and exceptions, imported here and in a child, each problem at its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopd.config.load import Loaded, load
from hopd.config.retry import FailurePolicy, RetryAfter
from hopd.engine.handler_check import check
from hopd.engine.named import failure_policy, load_named
from hopd.errors import ConfigError, JobTimeout

#: Seconds for an import that comes to an end; never waited for in full.
ENOUGH = 30.0

SHOP = """\
class Refused(Exception): pass
class Busy(OSError): pass
class Order: pass
class Errors: Late = Busy
limit = 5
def handle(job): pass
"""


@pytest.fixture
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a config's modules; what is imported from it is forgotten at the end."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "shop.py").write_text(SHOP)
    yield tmp_path
    sys.modules.pop("shop", None)
    sys.modules.pop("crashes", None)


def config(lib: Path, text: str) -> Loaded:
    (lib / "hopd.yaml").write_text(f"import_path: [.]\n{text}")
    return load(str(lib / "hopd.yaml"), {})


def topic(retry: str) -> str:
    return f"topics:\n  orders:\n    handler: shop:handle\n    retry: {retry}\n"


def problems_here(loaded: Loaded) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_named(loaded)
    return [str(problem) for problem in raised.value.problems]


def policy_of(loaded: Loaded) -> FailurePolicy:
    load_named(loaded)
    return failure_policy(loaded.settings.topics["orders"])


WRONG = {
    "shop:Refusd": "shop has no Refusd; did you mean Refused?",
    "shop:limit": "expected an exception, got an object of type int: limit",
    "shop:Order": "expected an exception, got the class Order",
    "nowhere:Error": "there is no module nowhere: is it installed, or its directory in import_path?",
}


@pytest.mark.parametrize("key", ["on", "never"])
@pytest.mark.parametrize(("spec", "reason"), WRONG.items(), ids=WRONG)
def test_an_exception_that_is_none_is_a_problem_with_its_line(lib: Path, key: str, spec: str, reason: str) -> None:
    loaded = config(lib, topic(f"{{{key}: [ValueError, '{spec}']}}"))
    problem = f"{lib}/hopd.yaml:5:{28 + len(key)}: topics.orders.retry.{key}[1]: {spec}: {reason}"

    assert problems_here(loaded) == [problem]
    assert [str(found) for found in check(loaded, ENOUGH)] == [problem]


def test_handlers_and_exceptions_are_told_together_and_in_the_order_of_the_file(lib: Path) -> None:
    text = topic("{never: ['shop:Refusd']}") + "  bills: {handler: shop:hande, retry: {on: ['shop:limit', OSError, 'shop:Busy']}}\n"
    loaded = config(lib, text)
    expected = ["topics.orders.retry.never[0]", "topics.bills.handler", "topics.bills.retry.on[0]"]

    assert [problem.split(": ")[1] for problem in problems_here(loaded)] == expected
    assert [problem.path for problem in check(loaded, ENOUGH)] == expected


def test_a_wrong_exception_of_the_defaults_is_told_once_and_there(lib: Path) -> None:
    topics = "topics: {a: {handler: 'shop:handle'}, b: {handler: 'shop:handle'}, c: {handler: 'shop:handle', retry: }}\n"
    loaded = config(lib, "defaults: {retry: {never: ['shop:Refusd']}}\n" + topics)
    problem = f"{lib}/hopd.yaml:2:28: defaults.retry.never[0]: shop:Refusd: {WRONG['shop:Refusd']}"

    assert problems_here(loaded) == [problem]
    assert [str(found) for found in check(loaded, ENOUGH)] == [problem]


def test_an_exceptions_module_that_stops_the_process_is_pinned_on_its_line(lib: Path) -> None:
    (lib / "crashes.py").write_text("import os; os._exit(3)")
    loaded = config(lib, topic("{on: ['crashes:Error'], never: ['crashes:Other']}"))

    first, second = (str(problem) for problem in check(loaded, ENOUGH))

    assert "retry.on[0]: crashes:Error: while it was imported, the process left with exit status 3" in first
    assert second.endswith("not tried: crashes stopped the check, as said of topics.orders.retry.on[0]")


def test_a_check_finds_nothing_wrong_with_exceptions_that_are_there(lib: Path) -> None:
    retry = "{on: [OSError, 'shop:Refused', 'shop:Errors.Late'], never: ['hopd:JobTimeout', KeyError]}"

    assert check(config(lib, topic(retry)), ENOUGH) == []


def test_a_policy_knows_the_exceptions_by_their_classes(lib: Path) -> None:
    policy = policy_of(config(lib, topic("{on: [OSError, 'shop:Refused'], never: ['hopd:JobTimeout', 'shop:Busy']}")))

    shop = sys.modules["shop"]
    assert policy.retry is not None
    assert policy.retry.on == (OSError, shop.Refused)
    assert policy.retry.never == (JobTimeout, shop.Busy)


def test_a_policy_has_what_the_config_says(lib: Path) -> None:
    text = topic("{max_attempts: 3, backoff: [1s, 5m], max: 1h, jitter: false}") + "    on_failure: drop\n"
    policy = policy_of(config(lib, text))

    assert policy.on_failure == "drop"
    assert policy.decide(2, ValueError(), 0.5) == RetryAfter(300.0)


def test_without_retry_a_policy_has_none(lib: Path) -> None:
    assert policy_of(config(lib, "topics: {orders: {handler: 'shop:handle'}}")) == FailurePolicy("bury")


def test_callables_are_found_by_the_place_that_names_them(lib: Path) -> None:
    objects = load_named(config(lib, topic("{never: ['shop:Refused']}")))

    shop = sys.modules["shop"]
    assert objects == {("topics", "orders", "handler"): shop.handle, ("topics", "orders", "retry", "never", 0): shop.Refused}
