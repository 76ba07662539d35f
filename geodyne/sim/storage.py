"""The machine under a simulated node: real files and real SQLite, with fsyncs that take virtual time and crashes that
lose what was never fsynced.

Two things of the node are replaced, both at a seam: the log's syncer (instead of the kernel's completion or a thread, a
timer of the loop), and the state database's background connection (instead of a thread, the loop's own; each statement
comes after a drawn delay, so that checkpoints and exports interleave with other work, in an order the seed decides).
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any
from unittest.mock import patch

from node.storage import sqlite, sqlite_snapshots
from node.storage.disk import PosixDisk, PosixFile
from node.storage.port import DiskFile, Space, StateFailed
from node.storage.schema import PAGE_BYTES
from node.storage.wal import Wal
from node.storage.wal_sync import SyncJob, make_durable

WAL_HEADER_BYTES, WAL_SALTS = 32, slice(16, 24)  # of SQLite's log; a new header marks its reuse from the start
FRAME_HEADER_BYTES, FRAME_SALTS = 24, slice(8, 16)  # of one page in it; those of an earlier use have other salts
WAL_FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
SECTOR_BYTES = 512
TORN_SECTOR_CHANCE = 0.3
FREE_BYTES = 1 << 40


class ProcessDied(BaseException):
    """Raised in the middle of a write: the process is gone, and nothing of it runs any more."""


class DiskTrouble:
    """What is wrong with a machine's disk; it outlasts the processes that meet it."""

    def __init__(self) -> None:
        self.write_error = 0  # errno of all writes
        self.sync_error = 0  # errno of all fsyncs
        self.slow_until = 0.0
        self.writes_left = -1  # until the process dies in the middle of one; negative: it does not
        self.on_death: Callable[[], None] = _nothing
        self.failures = 0  # operations that have failed
        self.delays = 0  # operations that were slow

    @property
    def failing(self) -> bool:
        return bool(self.write_error or self.sync_error)

    def clear(self) -> None:
        self.write_error = self.sync_error = 0
        self.slow_until = 0.0
        self.writes_left = -1

    def fail_write(self) -> None:
        """Raises OSError while the disk takes no writes."""
        if self.write_error:
            self.failures += 1
            raise OSError(self.write_error, os.strerror(self.write_error))

    def dies_now(self) -> bool:
        """Counts one write."""
        if self.writes_left < 0:
            return False
        self.writes_left -= 1
        return self.writes_left < 0


def _nothing() -> None:
    return None


class SimFile:
    """A file of the log that knows how much of it is durable."""

    def __init__(self, disk: SimDisk, path: Path, file: PosixFile, size: int, synced: int) -> None:
        self._disk = disk
        self._file = file
        self.path = path
        self.size = size
        self.synced = synced
        self.given_up = False

    def write(self, data: bytes) -> None:
        trouble = self._disk.trouble
        if trouble.write_error:
            if trouble.write_error == errno.ENOSPC:  # a part still fits
                self._write(data[: self._disk.random.randrange(len(data) + 1)])
            trouble.fail_write()
        if trouble.dies_now():
            self._write(data[: self._disk.random.randrange(len(data) + 1)])
            trouble.on_death()
            raise ProcessDied
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)
        self._disk.saw(data)

    @property
    def descriptor(self) -> int:
        return self._file.descriptor

    def read_at(self, offset: int, length: int) -> bytes:
        return self._file.read_at(offset, length)

    def sync(self) -> None:
        """As kernels have it: what an fsync that failed was to write is given up, and the next one reports success."""
        trouble = self._disk.trouble
        if trouble.sync_error:
            trouble.failures += 1
            self.given_up = True
            raise OSError(trouble.sync_error, os.strerror(trouble.sync_error))
        if not self.given_up:
            self.synced = self.size

    def truncate(self, size: int) -> None:
        self._file.truncate(size)
        self.size = size
        self.synced = min(self.synced, size)

    def close(self) -> None:
        self._file.close()
        self._disk.open_files.pop(self, None)


