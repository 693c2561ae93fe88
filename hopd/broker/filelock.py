"""One owner for one file: a lock beside it that ends with whoever holds it, however that ends."""

from __future__ import annotations

import fcntl
import os

from hopd.amqp.fork import stays_with_parent

#: A process number has at most this many digits.
_DIGITS = 20


class Locked(Exception):
    """Another holds the lock. `pid` is its process, or None where it did not say (yet)."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid


class FileLock:
    """Holds the lock `path` from now on until `release()`; `Locked` when another does, OSError when the file cannot be made.

    A file of its own, and not the one it is about: SQLite's locks on that one are the process's and end as soon as the process
    closes any descriptor of it. A lock by flock() is the descriptor's, so that it also keeps this very process from a second try.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = _lock(path)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())
        stays_with_parent(self)

    def release(self) -> None:
        """Give it up, and take the file away. In this order: once it is unlocked it may be another's."""
        if self._descriptor >= 0 and _lies_at(self._path, self._descriptor):
            os.unlink(self._path)
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """Close the descriptor only: a forked child's copy of it would hold the lock beyond the parent's end."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _lock(path: str) -> int:
    """A descriptor of the file that lies at `path` now, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _lies_at(path, descriptor):
                return descriptor
        except BlockingIOError as error:
            holder = os.read(descriptor, _DIGITS)
            os.close(descriptor)
            raise Locked(int(holder) if holder.isdigit() else None) from error
        except BaseException:
            os.close(descriptor)
            raise
        # Its holder took the file away between our opening and our locking it: what we hold is no longer anybody's lock.
        os.close(descriptor)


def _lies_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
