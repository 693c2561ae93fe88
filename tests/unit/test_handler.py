"""From `package.module:name` to a callable that takes a job, in this process and in a child."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hopd.config.load import Loaded, load
from hopd.engine.handler import add_import_path, load_handler
from hopd.engine.handler_check import check
from hopd.errors import HandlerError
from tests.support.waiting import wait_until

#: Seconds for an import that comes to an end; never waited for in full.
ENOUGH = 30.0
#: Seconds for an import that does not.
HANGING = 0.5

JOBS = """\
import functools

def send(job): return ("sent", job)
def optional(job, retries=3): pass
def anything(*args, **kwargs): pass
def nothing(): pass
def two(job, other): pass
def keyword(*, job): pass
async def asynchronous(job): pass
async def asynchronous_generator(job): yield
def generator(job): yield

class Sender:
    made = 0
    def __init__(self): Sender.made += 1
    def __call__(self, job): return ("called", job)
    def send(self, job): return ("method", job)
    def done(self): pass
    @staticmethod
    def static(job): return ("static", job)
    @classmethod
    def of_class(cls, job): return ("class", job)

class Needy:
    def __init__(self, address): pass
    def __call__(self, job): pass

class Broken:
    def __init__(self): raise RuntimeError("no database")
    def __call__(self, job): pass

class Silent: pass

class Asynchronous:
    async def __call__(self, job): pass

sender = Sender()
partial = functools.partial(two, other=1)
asynchronous_partial = functools.partial(asynchronous)
number = 5

def __getattr__(name):
    if name == "trap": raise RuntimeError("trapped")
    raise AttributeError(name)
"""

RAISES = {
    "raises": ("raise ValueError('no such\\nthing')", "importing raises raised ValueError: no such thing"),
    "leaves": ("import sys; sys.exit('bye')", "importing leaves left with SystemExit: bye"),
    "interrupted": ("raise KeyboardInterrupt", "importing interrupted raised KeyboardInterrupt"),
    "greenlet_exit": ("import greenlet; raise greenlet.GreenletExit", "importing greenlet_exit raised GreenletExit"),
    "unparsable": ("def (", "importing unparsable raised SyntaxError: "),
    "lacks": ("import no_such_library_at_all", "importing lacks raised ModuleNotFoundError: No module named 'no_such_library_at_all'"),
    "recursive": ("def f(): f()\nf()", "importing recursive raised RecursionError"),
}

STOPS = {
    "sleeps": ("import signal; signal.pause()", "hung for more than 500ms"),
    "spins": ("while True: pass", "hung for more than 500ms"),
    "exits": ("import os; os._exit(0)", "left with exit status 0"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "died of signal 11 (Segmentation fault)"),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "died of signal 9 (Killed)"),
    "closes": ("import os; os.closerange(3, 100)\ndef send(job): pass", "left with exit status 1"),
    "forks": ("import os, signal\nif os.fork() == 0: signal.pause()\nos._exit(3)", "left with exit status 3"),
}


@pytest.fixture
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the users' modules, on the search path; what is imported from it is forgotten at the end."""
    before = set(sys.modules)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield tmp_path / "lib"
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write_module(lib: Path, name: str, text: str) -> None:
    (lib / f"{name}.py").write_text(text)
    importlib.invalidate_caches()


def found(spec: str) -> Callable[[object], object]:
    return load_handler(spec)


def refused(spec: str) -> str:
    with pytest.raises(HandlerError) as raised:
        found(spec)
    return str(raised.value)


def config(lib: Path, *specs: str) -> Loaded:
    """A config with a topic t0, t1, … for each handler, in lines 3, 4, …"""
    topics = "".join(f"  t{number}: {{handler: '{spec}'}}\n" for number, spec in enumerate(specs))
    (lib.parent / "hopd.yaml").write_text(f"import_path: [lib]\ntopics:\n{topics}")
    return load(str(lib.parent / "hopd.yaml"), {})


def checked(lib: Path, *specs: str, timeout: float = ENOUGH) -> list[str]:
    return [str(problem).removeprefix(f"{lib.parent}/") for problem in check(config(lib, *specs), timeout)]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- in this process ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "word"),
    [("jobs:send", "sent"), ("jobs:Sender", "called"), ("jobs:sender", "called"), ("jobs:sender.send", "method"),
     ("jobs:Sender.static", "static"), ("jobs:Sender.of_class", "class")],
)  # fmt: skip
def test_a_handler_is_called_with_the_job(lib: Path, spec: str, word: str) -> None:
    assert found(spec)("job") == (word, "job")


