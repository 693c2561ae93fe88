from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopd.control import paths, socketfile
from hopd.control.socketfile import SocketFile, create
from hopd.errors import SocketUnusable


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hopd.sock")


@pytest.fixture
def file(path: str) -> Iterator[SocketFile]:
    made = create(path, 0o660, None)
    with made.socket:
        yield made


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def leave_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)


def test_the_socket_listens_with_its_mode_and_leaves_no_temporary_name(file: SocketFile, tmp_path: Path) -> None:
    connect(file.path)
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o660
    assert os.listdir(tmp_path) == ["hopd.sock"]


def test_the_socket_is_never_looser_than_it_will_be(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def watched(first: str, *rest: object) -> None:
            seen.append((name, stat.S_IMODE(os.lstat(first).st_mode)))
            real(first, *rest)

        monkeypatch.setattr(os, name, watched)

    for name in ("chown", "chmod", "link"):
        watch(name)
    before = os.umask(0)
    try:
        create(path, 0o640, os.getgid()).socket.close()
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert seen == [("chown", 0o600), ("chmod", 0o600), ("link", 0o640)]


def test_the_socket_belongs_to_the_group(path: str) -> None:
    group = max(os.getgroups() or [os.getgid()])
    with create(path, 0o660, group).socket:
        assert os.stat(path).st_gid == group


def test_a_stale_socket_is_healed(path: str, tmp_path: Path) -> None:
    leave_stale(path)
    with create(path, 0o660, None).socket:
        connect(path)
        assert os.listdir(tmp_path) == ["hopd.sock"]


def test_a_temporary_name_left_by_a_kill_is_no_obstacle(path: str) -> None:
    leave_stale(f"{path}.{os.getpid()}")
    with create(path, 0o660, None).socket:
        connect(path)


def test_a_live_daemon_is_respected(file: SocketFile, tmp_path: Path) -> None:
    with pytest.raises(SocketUnusable, match="another hopd is running there"):
        create(file.path, 0o660, None)
    connect(file.path)
    assert os.listdir(tmp_path) == ["hopd.sock"]


def test_a_live_daemon_with_a_full_backlog_is_respected(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socketfile, "_PROBE_TIMEOUT", 0.05)
    waiting = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            if client.connect_ex(path) != 0:
                break
        with pytest.raises(SocketUnusable, match="another hopd is running there"):
            create(path, 0o660, None)
    for client in waiting:
        client.close()


@pytest.mark.parametrize("kind", ["a file", "a directory", "a symbolic link"])
def test_what_is_no_socket_is_refused_and_never_unlinked(kind: str, path: str, tmp_path: Path) -> None:
    lying = Path(path)
    if kind == "a file":
        lying.write_text("precious")
    elif kind == "a directory":
        lying.mkdir()
    else:
        leave_stale(str(tmp_path / "target.sock"))
        lying.symlink_to(tmp_path / "target.sock")
    before = os.lstat(path)
    with pytest.raises(SocketUnusable, match=f"is {kind}, not a socket"):
        create(path, 0o660, None)
    assert os.lstat(path).st_ino == before.st_ino
    assert not list(tmp_path.glob("hopd.sock.*"))


def test_a_path_of_107_bytes_is_used(tmp_path: Path) -> None:
    path = str(tmp_path / "x").ljust(paths.MAX_PATH_BYTES, "x")
    with create(path, 0o660, None).socket:
        connect(path)


def test_a_path_over_107_bytes_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "x").ljust(paths.MAX_PATH_BYTES + 1, "x")
    with pytest.raises(SocketUnusable, match="at most 107 bytes and this one has 108"):
        create(path, 0o660, None)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(SocketUnusable, match=r"the directory .*/none for the socket does not exist: create it or set control.socket"):
        create(str(tmp_path / "none" / "hopd.sock"), 0o660, None)


def test_who_is_not_told_of_a_setting_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SocketUnusable, match="create it or name another path"):
        create(str(tmp_path / "none" / "broker.sock"), 0o600, None, "name another path")


@pytest.mark.parametrize("path", ["", "/tmp/", "/tmp/a\0b"])
def test_a_path_that_names_no_file_is_refused(path: str) -> None:
    with pytest.raises(SocketUnusable, match="does not name a file"):
        create(path, 0o660, None)


def test_two_that_heal_the_same_stale_socket_do_not_push_each_other_out(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_stale(path)
    real = os.rename
    winners: list[SocketFile | None] = []

    def rename_a_moment_late(source: str, target: str) -> None:
        if not winners:
            winners.append(None)
            with monkeypatch.context() as another:
                another.setattr(os, "getpid", lambda: 1)
                winners[0] = create(path, 0o600, None)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename_a_moment_late)
    with pytest.raises(SocketUnusable, match="another hopd is running there"):
        create(path, 0o660, None)
    assert winners[0] is not None
    with winners[0].socket:
        connect(path)


def test_unlinking_takes_only_ones_own_socket(file: SocketFile) -> None:
    os.unlink(file.path)
    with create(file.path, 0o600, None).socket:
        file.unlink()
        connect(file.path)


def test_unlinking_takes_ones_own_socket_away(file: SocketFile) -> None:
    file.unlink()
    assert not os.path.exists(file.path)
    file.unlink()


def test_a_forked_child_does_not_take_the_socket_away(file: SocketFile) -> None:
    SocketFile(file.socket, file.path, file.inode, pid=file.pid + 1).unlink()
    connect(file.path)


@pytest.mark.parametrize(("name", "expected"), [(None, None), ("0", 0), ("root", 0)])
def test_a_group_is_a_name_or_a_number(name: str | None, expected: int | None) -> None:
    assert socketfile.group_id(name) == expected


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(SocketUnusable, match="no group 'no-such-group'"):
        socketfile.group_id("no-such-group")
