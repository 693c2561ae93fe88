"""The project as a whole: what lies at the top, what the files promise about each other, and what must not be shipped."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from hopd.cli.exitcodes import BAD_CONFIG
from hopd.config.model import ShutdownSettings
from hopd.units import parse_duration
from hopd.version import __version__
from tests.support.process import ROOT

#: What the top level holds, apart from what is made there and ignored by git.
TOP = {
    *("hopd", "config", "tests", "packaging"),
    *("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "setup.cfg", "setup.py"),
}

VERBS = ["demo", "test", "soak", "lint", "bench", "run", "clean"]

#: Home directories, wherever they are, and the place of this very checkout: they exist on somebody's machine only.
PRIVATE = re.compile("|".join([r"/(?:home|root|Users)/[\w./-]+", re.escape(str(ROOT)) + r"\b"]))


def shipped() -> list[Path]:
    """Every file under git, and those that are about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    tops = {path.relative_to(ROOT).parts[0] for path in shipped()}

    assert {top for top in tops if not top.startswith(".")} <= TOP


def test_make_alone_lists_the_verbs() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert re.findall(r"^make (\w+) {2,}\S", listed, re.MULTILINE) == VERBS


def test_ci_runs_the_tests_as_people_do() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"


def test_nothing_shipped_names_a_private_path() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in shipped()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for match in PRIVATE.finditer(line)
    ]

    assert found == []


def test_the_changelog_knows_the_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert versions[:2] == ["Unreleased", __version__]


def test_the_version_is_written_once() -> None:
    assert setup_cfg()["metadata"]["version"] == "attr: hopd.version.__version__"


@pytest.mark.parametrize("line", setup_cfg()["options.entry_points"]["console_scripts"].split("\n")[1:])
def test_each_command_leads_somewhere(line: str) -> None:
    _, _, target = line.partition(" = ")
    module, _, function = target.partition(":")

    assert callable(getattr(importlib.import_module(module), function))


def test_what_the_package_needs_at_run_time_is_shipped_with_it() -> None:
    patterns = setup_cfg()["options.package_data"]["hopd"].split()
    data = [path for path in shipped() if path.is_relative_to(ROOT / "hopd") and path.suffix != ".py"]
    matched = {found for pattern in patterns for found in (ROOT / "hopd").glob(pattern)}

    assert [str(path.relative_to(ROOT)) for path in data if path not in matched] == []


def test_service_managers_are_more_patient_than_hopd_with_its_jobs() -> None:
    supervisor = configparser.ConfigParser(interpolation=None, strict=True, inline_comment_prefixes=(";",))
    supervisor.read(ROOT / "packaging" / "supervisor" / "hopd.conf")
    unit = (ROOT / "packaging" / "systemd" / "hopd.service").read_text()
    grace = ShutdownSettings().grace

    assert int(supervisor["program:hopd"]["stopwaitsecs"]) > grace
    assert parse_duration(re.findall(r"^TimeoutStopSec=(.+)$", unit, re.MULTILINE)[0]) > grace


def test_service_managers_leave_a_bad_config_to_a_person() -> None:
    supervisor = configparser.ConfigParser(interpolation=None)
    supervisor.read(ROOT / "packaging" / "supervisor" / "hopd.conf")
    program = supervisor["program:hopd"]
    unit = (ROOT / "packaging" / "systemd" / "hopd.service").read_text()

    assert (program["autorestart"], program["exitcodes"], program["startsecs"]) == ("unexpected", f"0,{BAD_CONFIG}", "0")
    assert f"RestartPreventExitStatus={BAD_CONFIG}\n" in unit


def test_every_text_ends_with_a_newline() -> None:
    assert [str(path.relative_to(ROOT)) for path in shipped() if (text := path.read_bytes()) and not text.endswith(b"\n")] == []
