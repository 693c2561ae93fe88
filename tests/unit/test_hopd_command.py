"""The hopd command, as a shell and a service manager see it: what it prints where, and its exit code."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hopd.cli import exitcodes
from hopd.cli.hopd import main
from hopd.version import __version__
from tests.support.process import ROOT

#: For a process to start and leave, on a machine that is busy with other tests. Seconds.
PATIENCE = 60.0

HANDLERS = """
def handle(job): pass
def no_argument(): pass
"""

GOOD = """\
broker: {url: "amqp://guest:guest@127.0.0.1:1/"}
control: {socket: hopd.sock}
import_path: [.]
topics:
  emails: {handler: "jobs:handle"}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(HANDLERS)
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)")
    return tmp_path


def hopd(directory: Path, *arguments: str, config: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `directory`, where `config` is the hopd.yaml."""
    if config is not None:
        (directory / "hopd.yaml").write_text(config)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, "-c", "from hopd.cli.hopd import main; main()", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


# --- usage ----------------------------------------------------------------------------------------


def test_the_version_is_one_line() -> None:
    result = CliRunner().invoke(main, ["--version"])

    assert (result.exit_code, result.output) == (0, f"hopd {__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"]], ids=" ".join)
def test_the_help_tells_every_exit_code(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)

    codes = [exitcodes.STOPPED, exitcodes.CRASHED_OR_FORCED, exitcodes.USAGE, exitcodes.NO_SOCKET, exitcodes.BAD_CONFIG]
    assert result.exit_code == 0
    assert all(re.search(rf"^ +{code} ", result.output, re.MULTILINE) for code in codes)


@pytest.mark.parametrize(
    "arguments",
    [["walk"], ["run", "--fast"], ["run", "extra"], ["check"], ["check", "a", "b"], ["check", "--timeout", "x", "a"]],
    ids=" ".join,
)
def test_wrong_usage_is_told_on_standard_error_with_exit_code_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == exitcodes.USAGE
    assert result.stdout == ""
    assert "Usage: " in result.stderr


def test_without_a_config_anywhere_run_says_where_it_looked(directory: Path) -> None:
    result = hopd(directory, "run")

    assert result.returncode == exitcodes.USAGE
    assert "hopd.yaml" in result.stderr
    assert "/etc/hopd/hopd.yaml" in result.stderr
    assert "-c FILE" in result.stderr


def test_an_instance_whose_name_cannot_be_in_a_file_name_is_wrong_usage(directory: Path) -> None:
    result = hopd(directory, "run", "--instance", "a/b", config=GOOD)

    assert result.returncode == exitcodes.USAGE
    assert "--instance" in result.stderr


def test_an_error_of_our_own_is_not_taken_for_wrong_usage(directory: Path) -> None:
    script = """\
from gevent import monkey; monkey.patch_all()
import hopd.engine.daemon
def broken(*_): raise ValueError("a bug")
hopd.engine.daemon.Daemon = broken
from hopd.cli.hopd import main; main(["run"])
"""
    (directory / "hopd.yaml").write_text(GOOD)

    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert result.returncode == exitcodes.CRASHED_OR_FORCED
    assert "ValueError: a bug" in result.stderr
    assert "--instance" not in result.stderr


# --- a config that cannot be used -------------------------------------------------------------------


def test_a_config_that_is_not_there_is_named(directory: Path) -> None:
    result = hopd(directory, "run", "-c", "elsewhere.yaml")

    assert result.returncode == exitcodes.BAD_CONFIG
    assert result.stderr.startswith("elsewhere.yaml: ")
    assert result.stdout == ""


@pytest.mark.parametrize("command", [("run", "-c", "hopd.yaml"), ("check", "hopd.yaml")], ids=" ".join)
def test_every_problem_is_told_at_once_each_with_its_place(directory: Path, command: tuple[str, ...]) -> None:
    config = GOOD.replace("import_path: [.]", "shutdown: {grace: soon}\nimport_path: [.]") + "  images: {handler: nowhere, concurency: 5}\n"

    result = hopd(directory, *command, config=config)

    places = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert result.returncode == exitcodes.BAD_CONFIG
    assert places == ["hopd.yaml:3:19", "hopd.yaml:7:21", "hopd.yaml:7:30"]
    assert "concurrency" in result.stderr.splitlines()[2]
    assert result.stdout == ""


@pytest.mark.parametrize("command", [("run",), ("check", "hopd.yaml")], ids=" ".join)
def test_every_handler_that_cannot_be_called_is_told_with_topic_and_line(directory: Path, command: tuple[str, ...]) -> None:
    wrong = {"a": "missing:handle", "b": "jobs:missing", "c": "jobs:no_argument", "d": "leaves:handle"}
    topics = "".join(f"  {topic}: {{handler: '{handler}'}}\n" for topic, handler in wrong.items())

    result = hopd(directory, *command, config=GOOD + topics)

    problems = result.stderr.splitlines()
    assert result.returncode == exitcodes.BAD_CONFIG
    assert [problem.split(": ")[:2] for problem in problems] == [
        [f"hopd.yaml:{line}:7", f"topics.{topic}.handler"] for line, topic in enumerate(wrong, start=6)
    ]
    assert all(handler in problem for handler, problem in zip(wrong.values(), problems, strict=True))


def test_check_says_that_a_good_config_is_good(directory: Path) -> None:
    result = hopd(directory, "check", "hopd.yaml", config=GOOD)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "hopd.yaml: good; 1 topic, every handler imports\n"
    assert not (directory / "hopd.sock").exists()


def test_a_log_file_that_cannot_be_written_is_a_problem_of_the_config(directory: Path) -> None:
    result = hopd(directory, "run", config="logging: {file: missing/hopd.log}\n" + GOOD)

    assert result.returncode == exitcodes.BAD_CONFIG
    assert result.stderr.startswith("hopd.yaml:1:11: logging.file: ")


# --- a control socket that cannot be made --------------------------------------------------------------


def test_a_regular_file_in_the_sockets_place_is_refused_and_left_as_it_is(directory: Path) -> None:
    (directory / "hopd.sock").write_text("precious")

    result = hopd(directory, "run", config=GOOD)

    assert result.returncode == exitcodes.NO_SOCKET
    assert str(directory / "hopd.sock") in result.stderr
    assert (directory / "hopd.sock").read_text() == "precious"


@pytest.mark.parametrize("path", ["missing/hopd.sock", "x" * 120 + "/hopd.sock"], ids=["directory missing", "too long"])
def test_a_socket_path_that_cannot_be_bound_is_told(directory: Path, path: str) -> None:
    result = hopd(directory, "run", config=GOOD.replace("hopd.sock", path))

    assert result.returncode in (exitcodes.NO_SOCKET, exitcodes.BAD_CONFIG)
    assert str(directory / path.split("/")[0]) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_socket_on_which_somebody_listens_is_refused(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "hopd.sock"))
        listener.listen()

        result = hopd(directory, "run", config=GOOD)

    assert result.returncode == exitcodes.NO_SOCKET
    assert (directory / "hopd.sock").exists()


def test_the_environment_names_the_socket_of_a_config_that_names_none(directory: Path) -> None:
    config = GOOD.replace("control: {socket: hopd.sock}\n", "")

    result = hopd(directory, "run", config=config, HOPD_SOCKET=str(directory / "missing" / "named.sock"))

    assert result.returncode == exitcodes.NO_SOCKET
    assert str(directory / "missing") in result.stderr


def test_the_command_starts_without_what_only_the_daemon_needs(directory: Path) -> None:
    """patch_all() has to come before ssl, socket and pika, and `hopd --version` should not wait for any of them."""
    script = "import sys, hopd.cli.hopd; print([name for name in ('gevent', 'pika', 'pydantic', 'yaml', 'ssl') if name in sys.modules])"

    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)

    assert result.stdout == "[]\n"
