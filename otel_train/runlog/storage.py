"""Where a rank's log lives: a folder, or anonymous memory when no folder can be had."""

import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Storage(Protocol):
    """A flat set of named files. A reader and a writer may use it at the same time."""

    @property
    def location(self) -> str:
        """Where the files are, for a person to read."""
        ...

    def create_mapped(self, name: str, size: int) -> mmap.mmap:
        """A new file of ``size`` zero bytes, all of them allocated, mapped for writing. Raises ``OSError``."""
        ...

    def open_mapped(self, name: str) -> mmap.mmap:
        """An existing file, mapped for reading. Raises ``FileNotFoundError``."""
        ...

    def open_append(self, name: str) -> Callable[[bytes], None]:
        """A function that appends bytes to the file in one write. Raises ``OSError``."""
        ...

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        """The file's bytes from ``offset``. Raises ``FileNotFoundError``."""
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Write the whole file; a reader sees the old or the new one."""
        ...

    def remove(self, name: str) -> None:
        """Remove the file, if it is there."""
        ...

    def names(self) -> list[str]:
        """All file names, sorted."""
        ...


class Folder:
    """Files in a directory, which must exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = str(path)

    def create_mapped(self, name: str, size: int) -> mmap.mmap:
        descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            _allocate(descriptor, size)
            return mmap.mmap(descriptor, size)
        except OSError:
            os.unlink(self.path / name)
            raise
        finally:
            os.close(descriptor)

    def open_mapped(self, name: str) -> mmap.mmap:
        with open(self.path / name, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def open_append(self, name: str) -> Callable[[bytes], None]:
        return _Appender(self.path / name)

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        with open(self.path / name, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def replace(self, name: str, content: bytes) -> None:
        temporary = self.path / f".{name}.{os.getpid()}"
        temporary.write_bytes(content)
        os.replace(temporary, self.path / name)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        try:
            return sorted(entry for entry in os.listdir(self.path) if not entry.startswith("."))
        except FileNotFoundError:
            return []


class _Appender:
    """One ``write`` a call to a file opened for appending: lines of several threads do not mix."""

    _descriptor: int | None = None

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def __call__(self, content: bytes) -> None:
        assert self._descriptor is not None
        written = os.write(self._descriptor, content)
        if written != len(content):
            raise OSError(f"only {written} of {len(content)} bytes were written")

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _allocate(descriptor: int, size: int) -> None:
    """Give the file real blocks: a store into a hole of a full disk is a SIGBUS, which would kill the training."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS has none
        os.write(descriptor, bytes(size))


class Memory:
    """The same files in anonymous memory. They end with the process."""

    location = "memory"

    def __init__(self) -> None:
        self._mapped: dict[str, mmap.mmap] = {}
        self._plain: dict[str, bytearray] = {}
        self._lock = threading.Lock()

    def create_mapped(self, name: str, size: int) -> mmap.mmap:
        self._mapped[name] = mapped = mmap.mmap(-1, size)
        return mapped

    def open_mapped(self, name: str) -> mmap.mmap:
        try:
            return self._mapped[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def open_append(self, name: str) -> Callable[[bytes], None]:
        content = self._plain.setdefault(name, bytearray())

        def append(line: bytes) -> None:
            with self._lock:
                content.extend(line)

        return append

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        with self._lock:
            try:
                content = self._plain[name]
            except KeyError:
                raise FileNotFoundError(name) from None
            return bytes(content[offset:] if length < 0 else content[offset : offset + length])

    def replace(self, name: str, content: bytes) -> None:
        with self._lock:
            self._plain[name] = bytearray(content)

    def remove(self, name: str) -> None:
        self._mapped.pop(name, None)
        self._plain.pop(name, None)

    def names(self) -> list[str]:
        return sorted([*self._mapped, *self._plain])
