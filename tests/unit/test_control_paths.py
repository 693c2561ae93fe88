from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hopd.control import paths
from hopd.errors import SocketUnusable


def listen(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return str(path)


@pytest.fixture
def no_system_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "SYSTEM_DIRECTORY", str(tmp_path / "no-run-hopd"))
    monkeypatch.setattr(os, "geteuid", lambda: 4242)


def test_root_uses_the_systems_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.default_socket({"XDG_RUNTIME_DIR": "/run/user/0"}) == "/run/hopd/hopd.sock"


def test_a_user_who_may_write_to_the_systems_directory_uses_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "SYSTEM_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert paths.default_directory({}) == str(tmp_path)


@pytest.mark.usefixtures("no_system_directory")
def test_a_user_uses_the_runtime_directory() -> None:
    assert paths.default_socket({"XDG_RUNTIME_DIR": "/run/user/7"}) == "/run/user/7/hopd/hopd.sock"


@pytest.mark.usefixtures("no_system_directory")
def test_a_user_without_a_runtime_directory_gets_a_directory_of_that_users_own() -> None:
    assert paths.default_socket({}) == "/tmp/hopd-4242/hopd.sock"


def test_the_variable_overrides_the_default_socket() -> None:
    assert paths.default_socket({"HOPD_SOCKET": "/srv/x.sock"}) == "/srv/x.sock"


def test_the_variable_may_name_a_directory(tmp_path: Path) -> None:
    assert paths.default_socket({"HOPD_SOCKET": str(tmp_path)}) == f"{tmp_path}/hopd.sock"


@pytest.mark.parametrize(
    ("base", "instance", "expected"),
    [
        ("/run/hopd/hopd.sock", None, "/run/hopd/hopd.sock"),
        ("/run/hopd/hopd.sock", "01", "/run/hopd/hopd-01.sock"),
        ("/run/hopd.d/control", "a", "/run/hopd.d/control-a"),
    ],
)
def test_each_instance_has_a_socket_of_its_own(base: str, instance: str | None, expected: str) -> None:
    assert paths.socket_for(base, instance) == expected


@pytest.mark.parametrize("instance", ["", "a/b", "a\nb", "\0"])
def test_an_instances_name_must_be_able_to_be_part_of_a_files_name(instance: str) -> None:
    with pytest.raises(ValueError, match="instance's name"):
        paths.socket_for("/run/hopd/hopd.sock", instance)


def test_all_instances_in_a_directory_are_found_and_nothing_else(tmp_path: Path) -> None:
    found = [listen(tmp_path / name) for name in ("hopd-01.sock", "hopd-02.sock", "hopd.sock")]
    listen(tmp_path / "hopd.sock.123")
    listen(tmp_path / "other.sock")
    (tmp_path / "hopd-03.sock").write_text("a file")
    assert paths.find_sockets(str(tmp_path)) == found


def test_a_directory_that_is_not_there_has_no_sockets(tmp_path: Path) -> None:
    assert paths.find_sockets(str(tmp_path / "none")) == []


def test_a_directory_stands_for_the_sockets_in_it(tmp_path: Path) -> None:
    found = [listen(tmp_path / name) for name in ("hopd-01.sock", "hopd-02.sock")]
    assert paths.expand(str(tmp_path)) == found


def test_a_configured_socket_that_is_not_there_stands_for_its_instances(tmp_path: Path) -> None:
    found = [listen(tmp_path / name) for name in ("jobs-01.sock", "jobs-02.sock")]
    assert paths.expand(str(tmp_path / "jobs.sock")) == found


def test_a_configured_socket_that_is_there_stands_for_itself(tmp_path: Path) -> None:
    listen(tmp_path / "jobs-01.sock")
    assert paths.expand(listen(tmp_path / "jobs.sock")) == [str(tmp_path / "jobs.sock")]


def test_a_path_with_nothing_there_stands_for_itself(tmp_path: Path) -> None:
    assert paths.expand(str(tmp_path / "hopd.sock")) == [str(tmp_path / "hopd.sock")]


@pytest.mark.usefixtures("no_system_directory")
def test_ones_own_daemons_come_before_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, system = tmp_path / "own" / "hopd", tmp_path / "system"
    own.mkdir(parents=True)
    system.mkdir()
    mine, theirs = listen(own / "hopd.sock"), listen(system / "hopd.sock")
    monkeypatch.setattr(paths, "SYSTEM_DIRECTORY", str(system))
    monkeypatch.setattr(paths, "default_directory", lambda _: str(own))
    assert paths.search({}) == ([mine], [str(own)])
    os.unlink(mine)
    assert paths.search({}) == ([theirs], [str(system)])


@pytest.mark.usefixtures("no_system_directory")
def test_a_search_without_success_tells_where_it_looked(tmp_path: Path) -> None:
    found, places = paths.search({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert (found, places) == ([], [str(tmp_path / "hopd"), str(tmp_path / "no-run-hopd")])


def test_the_default_directory_is_made_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "hopd"
    monkeypatch.setattr(paths, "default_directory", lambda _: str(own))
    paths.make_default_directory(f"{own}/hopd.sock", {})
    assert own.stat().st_mode & 0o777 == 0o700


def test_no_other_directory_is_made(tmp_path: Path) -> None:
    paths.make_default_directory(str(tmp_path / "none" / "hopd.sock"), {})
    assert not (tmp_path / "none").exists()


def test_a_default_directory_that_others_can_write_to_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "hopd"
    own.mkdir()
    own.chmod(0o777)
    monkeypatch.setattr(paths, "default_directory", lambda _: str(own))
    with pytest.raises(SocketUnusable, match="only we can write to"):
        paths.make_default_directory(f"{own}/hopd.sock", {})


def test_a_default_directory_that_is_a_link_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "hopd").symlink_to(tmp_path / "real")
    monkeypatch.setattr(paths, "default_directory", lambda _: str(tmp_path / "hopd"))
    with pytest.raises(SocketUnusable):
        paths.make_default_directory(f"{tmp_path}/hopd/hopd.sock", {})
