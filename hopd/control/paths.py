"""Where control sockets lie: the default directory, one socket for each instance, and how to find them again."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from hopd.errors import SocketUnusable

#: The environment variable that names the socket (or a directory of sockets) for hopd and hopctl alike.
VARIABLE = "HOPD_SOCKET"

#: Where the system's hopd keeps its sockets.
SYSTEM_DIRECTORY = "/run/hopd"

#: The kernel's `sun_path` holds 108 bytes, one of them the closing NUL.
MAX_PATH_BYTES = 107

_STEM = "hopd"
_SUFFIX = ".sock"


def default_directory(environ: Mapping[str, str]) -> str:
    """Where a daemon of ours puts its socket: the system's directory where we may write to it, else one of our own."""
    if os.geteuid() == 0 or os.access(SYSTEM_DIRECTORY, os.W_OK | os.X_OK):
        return SYSTEM_DIRECTORY
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, _STEM)
    user = os.geteuid()
    if os.path.isdir(f"/run/user/{user}"):
        return f"/run/user/{user}/{_STEM}"
    return f"/tmp/{_STEM}-{user}"


def default_socket(environ: Mapping[str, str]) -> str:
    """The socket of a daemon whose configuration names none."""
    named = environ.get(VARIABLE)
    if named and not os.path.isdir(named):
        return named
    return os.path.join(named or default_directory(environ), _STEM + _SUFFIX)


def socket_for(base: str, instance: str | None) -> str:
    """The socket of one instance: ``/run/hopd/hopd.sock`` and ``01`` give ``/run/hopd/hopd-01.sock``.

    ValueError when the name cannot be part of a file's name.
    """
    if instance is None:
        return base
    if not instance or "/" in instance or not instance.isprintable():
        raise ValueError(f"an instance's name is printable, not empty and has no '/', got {instance!r}")
    stem, suffix = os.path.splitext(base)
    return f"{stem}-{instance}{suffix}"


def find_sockets(directory: str, stem: str = _STEM) -> list[str]:
    """The sockets of all instances in `directory`, sorted; empty when there are none or it cannot be read."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    named = [name for name in names if name == stem + _SUFFIX or (name.startswith(stem + "-") and name.endswith(_SUFFIX))]
    return [path for path in (os.path.join(directory, name) for name in named) if _is_socket(path)]


def expand(path: str) -> list[str]:
    """The sockets that `path` stands for: those in a directory, the one it names, or else the instances of the one it names."""
    if os.path.isdir(path):
        return find_sockets(path)
    stem, suffix = os.path.splitext(os.path.basename(path))
    if os.path.lexists(path) or suffix != _SUFFIX:
        return [path]
    return find_sockets(os.path.dirname(path) or ".", stem) or [path]


def search(environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The sockets to talk to when none is named, and the places looked at.

    Our own directory comes first; the system's only counts when ours holds no socket, so that steering one's own
    daemon never steers the system's by the way.
    """
    if named := environ.get(VARIABLE):
        return expand(named), [named]
    directories = list(dict.fromkeys((default_directory(environ), SYSTEM_DIRECTORY)))
    for directory in directories:
        if found := find_sockets(directory):
            return found, [directory]
    return [], directories


def make_default_directory(path: str, environ: Mapping[str, str]) -> None:
    """Create the directory of the socket `path` if it is the default one; any other is the operator's to create.

    Raises `SocketUnusable` when it cannot be created or when another user could replace what lies in it.
    """
    directory = os.path.dirname(path)
    if directory != default_directory(environ):
        return
    try:
        os.makedirs(directory, mode=0o755 if directory == SYSTEM_DIRECTORY else 0o700, exist_ok=True)
        found = os.stat(directory, follow_symlinks=False)
    except OSError as error:
        raise SocketUnusable(f"the directory {directory} for the control socket cannot be created: {error.strerror}") from error
    if directory != SYSTEM_DIRECTORY and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise SocketUnusable(f"{directory} is not a directory that only we can write to: remove it or set control.socket")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
