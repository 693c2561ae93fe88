"""Signals that are hopd's, in a process of their own: dispositions are a process's, and this one's are pytest's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.process import ROOT

START = """
import ctypes, os, signal, sys, time
import gevent
from gevent.event import Event
from hopd.engine.signals import Signals
seen, heard = [], Event()
def hear(name):
    seen.append(name)
    heard.set()
signals = Signals({signal.SIGTERM: lambda: hear("TERM"), signal.SIGINT: lambda: hear("INT")})
signals.start()
def send(number):
    os.kill(os.getpid(), number)
    deadline = time.monotonic() + 10
    while not seen and time.monotonic() < deadline:
        gevent.sleep(0.01)
    got, seen[:] = list(seen), []
    return got
"""


def run(code: str) -> None:
    process = subprocess.run([sys.executable, "-c", START + code], cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert process.returncode == 0, process.stderr.decode()


def test_a_signal_is_acted_on_in_a_greenlet_of_its_own() -> None:
    run("assert send(signal.SIGTERM) == ['TERM']; assert send(signal.SIGINT) == ['INT']")


def test_it_is_heard_while_the_loop_has_nothing_to_do() -> None:
    run(
        """
import threading
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
began = time.monotonic()
heard.wait(30)
assert seen == ['TERM']
assert time.monotonic() - began < 10
"""
    )


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.SIG_DFL", "print"])
def test_nobody_else_can_have_it(handler: str) -> None:
    run(f"signal.signal(signal.SIGTERM, {handler}); assert send(signal.SIGTERM) == ['TERM']")


def test_others_can_have_others() -> None:
    run("signal.signal(signal.SIGUSR1, lambda *_: seen.append('USR1')); assert send(signal.SIGUSR1) == ['USR1']")


def test_a_broken_pipe_does_not_end_the_process() -> None:
    run(
        """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
read, write = os.pipe()
os.close(read)
try:
    os.write(write, b"x")
except BrokenPipeError:
    sys.exit(0)
sys.exit(1)
"""
    )


def test_what_c_code_has_changed_is_set_again() -> None:
    run(
        """
ctypes.CDLL(None).signal(int(signal.SIGTERM), 1)
signals.arm()
assert send(signal.SIGTERM) == ['TERM']
"""
    )


def test_in_a_forked_child_they_are_anybodys() -> None:
    run(
        """
for number in (signal.SIGTERM, signal.SIGINT):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        time.sleep(30)
        os._exit(0)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
assert send(signal.SIGTERM) == ['TERM']
"""
    )


def test_afterwards_they_can_be_changed_again() -> None:
    run(
        """
signals.stop()
signal.signal(signal.SIGTERM, lambda *_: seen.append('mine'))
assert send(signal.SIGTERM) == ['mine']
"""
    )
