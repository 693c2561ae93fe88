"""The testing kit as its users have it: tests of theirs, run by pytest and unittest, whose outcome is looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.process import ROOT, Processes

README = ROOT / "README.md"

HANDLERS = """
import hopd

sent = []

def send_email(job):
    mail = job.json()
    if mail["to"] == "nobody":
        raise ValueError("no such user")
    if mail["to"] == "later":
        mail["to"] = "now"
        raise hopd.Retry(after="10m")
    sent.append(mail["to"])
"""

CONFIG = """
broker:
  url: amqp://rabbit.internal/
import_path: [.]
topics:
  emails:
    handler: handlers:send_email
    retry: {max_attempts: 3, first: 10m, jitter: false}
"""


class Project:
    """A user's project, with tests of its own."""

    def __init__(self, processes: Processes, directory: Path) -> None:
        self._processes = processes
        self.directory = directory
        (directory / "handlers.py").write_text(HANDLERS)
        (directory / "hopd.yaml").write_text(CONFIG)

    def pytest(self, test: str) -> str:
        """What pytest says about a file with `test` in it; every test in it must pass."""
        (self.directory / "test_it.py").write_text(test)
        return self._passes("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_it.py")

    def unittest(self, test: str) -> str:
        """The same with unittest."""
        (self.directory / "test_it.py").write_text(test)
        return self._passes("-W", "error", "-m", "unittest", "-v", "test_it")

    def _passes(self, *arguments: str) -> str:
        process = self._processes.python(*arguments, cwd=self.directory)
        assert process.wait(120) == 0, process.describe()
        return process.stdout + process.stderr


@pytest.fixture
def project(processes: Processes, tmp_path: Path) -> Project:
    directory = tmp_path / "project"
    directory.mkdir()
    return Project(processes, directory)


def test_jobs_that_are_ready_are_run_in_the_test_itself(project: Project) -> None:
    project.pytest("""
import handlers

def test_mail_is_sent(hop_queue, run_jobs):
    hop_queue.get_topic("emails").put_many([{"to": "ann"}, {"to": "bob"}])

    jobs = run_jobs("emails", handlers.send_email)

    assert handlers.sent == ["ann", "bob"]
    assert [job.outcome for job in jobs] == ["done", "done"]
""")


def test_what_a_handler_raises_is_raised_in_the_test_and_the_job_is_settled_all_the_same(project: Project) -> None:
    project.pytest("""
import handlers, pytest

def test_unknown_users_are_buried(hop_queue, run_jobs):
    topic = hop_queue.get_topic("emails")
    topic.put_many([{"to": "nobody"}, {"to": "ann"}])

    with pytest.raises(ValueError, match="no such user"):
        run_jobs("emails", handlers.send_email)

    assert handlers.sent == ["ann"]
    assert "no such user" in topic.buried()[0].reason
""")


def test_a_retry_in_ten_minutes_takes_no_time(project: Project) -> None:
    project.pytest("""
import pytest, handlers

def test_it_is_tried_three_times(hop_broker, hop_queue, run_jobs):
    topic = hop_queue.get_topic("emails")
    topic.put({"to": "nobody"})
    attempts = []

    for wait in ("10m", "20m", "40m"):
        with pytest.raises(ValueError):
            attempts += [job.attempt for job in run_jobs("emails", config="hopd.yaml")]
        assert run_jobs("emails", config="hopd.yaml") == []  # it waits
        hop_broker.turn(wait)

    assert topic.buried()[0].attempts == 3

def test_the_handler_chose_when(hop_broker, hop_queue, run_jobs):
    hop_queue.get_topic("emails").put({"to": "later"})
    assert [job.outcome for job in run_jobs("emails", handlers.send_email)] == ["delayed"]
    hop_broker.turn("10m")
    assert [job.attempt for job in run_jobs("emails", handlers.send_email)] == [2]
""")


