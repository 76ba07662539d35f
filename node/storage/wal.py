"""The node's log: entries and hard states of all groups in one sequence of segment files, one fsync for all.

What is appended is buffered; `sync` says when everything appended before it is durable.  One batch is on its way to
the disk at a time: written by the loop's thread (a copy into the kernel) and fsynced beside it.  What is appended
meanwhile forms the next batch.

Order obligations:
- a segment is created only when the previous one is durable to its end, and begins with all groups' facts;
- a segment is deleted only after a batch that was written later than the records that made it needless is durable;
- after the first failed write or fsync nothing more is written, no callback runs, and `on_error` is told once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from geodyne.peermessages import Entry
from node.storage import wal_format as fmt
from node.storage.disk import PosixDisk
from node.storage.port import Disk, Recovered, StorageError, WalFailed
from node.storage.wal_index import GroupIndex
from node.storage.wal_recovery import RecoveredLog, recover, segment_name
from node.storage.wal_sync import KernelSyncer, Syncer, SyncJob, ThreadSyncer, make_durable

SEGMENT_BYTES = 16 << 20
SEALED_SEGMENTS_MAX = 4  # beyond, the log of a group that pins the oldest segment is written anew
RELOCATED_BYTES_MAX = 2 << 20  # at one roll of segments, so that a loop turn stays short
RECOVERED_BYTES_MAX = 2 << 30  # of entries that a start loads
PENDING_BYTES_MAX = 32 << 20  # appended and not yet written: beyond, the node must refuse writes


@dataclass(frozen=True, slots=True)
class WalSettings:
    """`inline`: fsync in the calling thread and call back before `sync` returns. Otherwise the kernel reports when
    it is done, or (not `kernel`, or not on this machine) a thread waits for it: see node.storage.wal_sync."""

    cluster_id: str
    process_id: str
    segment_bytes: int = SEGMENT_BYTES
    sealed_segments_max: int = SEALED_SEGMENTS_MAX
    relocated_bytes_max: int = RELOCATED_BYTES_MAX
    recovered_bytes_max: int = RECOVERED_BYTES_MAX
    inline: bool = False
    kernel: bool = True
    nonce: Callable[[], bytes] = lambda: os.urandom(fmt.NONCE_BYTES)


class _Batch:
    """What is appended until the batch before it is durable. `segment` is where it will lie, from `start`."""

    __slots__ = ("creates", "nonce", "pieces", "segment", "size", "start")

    def __init__(self, segment: int, start: int, creates: bool, nonce: bytes) -> None:
        self.segment = segment
        self.start = start
        self.creates = creates
        self.nonce = nonce
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)


class _Flight(NamedTuple):
    """A batch that has been written and is being fsynced."""

    job: SyncJob
    dones: list[Callable[[], None]]
    deletable: list[int]


class Wal:
    """The log. All methods belong to one thread: the loop's."""

    def __init__(
        self,
        directory: Path,
        settings: WalSettings,
        disk: Disk,
        log: RecoveredLog,
        on_error: Callable[[OSError], None] | None,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._disk = disk
        self._identity = fmt.identity_of(settings.cluster_id, settings.process_id)
        self._index = log.live
        self._sizes = log.sizes
        self._file = log.last
        self._number = log.last_number  # of the newest segment, the open batch's included
        self._nonce = log.nonce
        self._end = log.sizes.get(log.last_number, 0)
        self._on_error = on_error
        self._failure: OSError | None = None
        self._closed = False
        self._batch: _Batch | None = None
        self._waiting: list[Callable[[], None]] = []
        self._flight: _Flight | None = None
        self._settling = False
        self._marked = False  # nothing but a mark has been written behind the last record
        self._syncer = self._choose_syncer(settings)
        self.syncs = 0

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        settings: WalSettings,
        disk: Disk | None = None,
        on_error: Callable[[OSError], None] | None = None,
    ) -> tuple[Wal, Recovered]:
        """Make the directory or recover what it holds. Raises WalCorrupt, WrongCluster, WrongFormat, LogTooLarge,
        OSError."""
        disk = disk or PosixDisk()
        path = Path(directory).absolute()
        disk.make_directory(path)
        disk.sync_directory(path.parent)
        identity = fmt.identity_of(settings.cluster_id, settings.process_id)
        log = recover(disk, path, identity, settings.recovered_bytes_max)
        return cls(path, settings, disk, log, on_error), log.recovered

    # --- what the log holds -------------------------------------------------------------------------------

    def append(self, group: int, entries: Sequence[Entry]) -> None:
        """Append, after truncating the group's log from the first entry's index. Raises ValueError when that would
        leave a gap or touch compacted entries, WalFailed when the log is unusable."""
        if not entries:
            return
        batch = self._open_batch()
        log = self._index.group(group)
        first = entries[0].index
        if not log.offset_index < first <= log.last_index + 1:
            raise ValueError(f"entry {first} of group {group} is outside {log.offset_index + 1}..{log.last_index + 1}")
        if first <= log.last_index:
            self._index.truncate(log, first)
        self._add_entries(batch, group, log, entries)

    def set_hard_state(self, group: int, term: int, vote: str) -> None:
        batch = self._open_batch()
        log = self._index.group(group)
        log.term, log.vote = term, vote
        batch.add(fmt.encode_hard_state(group, term, vote))

    def reset(self, group: int, index: int, term: int) -> None:
        """The group's log is empty and goes on after `index`: a snapshot was installed, and is durable already."""
        batch = self._open_batch()
        self._index.clear(self._index.group(group), index, term)
        batch.add(fmt.encode_position(fmt.RESET, group, index, term))

    def destroy(self, group: int) -> None:
        """Forget a group. Its number must never be used again."""
        if group in self._index.groups:
            self._open_batch().add(fmt.encode_record(fmt.DESTROY, group))
            self._index.destroy(group)

    def compact(self, group: int, through_index: int, term: int) -> None:
        """Entries through the index are not needed any more. The caller must know that a completed checkpoint of
        the state covers them. Raises ValueError beyond the log's end."""
        log = self._index.group(group)
        if through_index <= log.offset_index:
            return
        if through_index > log.last_index:
            raise ValueError(f"group {group} ends at {log.last_index}, before {through_index}")
        self._open_batch().add(fmt.encode_position(fmt.OFFSET, group, through_index, term))
        if self._index.compact(log, through_index, term):
            self._launch_if_idle()  # an idle node gives back its disk space too

    # --- durability ---------------------------------------------------------------------------------------

    def sync(self, done: Callable[[], None]) -> None:
        """Call `done` on the loop's thread once everything appended so far is durable; calls keep their order.
        It may be called before this returns (inline, or nothing to wait for). Raises WalFailed."""
        self._check()
        if self._batch is not None:
            self._waiting.append(done)
            self._launch_if_idle()
        elif self._flight is not None:
            self._flight.dones.append(done)
        else:
            done()

    @property
    def pending_bytes(self) -> int:
        """Appended and not yet written."""
        return self._batch.size if self._batch else 0

    @property
    def overloaded(self) -> bool:
        """The disk does not keep up: refuse what would append more."""
        return self.pending_bytes > PENDING_BYTES_MAX

    @property
    def bytes_on_disk(self) -> int:
        return sum(self._sizes.values())

    @property
    def segments(self) -> int:
        return len(self._sizes)

    def mark_end(self) -> None:
        """While nothing else is written: say behind the newest batch that it is durable, so that damage in it is not
        taken for a torn write. Does nothing where that has been said already."""
        idle = self._batch is None and self._flight is None and not self._closed and self._failure is None
        if idle and self._number and not self._marked and self._end < self._settings.segment_bytes:
            self._batch = self._new_batch()
            self._launch_if_idle()

    def discard(self) -> None:
        """Close a log that nothing was begun with, and write nothing more."""
        self._closed = True
        if self._syncer is not None:
            self._syncer.stop()
        if self._file is not None:
            self._file.close()

    def close(self) -> None:
        """Write and fsync what is left, call the remaining callbacks (they may not append), stop the thread."""
        if self._closed:
            return
        self._closed = True
        if self._syncer is not None:
            syncer, self._syncer = self._syncer, None
            error = syncer.stop()  # returns when the flight has been fsynced
            if self._flight is not None:
                self._settle(error)
        # Two batches: the mark that begins the second one says that the first is durable.
        for _ in range(2):
            if self._failure is None:
                self._batch = self._batch or self._new_batch()
                self._launch()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _choose_syncer(self, settings: WalSettings) -> Syncer | None:
        if settings.inline:
            return None
        kernel = KernelSyncer.start(self._disk, self._landed) if settings.kernel else None
        return kernel or ThreadSyncer(self._disk, self._landed)

    # --- batches ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._failure is not None:
            raise WalFailed(f"the log in {self._directory} failed: {self._failure}") from self._failure
        if self._closed:
            raise StorageError(f"the log in {self._directory} is closed")

    def _open_batch(self) -> _Batch:
        if self._batch is None:
            self._check()
            self._batch = self._new_batch()
        return self._batch

    def _new_batch(self) -> _Batch:
        """Everything written so far is durable before this batch is written; so its first record can say so."""
        if self._number and self._end < self._settings.segment_bytes:
            batch = _Batch(self._number, self._end, False, self._nonce)
            batch.add(fmt.encode_mark(self._nonce, self._end))
            return batch
        oldest = min(self._sizes, default=0)
        self._number += 1
        self._nonce = self._settings.nonce()
        batch = _Batch(self._number, 0, True, self._nonce)
        batch.add(fmt.encode_header(self._number, self._nonce, self._identity))
        batch.add(fmt.encode_groups(self._index.facts()))
        if len(self._sizes) > self._settings.sealed_segments_max:
            try:
                self._relocate(batch, oldest)
            except OSError as error:
                self._fail(error)
                self._check()
        return batch

    def _add_entries(self, batch: _Batch, group: int, log: GroupIndex, entries: Sequence[Entry]) -> None:
        add = self._index.add
        for entry in entries:
            head, data = fmt.encode_entry(group, entry)
            length = len(head) + len(data)
            add(log, entry.index, batch.segment, batch.start + batch.size, length)
            batch.pieces.append(head)
            batch.pieces.append(data)
            batch.size += length

    def _relocate(self, batch: _Batch, oldest: int) -> None:
        """Write the whole live log of groups that pin the oldest segment into this batch, small ones only: a busy
        group's log moves on by itself. Runs when no entry is buffered, so every place can be read."""
        budget = self._settings.relocated_bytes_max
        for number, log in self._index.groups.items():
            if not log.runs or log.runs[0].segment != oldest:
                continue
            size = log.live_bytes()
            if size > budget:
                continue
            budget -= size
            entries = self._read_live(log)
            self._index.truncate(log, log.offset_index + 1)
            self._add_entries(batch, number, log, entries)

    def _read_live(self, log: GroupIndex) -> list[Entry]:
        entries = []
        for run in log.runs:
            file = self._disk.open(self._directory / segment_name(run.segment))
            try:
                for place in run.places:
                    record = fmt.record_at(file.read_at(place.position, place.length), 0)
                    if record is None:
                        path = self._directory / segment_name(run.segment)
                        raise OSError(f"{path}: damaged record at offset {place.position}")
                    entries.append(fmt.decode_entry(record.payload))
            finally:
                file.close()
        return entries

    def _launch_if_idle(self) -> None:
        if self._flight is None and not self._settling:
            self._launch()
            while self._waiting and self._flight is None:  # inline: what the callbacks appended
                self._launch()

    def _launch(self) -> None:
        """Write the open batch and have it fsynced. There is no flight now."""
        batch = self._batch
        if batch is None or self._failure is not None:
            return
        dones = self._waiting
        self._batch, self._waiting = None, []
        try:
            if batch.creates:
                self._next_file(batch)
            assert self._file is not None
            self._file.write(b"".join(batch.pieces))
        except OSError as error:
            self._fail(error)
            return
        self._end = self._sizes[batch.segment] = batch.start + batch.size
        self._marked = len(batch.pieces) == 1
        deletable = [n for n in self._sizes if n != batch.segment and not self._index.pinned(n)]
        job = SyncJob(self._file, self._directory if batch.creates else None)
        self._flight = _Flight(job, dones, deletable)
        if self._syncer is not None:
            self._syncer.submit(job)
        else:
            self._settle(make_durable(self._disk, job))

    def _next_file(self, batch: _Batch) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._file = self._disk.create(self._directory / segment_name(batch.segment))

    def _landed(self, error: OSError | None) -> None:
        if self._flight is not None and not self._closed:  # else close() has settled it
            self._settle(error)

    def _settle(self, error: OSError | None) -> None:
        """A flight is over: put the next one on its way, then tell those who waited for this one. What they append
        meanwhile travels together, when all have been told."""
        flight = self._flight
        assert flight is not None
        self._flight = None
        if error is not None:
            self._fail(error)
            return
        self.syncs += 1
        if self._waiting and self._syncer is not None:
            self._launch()
        self._settling = True
        try:
            for done in flight.dones:
                done()
            self._delete(flight.deletable)
        finally:
            self._settling = False
        if self._waiting and self._flight is None and self._syncer is not None:
            self._launch()

    def _delete(self, numbers: list[int]) -> None:
        for number in numbers:
            if self._sizes.pop(number, None) is not None:
                try:
                    self._disk.remove(self._directory / segment_name(number))
                except OSError as error:
                    self._fail(error)
                    return

    def _fail(self, error: OSError) -> None:
        if self._failure is None:
            self._failure = error
            self._batch = None
            self._waiting = []
            if self._on_error is not None:
                self._on_error(error)
