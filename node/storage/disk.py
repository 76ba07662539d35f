"""The real disk: thin calls to the operating system, fsync included."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from node.storage.port import DiskFile, Space

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


def sync_file(descriptor: int) -> None:
    """Make a file's data (and the size needed to read it) durable.

    macOS's fsync stops at the drive's cache; F_FULLFSYNC is its durable form (fsync(2) of macOS).
    """
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


class PosixFile:
    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def write(self, data: bytes) -> None:
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, memoryview(data)[written:])

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def sync(self) -> None:
        sync_file(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


class PosixDisk:
    """The Disk port on a POSIX file system."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)

    def names(self, directory: Path) -> list[str]:
        return os.listdir(directory)

    def create(self, path: Path) -> DiskFile:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        return PosixFile(os.open(path, flags, FILE_MODE))

    def open(self, path: Path) -> DiskFile:
        return PosixFile(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def space(self, path: Path) -> Space:
        found = os.statvfs(path)
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
