"""Taking up a changed config while jobs run. Fault 26 of the design's table, and 23 while it happens."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import PATIENCE, Daemon, handler, put, wait_empty
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

Start = Callable[..., Daemon]


def reload(daemon: Daemon) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(daemon.hopctl("--json", "reload"))
    return result


def refused(processes: Processes, daemon: Daemon) -> str:
    """What hopctl says of a config that cannot be taken up."""
    process = processes.hopctl("-s", daemon.socket, "reload")
    assert process.wait(PATIENCE) == 1, process.describe()
    return process.stderr


# --- a good file ----------------------------------------------------------------------------------


def test_only_changed_topics_notice(start: Start, broker: Node, topic_name: str) -> None:
    # Given a topic for each thing that can happen, each with a running job but the first
    stays, changes, goes, comes = (f"{topic_name}.{word}" for word in ("stays", "changes", "goes", "comes"))
    daemon = start({stays: handler("record"), changes: handler("hold", concurrency=2), goes: handler("hold")})
    for topic in (changes, goes):
        put(broker.url, daemon.ledger, topic, 1)
        daemon.wait_count(topic, "running", 1)

    # When the config has one topic changed, one removed and one added
    daemon.configure(topics={comes: handler("record"), stays: handler("record"), changes: handler("record", concurrency=7)})
    told = reload(daemon)

    # Then it says so, and the topics are as the config says, in its order, with the last one whose job still runs
    assert told == {"added": [comes], "changed": [changes], "removed": [goes], "restart": []}
    topics = daemon.status()["topics"]
    assert list(topics) == [comes, stays, changes, goes]
    assert [topics[name]["state"] for name in topics] == ["consuming", "consuming", "consuming", "draining"]
    assert (topics[changes]["concurrency"], topics[changes]["running"], topics[goes]["running"]) == (7, 1, 1)

    # And new jobs run as it says, while the running ones are not disturbed
    for topic in (comes, stays, changes):
        put(broker.url, daemon.ledger, topic, 20)
        daemon.wait_count(topic, "done", 20)
    daemon.open_gate()
    daemon.wait_count(changes, "done", 21)
    wait_until(lambda: goes not in daemon.status()["topics"], PATIENCE, "the topic that was removed is gone")

    # And nobody but those has begun anew
    begun = [line["topic"] for line in daemon.events("topic_consuming")]
    assert sorted(begun) == sorted([stays, changes, goes, changes, comes])
    assert daemon.leave() == 0
    assert (daemon.ledger.lost(), daemon.ledger.duplicates()) == (set(), 0)
    wait_empty(broker, stays, changes, goes, comes)


def test_old_and_new_jobs_together_are_no_more_than_the_concurrency(start: Start, broker: Node, topic_name: str) -> None:
    # Given a topic that may run one job at a time, and does, and more that wait
    daemon = start({topic_name: handler("hold", concurrency=1)})
    put(broker.url, daemon.ledger, topic_name, 5)
    daemon.wait_count(topic_name, "running", 1)

    # When another handler is to run it, twice over, while the first job still runs
    for function in ("Recorder", "record"):
        daemon.configure(topics={topic_name: handler(function, concurrency=1)})
        assert reload(daemon)["changed"] == [topic_name]

    # Then the next one waits for it
    daemon.wait_count(topic_name, "waiting", 3)
    topic = daemon.topic(topic_name)
    assert (topic["running"], topic["done"]) == (1, 0)
    daemon.open_gate()
    daemon.wait_count(topic_name, "done", 5)
    assert (daemon.ledger.lost(), daemon.ledger.duplicates()) == (set(), 0)


def test_what_an_operator_has_paused_stays_paused_unless_the_config_says_something_new(start: Start, broker: Node, topic_name: str) -> None:
    daemon = start({topic_name: handler("record")})
    daemon.hopctl("pause", topic_name)

    daemon.configure(topics={topic_name: handler("record", concurrency=3)})
    reload(daemon)
    assert daemon.topic(topic_name)["state"] == "paused"

    daemon.hopctl("resume", topic_name)
    daemon.configure(topics={topic_name: handler("record", paused=True)})
    reload(daemon)
    assert daemon.topic(topic_name)["state"] == "paused"

    daemon.configure(topics={topic_name: handler("record", paused=False)})
    reload(daemon)
    put(broker.url, daemon.ledger, topic_name, 1)
    daemon.wait_count(topic_name, "done", 1)


def test_what_only_a_restart_takes_up_is_told_until_there_was_one(start: Start, topic_name: str) -> None:
    daemon = start({topic_name: handler("record")})

    daemon.configure(broker={**daemon.sections["broker"], "heartbeat": 44}, logging={"format": "text", "level": "debug"})
    told = [reload(daemon), reload(daemon)]

    assert told == [{"added": [], "changed": [], "removed": [], "restart": ["broker.heartbeat", "logging.format"]}] * 2
    assert "a restart is needed for broker.heartbeat, logging.format" in daemon.hopctl("reload")


# --- a bad file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ({"handler": "tests.support.handlers:record", "concurency": 3}, "did you mean 'concurrency'?"),
        ({"handler": "tests.support.handlers:rekord"}, "did you mean record?"),
        ({"handler": "exits:handle"}, "exits:handle: importing exits left with SystemExit"),
        ({"handler": "crashes:handle"}, "died of signal 9"),
    ],
    ids=["a key that is not known", "a handler that is not there", "a module that exits", "a module that kills its process"],
)
def test_of_a_bad_config_nothing_is_taken_up_and_all_is_told(
    start: Start, processes: Processes, broker: Node, topic_name: str, tmp_path: Path, topic: dict[str, Any], reason: str
) -> None:
    # Given a running topic, and a config in which it is different and another one is wrong
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "crashes.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    daemon = start({topic_name: handler("hold")})
    put(broker.url, daemon.ledger, topic_name, 1)
    daemon.wait_count(topic_name, "running", 1)
    daemon.configure(topics={topic_name: handler("record", concurrency=77), "wrong": topic}, import_path=["."])

    # When it is to be taken up
    said = refused(processes, daemon)

    # Then the reason is told with its place, and everything is as it was
    assert f"{daemon.path}:" in said
    assert reason in said
    assert list(daemon.status()["topics"]) == [topic_name]
    assert daemon.topic(topic_name)["concurrency"] == 10
    assert daemon.status()["state"] == "running"
    daemon.open_gate()
    daemon.wait_count(topic_name, "done", 1)


def test_code_that_is_newer_than_what_hopd_has_imported_is_told_as_that(
    start: Start, processes: Processes, topic_name: str, tmp_path: Path
) -> None:
    # Given a module that is imported, and in the file has a function more
    module = tmp_path / "growing.py"
    module.write_text("def old(job): pass\n")
    daemon = start({topic_name: {"handler": "growing:old"}}, import_path=["."])
    module.write_text("def old(job): pass\ndef new(job): pass\n")

    daemon.configure(topics={topic_name: {"handler": "growing:new"}})

    assert "hopd has an older version of this code: new code is taken up by a restart" in refused(processes, daemon)
    assert daemon.topic(topic_name)["handler"] == "growing:old"


# --- by a signal, under load, at the end ------------------------------------------------------------


def test_a_hangup_has_the_config_taken_up_and_the_log_tells_what_came_of_it(start: Start, topic_name: str) -> None:
    daemon = start({topic_name: handler("record")})

    daemon.configure(topics={topic_name: handler("rekord")})
    daemon.process.signal(signal.SIGHUP)
    assert "did you mean record?" in daemon.wait_event("reload_failed")["message"]

    daemon.configure(topics={topic_name: handler("record", concurrency=3)})
    daemon.process.signal(signal.SIGHUP)
    assert daemon.wait_event("reloaded")["changed"] == [topic_name]
    assert daemon.topic(topic_name)["concurrency"] == 3


@pytest.mark.long
def test_nothing_is_lost_and_nothing_done_twice_when_the_config_changes_under_load(start: Start, broker: Node, topic_name: str) -> None:
    # Given two topics with much to do
    first, second = f"{topic_name}.first", f"{topic_name}.second"
    daemon = start({first: handler("nap", concurrency=20), second: handler("nap", concurrency=20)})
    for topic in (first, second):
        put(broker.url, daemon.ledger, topic, 5_000)

    # When one of them changes all the time, in every way, and is gone in between
    kinds: list[dict[str, Any]] = [
        {second: handler("record", concurrency=1)},
        {second: handler("nap", concurrency=50, timeout="10s", retry={})},
        {},
        {second: handler("nap", executor="thread", concurrency=5)},
        {second: handler("nap", concurrency=20, durable=False)},
    ]
    rounds = 0
    while rounds < 4 * len(kinds) or daemon.topic(first)["done"] < 5_000:
        daemon.configure(topics={first: handler("nap", concurrency=20), **kinds[rounds % len(kinds)]})
        reload(daemon)
        rounds += 1
    daemon.configure(topics={first: handler("nap", concurrency=20), second: handler("record")})
    reload(daemon)

    # Then every job was done, once: no fault has happened
    wait_until(lambda: daemon.ledger.count() == 10_000, PATIENCE, "all jobs are done")
    assert daemon.leave() == 0
    assert (daemon.ledger.lost(), daemon.ledger.unexpected(), daemon.ledger.duplicates()) == (set(), set(), 0)
    wait_empty(broker, first, second)


def test_who_is_told_to_leave_while_it_looks_at_a_config_leaves_at_once(
    start: Start, processes: Processes, topic_name: str, tmp_path: Path
) -> None:
    # Given a config that takes long to look at
    imported = tmp_path / "imported"
    (tmp_path / "hangs.py").write_text(
        f"import os, time\nopen({str(imported)!r}, 'w').write(str(os.getpid()))\ntime.sleep(3600)\ndef handle(job): pass\n"
    )
    daemon = start({topic_name: handler("record")})
    daemon.configure(topics={topic_name: {"handler": "hangs:handle"}}, import_path=["."])
    asks = processes.hopctl("-s", daemon.socket, "reload")
    wait_until(lambda: imported.exists() and imported.read_text(), PATIENCE, "the handler is being imported")
    assert daemon.status()["state"] == "reloading"

    # When somebody else asks too, and hopd is told to leave
    again = processes.hopctl("-s", daemon.socket, "reload")
    assert (again.wait(PATIENCE), "hopd is reloading" in again.stderr) == (1, True)
    code = daemon.leave(timeout=15.0)

    # Then it leaves in order, who asked is told, and the process that imported is gone
    assert code == 0
    assert (asks.wait(PATIENCE), "hopd is leaving" in asks.stderr) == (1, True)
    wait_until(lambda: not Path(f"/proc/{imported.read_text()}").exists(), PATIENCE, "the importing process is gone")
