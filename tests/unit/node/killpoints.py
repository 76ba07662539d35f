"""Every write of a node's files, its log's and SQLite's, as a point at which the process could die.

Before each write the data directory is copied, as a dead process leaves it; of some writes a second copy has the first
half. SQLite's writes are seen by putting functions of our own into the table of methods of its default VFS
(sqlite.org/vfs.html), where its library can be reached.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch

from node.storage.disk import PosixDisk, PosixFile

Tear = Callable[[Path], None]  # does a part of the write to the copied directory
Watch = Callable[[str, Tear | None], None]  # what is about to be written, and how to do half of it

_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_VFS_OPEN = 5 * _POINTER  # after iVersion and szOsFile and mxPathname (12 bytes, padded), pNext, zName, pAppData
_IO_METHODS = 19  # of version 3, after iVersion: pointers
_IO_WRITE, _IO_TRUNCATE = 3, 4


class NoLibrary(Exception):
    """SQLite's library cannot be reached from here."""


def _library() -> Any:
    name = ctypes.util.find_library("sqlite3")
    if name is None or _POINTER != 8:
        raise NoLibrary("libsqlite3 is not to be found")
    library = ctypes.CDLL(name)
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    return library


@contextmanager
def _watched_sqlite(directory: Path, watch: Watch) -> Iterator[None]:
    vfs = _library().sqlite3_vfs_find(None)
    slot = ctypes.c_void_p.from_address(vfs + _VFS_OPEN)
    original = slot.value
    assert original is not None
    real_open = _OPEN(original)
    paths: dict[int, Path] = {}
    tables: dict[int, Any] = {}
    kept: list[Any] = []

    def table_for(methods: int) -> Any:
        if methods not in tables:
            copy = (ctypes.c_void_p * (1 + _IO_METHODS)).from_buffer_copy(
                ctypes.string_at(methods, (1 + _IO_METHODS) * _POINTER)
            )
            real_write, real_truncate = _WRITE(copy[_IO_WRITE] or 0), _TRUNCATE(copy[_IO_TRUNCATE] or 0)

            def write(file: int, data: int, length: int, offset: int) -> int:
                path = paths.get(file)
                if path is not None:
                    watch(f"{path.name} {length} at {offset}", _tearing(path, directory, data, length, offset))
                return int(real_write(file, data, length, offset))

            def truncate(file: int, size: int) -> int:
                path = paths.get(file)
                if path is not None:
                    watch(f"{path.name} to {size}", None)
                return int(real_truncate(file, size))

            own = _WRITE(write), _TRUNCATE(truncate)
            kept.extend(own)
            copy[_IO_WRITE] = ctypes.cast(own[0], ctypes.c_void_p).value
            copy[_IO_TRUNCATE] = ctypes.cast(own[1], ctypes.c_void_p).value
            tables[methods] = copy
        return tables[methods]

    def open_file(vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        # SQLite keeps the pointer that it is given for as long as the file is open: a copy of the name would not do.
        result = int(real_open(vfs, name, file, flags, out))
        path = Path(os.fsdecode(ctypes.string_at(name))) if name else None
        if result == 0 and path is not None and directory in path.parents:
            methods = ctypes.c_void_p.from_address(file)
            paths[file] = path
            methods.value = ctypes.addressof(table_for(methods.value or 0))
        else:
            paths.pop(file, None)
        return result

    own_open = _OPEN(open_file)
    slot.value = ctypes.cast(own_open, ctypes.c_void_p).value
    try:
        yield
    finally:
        slot.value = original


def _tearing(path: Path, directory: Path, data: int, length: int, offset: int) -> Tear:
    def tear(copy: Path) -> None:
        half = ctypes.string_at(data, length // 2)
        with (copy / path.relative_to(directory)).open("r+b") as file:
            file.seek(offset)
            file.write(half)

    return tear


@contextmanager
def _watched_disk(directory: Path, watch: Watch) -> Iterator[None]:
    real_write, real_truncate = PosixFile.write, PosixFile.truncate

    def write(file: PosixFile, data: bytes) -> None:
        path = Path(f"/proc/self/fd/{file.descriptor}").resolve()

        def tear(copy: Path) -> None:
            with (copy / path.relative_to(directory)).open("ab") as torn:
                torn.write(data[: len(data) // 2])

        watch(f"{path.name} {len(data)}", tear if directory in path.parents else None)
        real_write(file, data)

    def truncate(file: PosixFile, size: int) -> None:
        watch(f"truncate {size}", None)
        real_truncate(file, size)

    def before(name: str) -> Any:
        real = getattr(PosixDisk, name)

        def method(disk: PosixDisk, *paths: Path) -> Any:
            watch(f"{name} {paths[0].name}", None)
            return real(disk, *paths)

        return patch.object(PosixDisk, name, method)

    with (
        patch.object(PosixFile, "write", write),
        patch.object(PosixFile, "truncate", truncate),
        before("create"),
        before("rename"),
        before("remove"),
    ):
        yield


class KillPoints:
    """Copies of a data directory, one for each `every`-th write while `watching` and one more for each `torn_every`-th
    of those."""

    def __init__(self, directory: Path, copies: Path, torn_every: int, every: int = 1) -> None:
        self._every = every
        self._directory = directory
        self._copies = copies
        self._torn_every = torn_every
        self._one_at_a_time = Lock()
        self.count = 0
        self.points: list[tuple[str, Path, object]] = []
        self.mark: Callable[[], object] = _nothing  # what is known at a point, kept with it

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises NoLibrary."""
        with _watched_sqlite(self._directory, self._watch), _watched_disk(self._directory, self._watch):
            yield

    def _watch(self, what: str, tear: Tear | None) -> None:
        with self._one_at_a_time:  # a checkpoint writes in a thread of its own
            self.count += 1
            if self.count % self._every:
                return
            self._copy(what)
            if tear is not None and self.count // self._every % self._torn_every == 0:
                tear(self._copy(f"half of {what}"))

    def _copy(self, what: str) -> Path:
        target = self._copies / f"{len(self.points)}"
        shutil.copytree(self._directory, target, ignore=shutil.ignore_patterns("*-shm"))
        self.points.append((what, target, self.mark()))
        return target


def _nothing() -> object:
    return None
