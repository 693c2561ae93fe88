"""The socket as a file: made with its final owner and mode before anyone can see it, and never in place of anything alive.

The socket is bound under a temporary name, given its group and mode there, and only then linked to its own name. What
lies at that name is looked at first: a live hopd is respected, a stale socket is taken away, anything else is refused.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from dataclasses import dataclass

from hopd.control.paths import MAX_PATH_BYTES
from hopd.errors import SocketUnusable

#: Connections the kernel keeps for us while we are busy; more wait in their connect().
BACKLOG = 128

#: Seconds a connect test may take; only a full backlog makes it wait, and that is a sign of life.
_PROBE_TIMEOUT = 1.0

#: Times we look again when others start and stop at the same name while we do.
_TRIES = 10


@dataclass(frozen=True)
class SocketFile:
    """A listening socket and the file it is known by."""

    socket: socket.socket
    path: str
    inode: tuple[int, int]
    pid: int

    def unlink(self) -> None:
        """Take the file away if it is still ours: another hopd may have put its own there, and a forked child owns nothing."""
        if self.pid == os.getpid() and _inode(self.path) == self.inode:
            os.unlink(self.path)


def group_id(name: str | None) -> int | None:
    """The number of the group `name` (a name or a number); `SocketUnusable` when there is none."""
    if name is None:
        return None
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise SocketUnusable(f"control.group: there is no group {name!r} on this host") from error


def create(path: str, mode: int, group: int | None, elsewhere: str = "set control.socket") -> SocketFile:
    """Listen on `path`; `SocketUnusable` says why that cannot be, and `elsewhere` how another path is chosen."""
    _check_path(path, elsewhere)
    temporary = f"{path}.{os.getpid()}"
    if len(os.fsencode(temporary)) > MAX_PATH_BYTES:
        temporary = os.path.join(os.path.dirname(path), f".{os.getpid()}")
    try:
        listener = _bind_private(temporary)
        try:
            _share(temporary, mode, group)
            listener.listen(BACKLOG)
            bound = os.lstat(temporary)
            _link(temporary, path, elsewhere)
        except BaseException:
            listener.close()
            raise
        finally:
            os.unlink(temporary)
    except OSError as error:
        raise SocketUnusable(f"the socket {path} cannot be created: {error.strerror or error}") from error
    return SocketFile(listener, path, (bound.st_dev, bound.st_ino), os.getpid())


def _check_path(path: str, elsewhere: str) -> None:
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise SocketUnusable(f"the path of a socket has at most {MAX_PATH_BYTES} bytes and this one has {size}: {path}")
    if "\0" in path or not os.path.basename(path):
        raise SocketUnusable(f"{path!r} does not name a file for the socket")
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise SocketUnusable(f"the directory {directory} for the socket does not exist: create it or {elsewhere}")


def _bind_private(temporary: str) -> socket.socket:
    if _is_socket(temporary):
        os.unlink(temporary)  # left by a hopd of our pid that was killed at this very point
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(os.fsencode(temporary))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return listener


def _share(temporary: str, mode: int, group: int | None) -> None:
    # The group comes before the mode: the other way round the group we were started with could enter for a moment.
    if group is not None:
        try:
            os.chown(temporary, -1, group)
        except PermissionError as error:
            raise SocketUnusable(f"hopd may not share its socket with group {group}: its user is not a member") from error
    os.chmod(temporary, mode)


def _link(temporary: str, path: str, elsewhere: str) -> None:
    # link() fails where rename() would replace: what appeared at `path` meanwhile is looked at like what was there before.
    for _ in range(_TRIES):
        try:
            os.link(temporary, path)
        except FileExistsError:
            _make_way(path, elsewhere)
        else:
            return
    raise SocketUnusable(f"others keep creating {path}: is more than one hopd being started there?")


def _make_way(path: str, elsewhere: str) -> None:
    """Remove a stale socket; `SocketUnusable` when what lies at `path` is alive or no socket at all."""
    found = _inode(path)
    if found is None:
        return
    if not _is_socket(path):
        raise SocketUnusable(f"{path} is {_kind(path)}, not a socket: hopd does not replace it; remove it or {elsewhere}")
    if _listening(path):
        raise SocketUnusable(f"another hopd is running there: {path} is in use")
    # Another hopd may have found the same stale socket and put its own in place since: take the name first, then look.
    aside = f"{path}.{os.getpid()}.stale"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _inode(aside) != found:
        os.link(aside, path)
    os.unlink(aside)


def _listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(os.fsencode(path))
        except OSError as error:
            # Refused is the word for a socket file without a listener; whatever else we meet is left alone.
            return error.errno not in {errno.ECONNREFUSED, errno.ENOENT}
        return True


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(_mode(path))


def _kind(path: str) -> str:
    mode = _mode(path)
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0
