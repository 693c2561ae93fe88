"""`import hopd` loads nothing: the daemon must monkey-patch before pika, ssl or socket are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hopd
from tests.support.process import ROOT


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh Python has loaded after the statement."""
    script = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split())


def test_importing_hopd_loads_neither_sockets_nor_pika() -> None:
    assert loaded_by("import hopd") & {"socket", "ssl", "threading", "pika", "gevent", "pydantic", "yaml"} == set()


def test_the_library_loads_neither_gevent_nor_the_daemons_things() -> None:
    loaded = loaded_by("from hopd import WorkQueue")

    assert "pika" in loaded
    assert loaded & {"gevent", "pydantic", "yaml", "click", "rich"} == set()


@pytest.mark.parametrize("name", hopd.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(hopd, name) is not None


@pytest.mark.parametrize("name", sorted(set(hopd._HOMES) - set(hopd.__all__)))
def test_every_error_is_there(name: str) -> None:
    assert issubclass(getattr(hopd, name), hopd.HopError)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hopd.nothing


def test_names_not_loaded_yet_are_listed() -> None:
    assert set(hopd._HOMES) <= set(dir(hopd))
