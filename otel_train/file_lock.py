"""One of several processes does a thing: whoever holds the lock of a file."""

import fcntl
import os
import weakref
from pathlib import Path


class FileLock:
    """Held until ``release`` or the end of the process, however it ends. A forked child does not keep it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        _held.add(self)

    def acquire(self) -> bool:
        """Take it; False when another process has it. Where no lock can be had (a read-only disk) none is needed."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:  # a file system without locks
            os.close(descriptor)
            return True
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Close the file without letting go of a lock that another process holds with it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_held):
        lock.forget()


# A lock belongs to the open file, which a fork shares: an orphaned worker would hold it after the run died.
os.register_at_fork(after_in_child=_after_fork_in_child)