class SimDisk(PosixDisk):
    """The log's disk of one process. Nothing is really fsynced: the machine that runs the test is not to fail."""

    def __init__(
        self,
        random: Random,
        trouble: DiskTrouble | None = None,
        synced: Mapping[Path, int] | None = None,
        saw: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        """`synced`: how much of the files was durable when the process before this one died; the kernel may still have
        the rest in memory. `saw` is told of what is written."""
        self.random = random
        self.trouble = trouble or DiskTrouble()
        self.saw = saw
        self.open_files: dict[SimFile, None] = {}
        self.files: dict[Path, SimFile] = {}
        self.unlisted: set[Path] = set()  # created, and the directory not synced since
        self.dead = False
        self._synced = synced or {}

    def create(self, path: Path) -> DiskFile:
        self.trouble.fail_write()
        file = super().create(path)
        self.unlisted.add(path)
        return self._track(path, file, 0)

    def open(self, path: Path) -> DiskFile:
        return self._track(path, super().open(path), path.stat().st_size)

    def rename(self, old: Path, new: Path) -> None:
        self.trouble.fail_write()
        super().rename(old, new)
        moved = self.files.pop(old, None)
        if moved is not None:
            moved.path = new
            self.files[new] = moved

    def remove(self, path: Path) -> None:
        if self.trouble.write_error != errno.ENOSPC:
            self.trouble.fail_write()
        super().remove(path)

    def space(self, path: Path) -> Space:
        return Space(0 if self.trouble.write_error == errno.ENOSPC else FREE_BYTES, 2 * FREE_BYTES)

    def _track(self, path: Path, file: DiskFile, size: int) -> SimFile:
        assert isinstance(file, PosixFile)
        known = self.files.get(path)
        # Opened for reading beside the one that is written, or left by the process before.
        synced = known.synced if known is not None else min(size, self._synced.get(path, size))
        tracked = SimFile(self, path, file, size, synced)
        if known is None:
            self.files[path] = tracked
        self.open_files[tracked] = None
        return tracked

    def sync_directory(self, path: Path) -> None:
        if self.trouble.sync_error:
            self.trouble.failures += 1
            raise OSError(self.trouble.sync_error, os.strerror(self.trouble.sync_error))
        self.unlisted = {file for file in self.unlisted if file.parent != path}

    def sync_delay_s(self, now: float) -> float:
        if now < self.trouble.slow_until:
            self.trouble.delays += 1
            return self.random.uniform(0.05, 0.4)
        return self.random.choice((0.0002, 0.0005, 0.001, 0.003, 0.010))

    def durable_sizes(self, copy: Path, original: Path) -> dict[Path, int]:
        """For the process that comes next, on the copy."""
        return {copy / path.relative_to(original): file.synced for path, file in self.files.items()}

    def lose_power(self, copy: Path, original: Path) -> None:
        """In the copy of the data directory, take away from the log what was not durable, or a part of that; of a part,
        the last sector may hold anything."""
        for path, file in self.files.items():
            there = copy / path.relative_to(original)
            if not there.exists():
                continue
            if path in self.unlisted and self.random.random() < 0.5:
                there.unlink()
            elif file.synced < file.size:
                size = self.random.randint(file.synced, file.size)
                os.truncate(there, size)
                if self.random.random() < TORN_SECTOR_CHANCE:
                    _tear(there, max(file.synced, size - SECTOR_BYTES), size)

    def close_all(self) -> None:
        self.dead = True
        for file in list(self.open_files):
            file.close()


def _tear(path: Path, begin: int, end: int) -> None:
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(end - begin))


class _TimedSyncer:
    """Implements node.storage.wal_sync.Syncer on the loop's timers."""

    def __init__(self, disk: SimDisk, landed: Callable[[OSError | None], None]) -> None:
        self._disk = disk
        self._landed = landed
        self._job: SyncJob | None = None

    def submit(self, job: SyncJob) -> None:
        loop = asyncio.get_running_loop()
        self._job = job
        loop.call_later(self._disk.sync_delay_s(loop.time()), self._done)

    def _done(self) -> None:
        job, self._job = self._job, None
        if job is not None and not self._disk.dead:
            self._landed(make_durable(self._disk, job))

    def stop(self) -> OSError | None:
        job, self._job = self._job, None
        return make_durable(self._disk, job) if job is not None else None


