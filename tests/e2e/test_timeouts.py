"""A real daemon whose handlers hang, compute without end, or run in threads: faults 14 and 15."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hopd import Job, WorkQueue, names
from tests.support.hopd_process import HopdProcess
from tests.support.library import work_queue
from tests.support.node import Node
from tests.support.process import Processes
from tests.support.waiting import wait_until

HANDLERS = '''
import hashlib, multiprocessing, os, signal, subprocess, time
from gevent import monkey
from hopd import WorkQueue
from hopd.engine.threads import in_loop

sleep_in_c = monkey.get_original("time", "sleep")


def asked(what):
    """Whether the test has asked for it, by a file."""
    return os.path.exists(what)


def note(what):
    open(what, "x").close()


def hangs(job):
    if job.body == b"hang" and job.attempt == 1:
        while True:
            time.sleep(60)


def hangs_on(job):
    while job.body == b"hang":
        try:
            time.sleep(60)
        except Exception:
            note("swallowed")


def computes(job):
    while not asked("stop"):
        hashlib.sha256(job.body)


def waits_in_c(job):
    note(f"began-{job.body.decode()}")
    while not asked("stop"):
        sleep_in_c(0.01)


def keeps_the_lock(job):
    sum(range(10**12))


def buries(job):
    job.bury("from a thread")


queue = None


def puts(job):
    in_loop(put, job.body)


def put(body):
    global queue
    if queue is None:
        queue = WorkQueue(os.environ["BROKER"], exchange=os.environ["EXCHANGE"])
    queue.topic(os.environ["NEXT"]).put(body)


def runs_a_program(job):
    shout = subprocess.run(["tr", "a-z", "A-Z"], input=job.body, capture_output=True, timeout=20, check=True)
    assert shout.stdout == job.body.upper(), shout
    assert subprocess.check_output("echo $0; sleep 0.1", shell=True) == b"/bin/sh\\n"
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            sleeper.wait(0.1)
        except subprocess.TimeoutExpired:
            sleeper.terminate()
    assert sleeper.returncode == -signal.SIGTERM
    assert os.system("exit 3") >> 8 == 3
    assert os.system("kill $$") == signal.SIGTERM


def has_children(job):
    if not (child := os.fork()):
        return
    assert os.waitpid(child, 0) == (child, 0)
    if not (child := os.fork()):
        raise SystemExit(3)
    assert os.waitpid(child, 0)[1] >> 8 == 3
    sleeper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.1,))
    sleeper.start()
    sleeper.join()
    assert sleeper.exitcode == 0


def derives_a_key(job):
    assert len(hashlib.pbkdf2_hmac("sha256", job.body, b"salt", 200_000)) == 32
'''


class Bench:
    """Starts daemons, puts jobs, reads logs."""

    def __init__(self, directory: Path, queue: WorkQueue, exchange: str, start: Callable[..., HopdProcess]) -> None:
        self.directory = directory
        self.exchange = exchange
        self.queue = queue
        self._start = start

    def start(self, topics: Mapping[str, Mapping[str, Any]], **sections: Any) -> HopdProcess:
        """A daemon that consumes `topics`."""
        self.hopd = self._start(topics, **sections)
        return self.hopd.wait_consuming()

    def put(self, topic: str, *bodies: str) -> None:
        for body in bodies:
            self.queue.topic(topic).put(body.encode(), message_id=body)

    def ask(self, what: str) -> None:
        """Ask the handlers for something."""
        (self.directory / what).touch()

    def noted(self, what: str) -> bool:
        """Whether a handler noted something."""
        return (self.directory / what).exists()

    def buried(self, topic: str) -> Job:
        return self.queue.topic(names.buried(topic)).pull(timeout=30)

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = self.hopd.process.stderr.splitlines()
        # Its last line may not be whole yet, and what faulthandler writes is no JSON.
        entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [entry for entry in entries if entry.get("event") == event]

    def wait_logged(self, event: str) -> dict[str, Any]:
        return wait_until(lambda: self.logged(event), 30, f"{event} in the log of {self.hopd.process.describe()}")[0]

    def wait_counted(self, topic: str, **counts: int) -> None:
        def counted() -> bool:
            status = self.hopd.topic(topic)
            seen = {name: status[name] for name in counts}
            assert seen == counts
            return True

        wait_until(counted, 30, f"{topic} counts {counts}")


@pytest.fixture
def bench(tmp_path: Path, broker: Node, exchange_name: str, processes: Processes) -> Iterator[Bench]:
    (tmp_path / "jobs.py").write_text(HANDLERS)

    def start(topics: Mapping[str, Mapping[str, Any]], **sections: Any) -> HopdProcess:
        about = {"import_path": ["."], "logging": {"format": "json"}, "shutdown": {"grace": "1s"}, **sections}
        return HopdProcess(processes, tmp_path, broker.url, topics, broker={"exchange": exchange_name}, **about)

    with work_queue(broker.url, exchange=exchange_name) as queue:
        yield Bench(tmp_path, queue, exchange_name, start)


# --- a handler that hangs (fault 14) ----------------------------------------------------------------


def test_a_handler_that_hangs_gets_job_timeout_and_its_slot_is_free_again(bench: Bench, topic_name: str) -> None:
    bench.start({topic_name: {"handler": "jobs:hangs", "concurrency": 1, "timeout": "200ms"}})

    bench.put(topic_name, "hang", "quick")

    bench.wait_counted(topic_name, done=1, failed=1, buried=1, timed_out=1, running=0)
    assert bench.buried(topic_name).headers[names.ERROR_TYPE] == "hopd.errors.JobTimeout"
    line = bench.wait_logged("job_timeout")
    assert (line["topic"], line["job"]) == (topic_name, "hang")
    assert "time.sleep(60)" in line["traceback"]


def test_a_handler_that_swallows_the_timeout_is_killed_and_its_slot_is_free_again(bench: Bench, topic_name: str) -> None:
    bench.start({topic_name: {"handler": "jobs:hangs_on", "concurrency": 1, "timeout": "200ms", "kill_after": "200ms"}})

    bench.put(topic_name, "hang", "quick")

    bench.wait_counted(topic_name, done=1, failed=1, buried=1, timed_out=1, running=0)
    assert bench.noted("swallowed")
    assert bench.buried(topic_name).headers[names.ERROR_TYPE] == "hopd.errors.JobTimeout"
    assert bench.wait_logged("job_killed")["job"] == "hang"


def test_a_job_that_ran_too_long_is_tried_again_as_the_policy_says(bench: Bench, topic_name: str) -> None:
    retry = {"max_attempts": 2, "first": "100ms", "jitter": False}
    bench.start({topic_name: {"handler": "jobs:hangs", "timeout": "200ms", "retry": retry}})

    bench.put(topic_name, "hang")

    bench.wait_counted(topic_name, done=1, failed=1, retried=1, timed_out=1)


# --- a handler that does not yield (fault 15) -------------------------------------------------------


@pytest.mark.parametrize("handler", ["computes", "waits_in_c"])
def test_a_handler_that_does_not_yield_is_reported_while_it_does_not(bench: Bench, topic_name: str, handler: str) -> None:
    bench.start({topic_name: {"handler": f"jobs:{handler}"}}, watchdog={"report_after": "300ms"})

    bench.put(topic_name, "hog")
    report = bench.wait_logged("event_loop_blocked")
    bench.ask("stop")
    over = bench.wait_logged("event_loop_back")

    assert (report["topic"], report["job"]) == (topic_name, "hog") == (over["topic"], over["job"])
    assert f"in {handler}" in report["traceback"]
    assert over["seconds"] >= report["seconds"] >= 0.3
    bench.wait_counted(topic_name, done=1, blocked=1)


def test_a_handler_that_never_yields_makes_hopd_leave_with_70(bench: Bench, topic_name: str) -> None:
    bench.start({topic_name: {"handler": "jobs:computes"}}, watchdog={"report_after": "300ms", "exit_after": "1s"})

    bench.put(topic_name, "hog")

    assert bench.hopd.process.wait() == 70
    assert bench.logged("event_loop_hopeless")[0]["topic"] == topic_name
    # Its job is the broker's again
    bench.ask("stop")
    bench.hopd.restart()
    bench.hopd.wait_consuming()
    bench.wait_counted(topic_name, done=1, redelivered=1)


def test_a_handler_that_keeps_pythons_lock_is_shown_and_ends_hopd_all_the_same(bench: Bench, topic_name: str) -> None:
    bench.start({topic_name: {"handler": "jobs:keeps_the_lock"}}, watchdog={"report_after": "300ms", "exit_after": "3s"})

    bench.put(topic_name, "hog")

    assert bench.hopd.process.wait() == -signal.SIGPROF
    assert "in keeps_the_lock" in bench.hopd.process.stderr


def test_a_process_that_was_stopped_has_not_hung(bench: Bench, topic_name: str) -> None:
    bench.start({topic_name: {"handler": "jobs:hangs"}}, watchdog={"report_after": "2s", "exit_after": "2500ms"})

    bench.hopd.process.signal(signal.SIGSTOP)
    stopped = monotonic()
    wait_until(lambda: monotonic() > stopped + 4.0, why="it was stopped for longer than a handler may take")
    bench.hopd.process.signal(signal.SIGCONT)

    went_on = monotonic()
    wait_until(lambda: bench.hopd.status()["state"] == "running" and monotonic() > went_on + 3.0, why="it runs for longer than that")
    assert bench.logged("event_loop_blocked") == []


# --- handlers in threads ----------------------------------------------------------------------------


def test_threads_wait_in_c_while_other_topics_go_on(bench: Bench, topic_name: str) -> None:
    other = f"{topic_name}-other"
    blocking = {"handler": "jobs:waits_in_c", "executor": "thread", "concurrency": 2}
    bench.start({topic_name: blocking, other: {"handler": "jobs:hangs"}})

    bench.put(topic_name, "a", "b", "c")
    wait_until(lambda: bench.noted("began-a") and bench.noted("began-b"), 30, "two jobs run at once")
    bench.put(other, *(f"quick-{number}" for number in range(50)))
    bench.wait_counted(other, done=50)
    bench.wait_counted(topic_name, running=2, done=0, waiting=1)
    bench.ask("stop")

    bench.wait_counted(topic_name, done=3, running=0)
    assert bench.logged("event_loop_blocked") == []


def test_threads_compute_and_settle_their_jobs_themselves(bench: Bench, topic_name: str) -> None:
    other = f"{topic_name}-other"
    thread = {"executor": "thread", "concurrency": 4}
    bench.start({topic_name: {"handler": "jobs:derives_a_key", **thread}, other: {"handler": "jobs:buries", **thread}})

    bench.put(topic_name, *(f"password-{number}" for number in range(20)))
    bench.put(other, *(f"odd-{number}" for number in range(20)))

    bench.wait_counted(topic_name, done=20, failed=0)
    bench.wait_counted(other, buried=20, failed=0)
    assert bench.buried(other).headers[names.REASON] == "from a thread"


@pytest.mark.parametrize("executor", ["greenlet", "thread"])
@pytest.mark.parametrize("function", ["runs_a_program", "has_children"])
def test_handlers_have_child_processes_and_wait_for_them(bench: Bench, topic_name: str, function: str, executor: str) -> None:
    bench.start({topic_name: {"handler": f"jobs:{function}", "executor": executor, "concurrency": 4}})

    bench.put(topic_name, *(f"order-{number}" for number in range(20)))

    bench.wait_counted(topic_name, done=20, failed=0, redelivered=0)


def test_threads_put_jobs_over_one_work_queue_that_lives_in_the_loop(bench: Bench, broker: Node, topic_name: str) -> None:
    other = f"{topic_name}-other"
    environment = {"BROKER": broker.url, "EXCHANGE": bench.exchange, "NEXT": other}
    putting = {"handler": "jobs:puts", "executor": "thread", "concurrency": 4}
    bench.start({topic_name: putting, other: {"handler": "jobs:hangs"}}, env=environment)

    bench.put(topic_name, *(f"order-{number}" for number in range(40)))

    bench.wait_counted(topic_name, done=40, failed=0)
    bench.wait_counted(other, done=40)


def test_a_timeout_abandons_the_thread_and_hopd_leaves_in_time_without_it(bench: Bench, topic_name: str) -> None:
    bench.start(
        {topic_name: {"handler": "jobs:waits_in_c", "executor": "thread", "concurrency": 1, "timeout": "200ms", "kill_after": "200ms"}}
    )

    # Given one abandoned thread, and one that cannot be, because there are no more than that
    bench.put(topic_name, "a", "b")
    bench.wait_counted(topic_name, buried=1, abandoned=1, running=1)
    bench.wait_logged("thread_limit")
    assert "in waits_in_c" in bench.logged("job_timeout")[0]["traceback"]

    # When hopd is asked to leave
    asked = monotonic()
    bench.hopd.process.terminate()

    # Then it does, and the job that ran is the topic's again
    assert bench.hopd.process.wait() == 0
    assert monotonic() - asked < 20  # a grace of a second, and a busy machine
    assert bench.logged("stopped")
    assert bench.queue.topic(topic_name).pull(timeout=30).body == b"b"


def test_a_thread_that_comes_back_late_makes_room(bench: Bench, topic_name: str) -> None:
    bench.start({topic_name: {"handler": "jobs:waits_in_c", "executor": "thread", "concurrency": 1, "timeout": "200ms"}})
    bench.put(topic_name, "a")
    bench.wait_counted(topic_name, buried=1, abandoned=1)

    bench.ask("stop")
    bench.put(topic_name, "b")

    bench.wait_counted(topic_name, buried=1, done=1, abandoned=0, running=0)
    bench.hopd.process.terminate()
    assert bench.hopd.process.wait() == 0