def test_a_real_daemon_runs_the_projects_config(project: Project) -> None:
    project.pytest("""
def test_the_daemon(hop_broker, hop_queue, hop_daemon):
    daemon = hop_daemon("hopd.yaml")
    hop_queue.get_topic("emails").put_many([{"to": "ann"}, {"to": "nobody"}])

    daemon.wait("emails", "retried", 1)
    assert daemon.wait("emails", "done", 1)["buried"] == 0
    hop_broker.turn("10m")
    daemon.wait("emails", "retried", 2)
    assert daemon.stop() == 0

def test_a_config_in_the_test_itself(hop_queue, hop_daemon):
    daemon = hop_daemon({"topics": {"emails": {"handler": "handlers:send_email"}}})
    hop_queue.get_topic("emails").put({"to": "nobody"})
    daemon.wait("emails", "buried", 1)
""")


def test_faults_are_made_at_will(project: Project) -> None:
    project.pytest("""
import hopd, pytest

def test_a_cut_connection_brings_the_job_back(hop_broker, hop_queue):
    topic = hop_queue.get_topic("emails")
    topic.put(b"x")
    job = topic.pull(5)
    hop_broker.cut()
    again = topic.pull(5)
    assert (again.body, again.redelivered, job.done()) == (b"x", True, False)

def test_a_blocked_broker(hop_broker, hop_queue):
    topic = hop_queue.get_topic("emails")
    topic.put(b"x")
    with hop_broker.blocked():
        with pytest.raises(hopd.BrokerBlocked):
            topic.put(b"y", timeout=0.5)

def test_a_frozen_broker(hop_broker, hop_queue):
    topic = hop_queue.get_topic("emails")
    topic.put(b"x")
    with hop_broker.frozen(), pytest.raises(hopd.PutTimeout):
        topic.put(b"y", timeout=0.2)

def test_a_restart_keeps_what_is_durable(hop_broker, hop_queue):
    topic = hop_queue.get_topic("emails")
    topic.put(b"x")
    hop_broker.restart()
    assert topic.pull(10).body == b"x"
    assert hop_broker.queues()["emails"].unsettled == 1
""")


def test_it_works_for_users_of_unittest(project: Project) -> None:
    said = project.unittest("""
import handlers
from hopd.testing import HopTestCase

class MailTest(HopTestCase):
    def test_mail_is_sent(self):
        self.queue.get_topic("emails").put({"to": "ann"})
        self.run_jobs("emails", handlers.send_email)
        self.assertEqual(handlers.sent, ["ann"])

    def test_the_daemon(self):
        daemon = self.start_daemon("hopd.yaml")
        self.queue.get_topic("emails").put({"to": "ann"})
        daemon.wait("emails", "done", 1)
""")

    assert "Ran 2 tests" in said


def test_other_clients_use_the_same_broker(project: Project) -> None:
    project.pytest("""
import handlers, pika

def test_what_pika_publishes_is_a_job(hop_broker, hop_queue, run_jobs):
    topic = hop_queue.get_topic("emails")
    connection = pika.BlockingConnection(pika.URLParameters(hop_broker.url))
    connection.channel().basic_publish("hop.exchange", "emails", b'{"to": "ann"}')
    connection.close()
    run_jobs(topic, handlers.send_email)
    assert handlers.sent == ["ann"]
""")


def test_a_wrong_use_is_told(project: Project) -> None:
    project.pytest("""
import handlers, hopd, pytest

def test_it(run_jobs):
    with pytest.raises(hopd.HopError, match="has no topic 'mails'; it has emails"):
        run_jobs("mails", config="hopd.yaml")
    with pytest.raises(TypeError, match="give a handler"):
        run_jobs("emails")
    with pytest.raises(ValueError, match="retry"):
        run_jobs("emails", handlers.send_email, retry={"max_attempts": 0})
""")


def test_the_readmes_example_passes_as_it_is_written(project: Project) -> None:
    found = re.search(r"```python\n# tests/test_emails.py\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "the README shows no test any more"
    package = project.directory / "myapp"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text("def send_email(job):\n    raise ValueError('no such user')\n")

    assert "passed" in project.pytest(found[1])


def test_the_plugin_costs_other_test_runs_nothing(project: Project) -> None:
    project.pytest("""
import sys

def test_nothing_is_imported_before_it_is_used():
    assert not {"gevent", "pika", "pydantic", "hopd.workqueue"} & set(sys.modules)
""")