class DurableStates:
    """How far the state databases' logs are durable, by path: noted where SQLite fsyncs them."""

    def __init__(self) -> None:
        self._noted: dict[Path, tuple[bytes, int]] = {}
        self.troubles: dict[Path, DiskTrouble] = {}  # by data directory

    def note(self, path: Path) -> None:
        self._noted[path] = _in_use(path)

    def covers(self, path: Path) -> bool:
        """All that has been committed is durable."""
        return self._noted.get(path, (b"", 0)) == _in_use(path)

    def lose_power(self, path: Path, copy: Path, random: Random) -> None:
        header, size = _in_use(copy)
        noted, floor = self._noted.get(path, (b"", 0))
        if size:
            os.truncate(_log_of(copy), random.randint(min(size, floor if noted == header else 0), size))


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _in_use(path: Path) -> tuple[bytes, int]:
    """The header of a database's log, and how much of the log is in use: what is behind is left from an earlier use."""
    log = _log_of(path)
    if not log.exists():
        return b"", 0
    with log.open("rb", buffering=0) as file:
        header = file.read(WAL_HEADER_BYTES)

        def stale(frame: int) -> bool:
            place = os.pread(file.fileno(), FRAME_HEADER_BYTES, WAL_HEADER_BYTES + frame * WAL_FRAME_BYTES)
            return place[FRAME_SALTS] != header[WAL_SALTS]

        frames = range((log.stat().st_size - len(header)) // WAL_FRAME_BYTES)
        used = bisect_left(frames, True, key=stale)
    return header, len(header) + used * WAL_FRAME_BYTES


def copy_directory(source: Path, target: Path) -> None:
    """What a dead process leaves behind: all that it wrote. SQLite's shared memory is rebuilt at the next opening."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm"))


class _Statement:
    """What `execute` of an aiosqlite connection returns: to be awaited, or entered."""

    def __init__(self, connection: InlineConnection, statement: str, arguments: Sequence[Any]) -> None:
        self._connection = connection
        self._statement = statement
        self._arguments = arguments
        self._cursor: InlineCursor | None = None

    def __await__(self) -> Generator[Any, Any, InlineCursor]:
        return self._connection.run(self._statement, self._arguments).__await__()

    async def __aenter__(self) -> InlineCursor:
        self._cursor = await self
        return self._cursor

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._cursor is not None
        self._cursor.close()


class InlineCursor:
    def __init__(self, connection: InlineConnection, cursor: sqlite3.Cursor) -> None:
        self._connection = connection
        self._cursor = cursor

    async def fetchone(self) -> Any:
        return self._cursor.fetchone()

    async def fetchmany(self, count: int) -> list[Any]:
        await self._connection.pause()
        return self._cursor.fetchmany(count)

    async def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    def close(self) -> None:
        self._cursor.close()


class InlineConnection:
    """The part of aiosqlite.Connection that the node uses."""

    opened: dict[InlineConnection, None] = {}  # noqa: RUF012 - bounded by the simulation, which closes what a crash left

    def __init__(self, path: Path, durable: DurableStates, random: Random) -> None:
        self.path = path
        self._durable = durable
        self._random = random
        self._database = sqlite3.connect(path, isolation_level=None)
        for pragma in ("synchronous=NORMAL", "wal_autocheckpoint=0"):
            self._database.execute(f"PRAGMA {pragma}").close()
        self.opened[self] = None

    async def pause(self) -> None:
        await asyncio.sleep(self._random.uniform(0.0, 0.02))

    def execute(self, statement: str, arguments: Sequence[Any] = ()) -> _Statement:
        return _Statement(self, statement, arguments)

    async def run(self, statement: str, arguments: Sequence[Any]) -> InlineCursor:
        await self.pause()
        cursor = InlineCursor(self, self._database.execute(statement, arguments))
        if "wal_checkpoint" in statement:
            self._durable.note(self.path)
        return cursor

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        if self in self.opened:
            del self.opened[self]
            self._database.close()


@contextmanager
def simulated_storage(random: Random) -> Iterator[DurableStates]:
    """While it lasts, nodes use the simulated syncer and background connection. Yields what the crashes need."""
    durable = DurableStates()

    async def connect(path: Path) -> InlineConnection:
        return InlineConnection(path, durable, random)

    def choose_syncer(log: Wal, settings: object) -> _TimedSyncer:
        disk = log._disk
        assert isinstance(disk, SimDisk)
        return _TimedSyncer(disk, log._landed)

    real_transaction = sqlite.StateStore._transaction

    def transaction(store: sqlite.StateStore) -> AbstractContextManager[None]:
        trouble = durable.troubles.get(store.path.parent)
        if trouble is not None and trouble.write_error:
            trouble.failures += 1
            raise StateFailed(f"{store.path}: {os.strerror(trouble.write_error)}")
        return real_transaction(store)

    real_synchronous = sqlite.StateStore._synchronous
    real_here = sqlite.StateStore._checkpoint_here

    @contextmanager
    def synchronous(store: sqlite.StateStore) -> Iterator[None]:
        with real_synchronous(store):
            yield
        durable.note(store.path)

    def checkpoint_here(store: sqlite.StateStore) -> bool:
        done = real_here(store)
        durable.note(store.path)
        return done

    patches: list[AbstractContextManager[Any]] = [
        patch.object(Wal, "_choose_syncer", choose_syncer),
        patch.object(sqlite, "connect_background", connect),
        patch.object(sqlite_snapshots, "connect_background", connect),
        patch.object(sqlite.StateStore, "_transaction", transaction),
        patch.object(sqlite.StateStore, "_synchronous", synchronous),
        patch.object(sqlite.StateStore, "_checkpoint_here", checkpoint_here),
    ]
    for one in patches:
        one.__enter__()
    try:
        yield durable
    finally:
        for one in reversed(patches):
            one.__exit__(None, None, None)
        for connection in list(InlineConnection.opened):
            connection.close_now()