@pytest.mark.parametrize("spec", ["jobs:optional", "jobs:anything", "jobs:partial", "builtins:print", "builtins:min"])
def test_whatever_takes_one_argument_is_a_handler(lib: Path, spec: str) -> None:
    assert callable(found(spec))


def test_a_class_is_instantiated_once(lib: Path) -> None:
    handler = found("jobs:Sender")
    made = sys.modules["jobs"].Sender.made

    handler("job")

    assert sys.modules["jobs"].Sender.made == made


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("nowhere:send", "there is no module nowhere: is it installed, or its directory in import_path?"),
        ("nowhere.at.all:send", "there is no module nowhere"),
        ("jobs.inner:send", "there is no module jobs.inner"),
        ("jobs:sned", "jobs has no sned; did you mean send?"),
        ("jobs:sender.snd", "jobs.sender has no snd; did you mean send?"),
        ("jobs:trap", "looking up trap in jobs raised RuntimeError: trapped"),
        ("jobs:number", "an object of type int is not callable"),
        ("os:path", "a module is not callable"),
        ("jobs:Silent", "an object of type Silent is not callable"),
        ("jobs:nothing", "is called with one argument, the job, but takes ()"),
        ("jobs:two", "is called with one argument, the job, but takes (job, other)"),
        ("jobs:keyword", "is called with one argument, the job, but takes (*, job)"),
        ("jobs:sender.done", "is called with one argument, the job, but takes ()"),
        ("jobs:Sender.send", "send is a method without its object: name an instance of Sender"),
        ("jobs:Sender.done", "done is a method without its object"),
        ("jobs:Needy", "an instance of Needy is made without arguments, but takes (address)"),
        ("jobs:Broken", "making an instance of Broken raised RuntimeError: no database"),
        ("jobs:asynchronous", "is async, and calling it would run nothing"),
        ("jobs:asynchronous_generator", "is async"),
        ("jobs:asynchronous_partial", "is async"),
        ("jobs:Asynchronous", "is async"),
        ("jobs:generator", "has a yield, and calling it would run nothing"),
    ],
)
def test_what_cannot_handle_jobs_is_refused_with_the_reason(lib: Path, spec: str, reason: str) -> None:
    assert refused(spec).startswith(reason)


@pytest.mark.parametrize(("module", "text", "reason"), [(name, *case) for name, case in RAISES.items()], ids=RAISES)
def test_whatever_an_import_raises_is_a_handler_error(lib: Path, module: str, text: str, reason: str) -> None:
    write_module(lib, module, text)

    assert reason in refused(f"{module}:send")


def test_what_an_import_raised_comes_with_its_place(lib: Path) -> None:
    write_module(lib, "raises", "x = 1\nraise ValueError\n")

    assert refused("raises:send").endswith(f"({lib}/raises.py:2)")


def test_what_an_import_raised_is_kept_as_the_cause(lib: Path) -> None:
    write_module(lib, "raises", "raise ValueError")

    with pytest.raises(HandlerError) as raised:
        found("raises:send")

    assert isinstance(raised.value.__cause__, ValueError)


def test_the_import_path_is_searched_first_and_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/usr/lib", "/b"])

    add_import_path(("/a", "/b"))

    assert sys.path == ["/a", "/b", "/usr/lib"]


# --- in a child ---------------------------------------------------------------------------------


def test_handlers_that_can_be_imported_are_no_problem(lib: Path) -> None:
    assert checked(lib, "jobs:send", "jobs:Sender", "jobs:sender.send") == []


def test_a_check_imports_nothing_here(lib: Path) -> None:
    assert checked(lib, "jobs:send") == []

    assert "jobs" not in sys.modules


def test_every_problem_is_told_with_topic_and_line(lib: Path) -> None:
    write_module(lib, "raises", "raise ValueError('x')")

    problems = checked(lib, "jobs:sned", "jobs:send", "raises:send", "jobs:two", "nowhere:send")

    assert [problem.split(": ")[:3] for problem in problems] == [
        ["hopd.yaml:3:8", "topics.t0.handler", "jobs:sned"],
        ["hopd.yaml:5:8", "topics.t2.handler", "raises:send"],
        ["hopd.yaml:6:8", "topics.t3.handler", "jobs:two"],
        ["hopd.yaml:7:8", "topics.t4.handler", "nowhere:send"],
    ]


