"""What storage promises the node, as values and protocols; no I/O here.

Two stores with one contract between them: the log keeps what was decided and is fsynced before anybody
acknowledges; the state keeps what follows from it and may be behind after a crash, but is then a consistent
prefix of its group's log.  So a restart replays each group from its applied index + 1, and the log is compacted
only through indexes that a completed checkpoint of the state covers.  The state may also be *ahead* of the local
log (a snapshot was installed and the log not yet reset when the process ended): then the log is reset to the state's
index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from geodyne.peermessages import Entry

# --- values -------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One stored item: canonical JSON bytes (None: a tombstone), its version, its DynamoDB size in bytes."""

    value: bytes | None
    version: bytes
    size: int


class LocalEntry(NamedTuple):
    """An entry of the local index in `slot`. `value` None: value and size are those of the whole item, in its row."""

    slot: int
    key: bytes  # geodyne.model.indexkeys
    value: bytes | None
    size: int


class DerivedEntries(Protocol):
    """What is kept of one row: entries, and their sizes in the same order."""

    @property
    def entries(self) -> Sequence[LocalEntry]: ...

    @property
    def sizes(self) -> Sequence[int]: ...


class Derivation(Protocol):
    """How the entries of a table's local indexes follow from its rows; deterministic."""

    def derive(self, key: bytes, row: Row | None) -> DerivedEntries: ...

    def collection(self, key: bytes) -> bytes:
        """What the keys of all rows of the row's item collection begin with."""


class GroupUpdate(NamedTuple):
    """What applying committed entries changes in one group; a turn's updates go into one transaction.

    `rows`: the newest row of each key, None to delete the row. `feed`: change records by ascending sequence.
    `trim_feed_to`: records up to and including this sequence are no longer wanted. `state`: serialised
    geodyne.log.v1.GroupState, which holds the applied index of exactly these rows. `indexes`: of a group with local
    indexes; their entries are kept with the rows. `reindex`: other ones than before, so all entries are made anew.
    `expires_by`: the attribute that tells when items expire, "" for none.
    """

    partition: int
    rows: Mapping[bytes, Row | None]
    feed: Sequence[tuple[int, bytes]]
    trim_feed_to: int | None
    state: bytes
    indexes: Derivation | None = None
    reindex: bool = False
    expires_by: str = ""


class StoredGroup(NamedTuple):
    """A group as found on disk. `window` is the deduplication window as of log index `window_index`. `damaged`: one of
    them does not match its checksum, so neither may be used."""

    state: bytes
    window: bytes | None
    window_index: int
    damaged: bool = False


class RecoveredGroup(NamedTuple):
    """A group's log as found on disk: `entries` begin at `offset_index + 1` and have no gap."""

    hard_state: tuple[int, str]  # term, vote
    offset_index: int
    offset_term: int
    entries: list[Entry]


class Recovered(NamedTuple):
    """Everything the log held. `cut_bytes` were torn off its end: never confirmed to anybody."""

    groups: dict[int, RecoveredGroup]
    cut_bytes: int


# --- errors -------------------------------------------------------------------------------------------------


class StorageError(Exception):
    """Base of everything that storage raises on purpose."""


class DirectoryInUse(StorageError):
    """Another process has the data directory open."""


class WrongCluster(StorageError):
    """The data belongs to another cluster or another process of this one."""


class WrongFormat(StorageError):
    """The data was written in a format that this version does not read, or is not ours at all."""


class WalCorrupt(StorageError):
    """Confirmed log records are damaged or missing; the replica must be rebuilt from the others."""


class LogTooLarge(StorageError):
    """The log holds more than may be kept in memory."""


class WalFailed(StorageError):
    """A write or fsync of the log failed. Nothing later can be trusted: restart and recover from disk."""


class StateDamaged(StorageError):
    """The state database is damaged; the replica must be rebuilt from the others."""


class GroupDamaged(StateDamaged):
    """A part of one group's state does not match its checksum or cannot be read; the others' are not in doubt."""

    def __init__(self, partition: int, what: str) -> None:
        super().__init__(f"partition {partition}: {what} is damaged")
        self.partition = partition


class DiskUnusable(StorageError):
    """The disk takes no writes: it is full, read-only or failing. What is on it is not in doubt: try again later."""


class StateFailed(StorageError):
    """The state database could not be written (disk full, read-only, I/O error); the transaction had no effect."""


class SnapshotDamaged(StorageError):
    """A snapshot chunk is damaged, out of order, or the snapshot is incomplete."""


class TooManyExports(StorageError):
    """As many snapshots are being read as may be at a time; try again later."""


class GroupAbsent(StorageError):
    """The partition has no state here."""


# --- the disk under the log ---------------------------------------------------------------------------------


class DiskFile(Protocol):
    """One open file that is appended to. All methods raise OSError."""

    @property
    def descriptor(self) -> int | None:
        """The operating system's number for it, None for a file that is not the system's: `sync` must be used."""

    def write(self, data: bytes) -> None:
        """Append all of `data`; durable only after `sync`."""

    def read_at(self, offset: int, length: int) -> bytes: ...

    def sync(self) -> None:
        """Return when everything written is durable. After an error the file must not be used again: the
        kernel may have dropped the dirty pages, and a second fsync would report success for lost data."""

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Space(NamedTuple):
    """Of a file system, in bytes, for whoever runs the process."""

    free_bytes: int
    total_bytes: int


class Disk(Protocol):
    """The few operations the log needs, so that a simulated disk can lose, tear and refuse."""

    def make_directory(self, path: Path) -> None: ...

    def names(self, directory: Path) -> list[str]: ...

    def create(self, path: Path) -> DiskFile:
        """A new empty file; FileExistsError when there is one."""

    def open(self, path: Path) -> DiskFile:
        """An existing file, positioned at its end."""

    def read(self, path: Path) -> bytes: ...

    def rename(self, old: Path, new: Path) -> None: ...

    def remove(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None:
        """Make creations, renames and removals in the directory durable."""

    def space(self, path: Path) -> Space:
        """What is left on the file system that holds `path`."""


# --- the log, as the node uses it ---------------------------------------------------------------------------


class GroupLog(Protocol):
    """The node-wide log of all groups (node.storage.wal.Wal)."""

    def append(self, group: int, entries: Sequence[Entry]) -> None: ...

    def set_hard_state(self, group: int, term: int, vote: str) -> None: ...

    def reset(self, group: int, index: int, term: int) -> None: ...

    def destroy(self, group: int) -> None: ...

    def compact(self, group: int, through_index: int, term: int) -> None: ...

    def sync(self, done: Callable[[], None]) -> None: ...

    @property
    def overloaded(self) -> bool:
        """More waits to be written than should: refuse what would append."""

    def close(self) -> None: ...
