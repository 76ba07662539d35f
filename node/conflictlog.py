"""The conflicts that a node keeps for tables that ask for it: a journal a table, in the data directory, for operators.

Every replica of a partition keeps what its log says (node.feed.conflicts), so what one node loses others have; whoever
asks puts the answers of all nodes together. A journal is two files at most, the older of which goes when the newer is
full. It is no part of the state: nothing waits for it, a crash may lose its last moments, and a disk that does not take
it costs the records, which are counted, and nothing else.

A line is the CRC-32 of its JSON object, a blank, and the object:
    k key, t when it was seen (µs), p perhaps, l and w: what lost and what won, [version, image or null, bytes of it]
with key and versions in hexadecimal digits. A line that is not so (a torn end, damage) is left out and counted.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from geodyne.catalog import TableRecord, TableStatus
from geodyne.model import version as versions
from geodyne.model.keys import readable_key
from node.catalog.machine import Catalog
from node.feed.conflicts import Conflict, Side
from node.metrics import NodeMetrics
from node.storage.disk import DIRECTORY_MODE, FILE_MODE

logger = logging.getLogger("geodyne.node.conflicts")

FILE_BYTES_MAX = 8 * 1024 * 1024  # of each of a table's two files; the record that reaches it still belongs to it
BUFFER_BYTES_MAX = 8 * 1024 * 1024  # of records that wait for the disk, of all tables; what comes beyond is dropped
PAGE_RECORDS_MAX = 200  # of one answer: at most some 6 MB, where every byte of the images had to be escaped
REST_S = 0.05  # between two writes: what comes meanwhile goes together
RECORD_OVERHEAD_BYTES = 200
WARN_AGAIN_S = 60.0

At = tuple[int, str, str, str]  # when a conflict was seen, its key, what lost, what won: names it, and orders them


class Page(NamedTuple):
    """`records` newest first; `damaged`: lines that could not be read."""

    records: list[tuple[At, dict[str, Any]]]
    more: bool
    damaged: int


class ConflictLog:
    """Of one node. All methods are called on the loop's thread; files are only touched beside it."""

    def __init__(self, folder: Path, node_id: str, metrics: NodeMetrics, catalog: Callable[[], Catalog]) -> None:
        """`catalog()`: this node's copy; tables that it no longer has lose their journals."""
        self._journals = Journals(folder)
        self._node_id = node_id
        self._metrics = metrics
        self._catalog = catalog
        self._owners: tuple[int, Mapping[int, TableRecord]] = (-1, {})
        self._buffer: list[tuple[str, Conflict]] = []
        self._buffered_bytes = 0
        self._going: set[str] = set()  # tables whose journals are to go, once what waits is written
        self._task: asyncio.Task[None] | None = None
        self._files = asyncio.Lock()
        self._rounds = self._rounds_done = 0
        self._round_over = asyncio.Event()
        self._warned_s = -WARN_AGAIN_S
        self._swept_revision = 0
        self.suspended: Callable[[], bool] = lambda: False  # the disk is short of space

    def note(self, partition: int, conflicts: Sequence[Conflict], leading: bool) -> None:
        """What applying the log of a partition said. The leader counts."""
        if leading:
            for conflict in conflicts:
                pair = versions.region(conflict.lost.version), versions.region(conflict.won.version)
                self._metrics.conflicts.labels(*pair).inc()
        table = self._owner(partition)
        if table is None:
            return
        for conflict in conflicts:
            size = _weight(conflict)
            if self._buffered_bytes + size > BUFFER_BYTES_MAX or self.suspended():
                self._metrics.conflicts_dropped.inc()
                continue
            self._buffered_bytes += size
            self._buffer.append((table.id, conflict))
        self._work_soon()

    def sweep(self) -> None:
        """Now and then: journals of tables that are gone go too."""
        catalog = self._catalog()
        if catalog.revision != self._swept_revision and catalog.revision:
            self._swept_revision = catalog.revision
            kept = {table.id for table in catalog.tables.values() if table.status is not TableStatus.DELETING}
            self._going |= self._journals.tables - kept
            self._work_soon()

    async def close(self) -> None:
        """What was noted is on its way to the disk when this returns."""
        while (task := self._task) is not None:
            await asyncio.wait({task})

    async def administer(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"result"} or {"error"} of {"operation", "table"}:

        show   {since_us, before: null or what an answer called `next`, limit} -> {node, records, next, damaged}, the
               newest records first; `at` names one, the same on all nodes
        purge  {} -> {node}: the table's journal here goes
        """
        table = self._catalog().tables.get(str(request.get("table")))
        if table is None:
            return {"error": "there is no such table"}
        try:
            match request.get("operation"):
                case "show":
                    return {"result": await self._show(table, request)}
                case "purge":
                    self._going.add(table.id)
                    self._work_soon()
                    await self._settled()
                    return {"result": {"node": self._node_id}}
        except OSError as error:
            return {"error": f"{self._node_id}: {error.strerror or error}"}
        except (LookupError, TypeError, ValueError) as error:
            return {"error": f"not a request: {error}"}
        return {"error": "the operation must be show or purge"}

    async def _show(self, table: TableRecord, request: Mapping[str, Any]) -> dict[str, Any]:
        since_us, before = int(request.get("since_us") or 0), request.get("before")
        limit = min(max(int(request.get("limit") or PAGE_RECORDS_MAX), 1), PAGE_RECORDS_MAX)
        last = (int(before[0]), str(before[1]), str(before[2]), str(before[3])) if before else None
        await self._settled()
        async with self._files:
            page = await asyncio.to_thread(self._journals.read, table.id, since_us, last, limit)
        return {
            "node": self._node_id,
            "records": [_described(table, at, record) for at, record in page.records],
            "next": page.records[-1][0] if page.more else None,
            "damaged": page.damaged,
        }

    # --- beside the loop's thread

    def _work_soon(self) -> None:
        if (self._buffer or self._going) and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _settled(self) -> None:
        """Until what was noted, or was to go, before this call is on its way to the disk, or gone. What comes meanwhile
        is not waited for: on a busy table that would never end."""
        round_ = self._rounds + 1 if self._buffer or self._going else self._rounds
        while self._rounds_done < round_ and self._task is not None:
            await self._round_over.wait()

    async def _work(self) -> None:
        try:
            while self._buffer or self._going:
                self._rounds += 1
                await self._work_once()
                self._rounds_done = self._rounds
                self._wake_waiters()
                await asyncio.sleep(REST_S)
        finally:
            self._task = None
            self._wake_waiters()

    async def _work_once(self) -> None:
        buffer, self._buffer, self._buffered_bytes = self._buffer, [], 0
        going, self._going = self._going, set()
        async with self._files:
            written = await asyncio.to_thread(self._journals.write, buffer)
            try:
                await asyncio.to_thread(self._journals.drop, going)
            except OSError as error:
                logger.warning("conflict log not removed", extra={"reason": str(error)})
        if written < len(buffer):
            self._not_written(len(buffer) - written)

    def _wake_waiters(self) -> None:
        self._round_over.set()
        self._round_over = asyncio.Event()

    def _not_written(self, count: int) -> None:
        self._metrics.conflicts_dropped.inc(count)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._warned_s >= WARN_AGAIN_S:
            self._warned_s = now_s
            logger.warning("conflicts not written", extra={"records": count, "reason": self._journals.trouble})

    def _owner(self, partition: int) -> TableRecord | None:
        catalog = self._catalog()
        if self._owners[0] != catalog.revision:
            self._owners = catalog.revision, catalog.partitions()
        return self._owners[1].get(partition)


class Journals:
    """The files. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tables = {path.name.split(".")[0] for path in folder.iterdir()} if folder.is_dir() else set()
        self.trouble = ""  # why something could not be written

    def write(self, records: Sequence[tuple[str, Conflict]]) -> int:
        """Append to the tables' files; returns how many could be."""
        by_table: dict[str, list[bytes]] = {}
        for table_id, conflict in records:
            by_table.setdefault(table_id, []).append(encoded(conflict))
        written = 0
        for table_id, lines in by_table.items():
            try:
                self._append(table_id, lines)
                written += len(lines)
            except OSError as error:
                self.trouble = error.strerror or str(error)
        return written

    def read(self, table_id: str, since_us: int, before: At | None, limit: int) -> Page:
        """The newest of a table's records, seen at `since_us` or later and ordered before `before`. Raises OSError."""
        damaged = 0
        found: list[tuple[At, dict[str, Any]]] = []  # a heap of the newest
        known: set[At] = set()
        more = False
        for record in self._records(table_id):
            if record is None:
                damaged += 1
                continue
            at = record["t"], record["k"], record["l"][0], record["w"][0]
            if at[0] < since_us or (before is not None and at >= before) or at in known:
                continue  # written again after a crash, when the log was applied again
            known.add(at)
            if len(found) < limit:
                heapq.heappush(found, (at, record))
            else:
                more = True
                known.discard(heapq.heappushpop(found, (at, record))[0])
        return Page(sorted(found, key=lambda one: one[0], reverse=True), more, damaged)

    def drop(self, tables: set[str]) -> None:
        """Raises OSError."""
        for table_id in tables:
            for path in self._paths(table_id):
                path.unlink(missing_ok=True)
            self.tables = self.tables - {table_id}

    def _append(self, table_id: str, lines: Sequence[bytes]) -> None:
        """All lines or an error; a file that has reached its bound becomes the older one."""
        self._folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        self.tables = self.tables | {table_id}
        older, newer = self._paths(table_id)
        left = list(lines)
        while left:
            descriptor = _open(newer, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            try:
                size = os.fstat(descriptor).st_size
                if size >= FILE_BYTES_MAX:
                    os.replace(newer, older)
                    continue
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                count = _fitting(left, FILE_BYTES_MAX - size)
                _write(descriptor, (b"\n" if torn else b"") + b"".join(left[:count]))
                del left[:count]
            finally:
                os.close(descriptor)

    def _records(self, table_id: str) -> Iterator[dict[str, Any] | None]:
        """None for a line that is damaged."""
        for path in self._paths(table_id):
            try:
                with open(path, "rb", opener=_open) as file:
                    yield from (decoded(line) for line in file if line != b"\n")
            except FileNotFoundError:
                continue

    def _paths(self, table_id: str) -> tuple[Path, Path]:
        return self._folder / f"{table_id}.older.log", self._folder / f"{table_id}.log"


def encoded(conflict: Conflict) -> bytes:
    """The line of a conflict."""
    body = orjson.dumps(
        {
            "k": conflict.key.hex(),
            "t": conflict.seen_us,
            "p": conflict.perhaps,
            "l": _side(conflict.lost),
            "w": _side(conflict.won),
        }
    )
    return b"%08x %b\n" % (crc32(body), body)


def decoded(line: bytes) -> dict[str, Any] | None:
    """The object of a line; None where it is damaged."""
    body = line[9:-1]
    if line[-1:] != b"\n" or line[:9] != b"%08x " % crc32(body):
        return None
    record: dict[str, Any] = orjson.loads(body)
    return record


def _side(side: Side) -> list[Any]:
    text = None if side.image is None else side.image.decode("utf-8", "ignore")  # it may be cut within a character
    return [side.version.hex(), text, side.image_bytes]


def _weight(conflict: Conflict) -> int:
    images = len(conflict.lost.image or b"") + len(conflict.won.image or b"")
    return images + len(conflict.key) + RECORD_OVERHEAD_BYTES


def _fitting(lines: Sequence[bytes], room: int) -> int:
    """How many of the lines are written before the bound is reached, at least one."""
    size = 0
    for count, line in enumerate(lines):
        if size >= room:
            return count
        size += len(line)
    return len(lines)


def _open(path: str | Path, flags: int) -> int:
    """A file that this node made. What somebody put in its place, to be written elsewhere or to be waited for, is not
    used. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file of the conflict log")
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def _described(table: TableRecord, at: At, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": at,
        "key": readable_key(table.key_schema, bytes.fromhex(record["k"])),
        "seen_us": record["t"],
        "perhaps": record["p"],
        "lost": _side_described(record["l"]),
        "won": _side_described(record["w"]),
    }


def _side_described(side: Sequence[Any]) -> dict[str, Any]:
    version = bytes.fromhex(side[0])
    time_us, region = versions.time_us(version), versions.region(version)
    return {"region": region, "time_us": time_us, "deleted": side[1] is None, "image": side[1], "image_bytes": side[2]}