@pytest.mark.parametrize(("text", "reason"), RAISES.values(), ids=RAISES)
def test_whatever_an_import_raises_is_a_problem(lib: Path, text: str, reason: str) -> None:
    module = reason.split()[1]
    write_module(lib, module, text)

    assert reason in checked(lib, f"{module}:send")[0]


@pytest.mark.parametrize(("text", "reason"), STOPS.values(), ids=STOPS)
def test_an_import_that_stops_the_process_is_pinned_on_its_topic(lib: Path, text: str, reason: str) -> None:
    write_module(lib, "stops", text)

    pinned, after = checked(lib, "jobs:send", "stops:send", "jobs:nothing", timeout=HANGING)

    assert pinned == f"hopd.yaml:4:8: topics.t1.handler: stops:send: while it was imported, the process {reason}"
    assert after.startswith("hopd.yaml:5:8: topics.t2.handler: jobs:nothing: is called with one argument")


def test_a_module_that_stopped_the_process_is_not_tried_again(lib: Path) -> None:
    write_module(lib, "exits", "import os; os._exit(0)")

    problems = checked(lib, "exits:a", "jobs:send", "exits:b")

    assert problems[1].endswith("topics.t2.handler: exits:b: not tried: exits stopped the check, as said of topics.t0.handler")


@pytest.mark.parametrize(
    "noise",
    [
        'print(\'{"problem": "fake"}\')',
        "import os; os.write(1, b'{}\\n')",
        "import sys; sys.stdout.write('x' * 1000)",
        "import os; os.close(1)",
    ],
)
def test_what_a_module_prints_confuses_nobody(lib: Path, noise: str) -> None:
    write_module(lib, "noisy", f"{noise}\ndef send(job): pass\n")

    assert checked(lib, "noisy:send", "jobs:send") == []


def test_what_a_module_prints_is_not_on_our_standard_output(lib: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_module(lib, "noisy", "print('noise')\ndef send(job): pass\n")

    checked(lib, "noisy:send")

    assert capfd.readouterr().out == ""


def test_a_module_that_asks_for_input_gets_none(lib: Path) -> None:
    write_module(lib, "asks", "input()\n")

    assert "raised EOFError" in checked(lib, "asks:send")[0]


def test_a_module_with_a_thread_does_not_keep_the_check(lib: Path) -> None:
    write_module(lib, "threads", "import threading\nthreading.Thread(target=threading.Event().wait).start()\ndef send(job): pass\n")

    assert checked(lib, "threads:send") == []


def test_what_a_module_has_started_is_gone_after_the_check(lib: Path) -> None:
    write_module(
        lib,
        "starts",
        f"import subprocess\nchild = subprocess.Popen(['sleep', '3600'])\nopen({str(lib / 'pid')!r}, 'w').write(str(child.pid))\n",
    )

    checked(lib, "starts:child")

    pid = (lib / "pid").read_text()
    wait_until(lambda: is_gone(int(pid)))


def test_the_working_directory_is_not_searched(lib: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "here.py").write_text("def send(job): pass\n")
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert "there is no module here" in checked(lib, "here:send")[0]


def test_modules_see_the_patched_world_that_the_daemon_has(lib: Path) -> None:
    write_module(lib, "world", "from gevent.monkey import is_module_patched\nassert is_module_patched('socket')\ndef send(job): pass\n")

    assert checked(lib, "world:send") == []


def test_a_check_leaves_no_file_open(lib: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))

    checked(lib, "jobs:send")

    assert set(os.listdir("/proc/self/fd")) == before


def test_a_child_that_cannot_start_is_an_error_and_not_the_handlers_fault(lib: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(HandlerError, match="did not start: it left with exit status 1"):
        checked(lib, "jobs:send")


def test_an_interpreter_that_is_missing_is_an_error(lib: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(HandlerError, match="cannot be started"):
        checked(lib, "jobs:send")


def test_the_check_works_in_a_patched_process_too(lib: Path) -> None:
    write_module(lib, "sleeps", "import signal; signal.pause()")
    config(lib, "sleeps:send", "jobs:send", "jobs:two")
    program = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import json, sys\nfrom hopd.config.load import load\nfrom hopd.engine.handler_check import check\n"
        "print(json.dumps([problem.path for problem in check(load(sys.argv[1], {}), float(sys.argv[2]))]))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(lib.parent / "hopd.yaml"), str(HANGING)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=ENOUGH,
        check=True,
    )

    assert json.loads(done.stdout) == ["topics.t0.handler", "topics.t2.handler"]
