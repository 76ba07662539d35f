"""Reading the log back at start: replay every segment, cut off a torn tail, refuse damage.

What a restart finds may never have been fsynced (a killed process leaves its writes in the kernel's cache), so the
last segment is fsynced before anything in it is relied upon.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from geodyne.peermessages import Entry
from node.storage import wal_format as fmt
from node.storage.port import (
    Disk,
    DiskFile,
    LogTooLarge,
    Recovered,
    RecoveredGroup,
    WalCorrupt,
    WrongCluster,
    WrongFormat,
)
from node.storage.wal_index import LogIndex, Place

SEGMENT_SUFFIX = ".log"
_NUMBER_DIGITS = 16


def segment_name(number: int) -> str:
    return f"{number:0{_NUMBER_DIGITS}d}{SEGMENT_SUFFIX}"


class RecoveredLog(NamedTuple):
    """`sizes`: bytes of each segment that is left. `last`: the open newest one, None when there is none."""

    recovered: Recovered
    live: LogIndex
    sizes: dict[int, int]
    last: DiskFile | None
    last_number: int
    nonce: bytes


class _Replayed:
    """A group's log while it is read.

    Entries that an older, deleted segment held may be missing at first: that is damage only if nothing later in the
    log makes them unneeded, so it is judged at the end (`missing`). `noticed` is where the gap showed.
    """

    __slots__ = ("entries", "needed_last", "noticed", "offset_index", "offset_term", "places", "term", "vote")

    def __init__(self) -> None:
        self.term = 0
        self.vote = ""
        self.offset_index = 0
        self.offset_term = 0
        self.entries: list[Entry] = []
        self.places: list[tuple[int, Place]] = []  # segment and place of each entry
        self.needed_last = 0
        self.noticed = ""

    @property
    def bytes(self) -> int:
        """What its entries take, records and all."""
        return sum(place.length for _, place in self.places)

    @property
    def missing(self) -> bool:
        if not self.entries:
            return self.offset_index < self.needed_last
        return self.entries[0].index != self.offset_index + 1 or self.entries[-1].index < self.needed_last

    def put(self, entry: Entry, segment: int, place: Place, where: str) -> None:
        """Truncate from the entry's index and append it; after a gap only the later part is kept."""
        if self.entries:
            keep = entry.index - self.entries[0].index
            self._cut(keep if 0 <= keep <= len(self.entries) else 0)
        self.entries.append(entry)
        self.places.append((segment, place))
        self.needed_last = 0
        if len(self.entries) == 1 and entry.index != self.offset_index + 1:
            self.noticed = where

    def drop_through(self, index: int, term: int) -> None:
        self.offset_index = index
        self.offset_term = term
        gone = 0
        while gone < len(self.entries) and self.entries[gone].index <= index:
            gone += 1
        del self.entries[:gone]
        del self.places[:gone]

    def clear(self, index: int, term: int) -> None:
        self._cut(0)
        self.needed_last = 0
        self.drop_through(index, term)

    def restate(self, facts: fmt.GroupFacts, where: str) -> None:
        """Take over what a GROUPS record says; entries beyond its last index had been truncated by records in a
        segment that is gone."""
        self.term, self.vote = facts.term, facts.vote
        self.drop_through(facts.offset_index, facts.offset_term)
        if self.entries:
            self._cut(max(0, facts.last_index + 1 - self.entries[0].index))
        self.needed_last = facts.last_index
        if self.missing:
            self.noticed = where

    def _cut(self, keep: int) -> None:
        del self.entries[keep:]
        del self.places[keep:]


def recover(disk: Disk, directory: Path, identity: bytes, bytes_max: int) -> RecoveredLog:
    """Read the whole log, segment by segment. Entries that are still needed stay in memory: at most `bytes_max`.

    Raises WalCorrupt, WrongCluster, WrongFormat, LogTooLarge or OSError; nothing has been changed then."""
    numbers = sorted(_segment_numbers(disk, directory))
    groups: dict[int, _Replayed] = {}
    sizes: dict[int, int] = {}
    nonce = b""
    cut_bytes = 0
    for number in numbers:
        path = directory / segment_name(number)
        is_last = number == numbers[-1]
        data = disk.read(path)
        header = _checked_header(path, data, number, identity, is_last)
        if header is None:  # its creation was never confirmed, so nothing in it was
            disk.remove(path)
            cut_bytes += len(data)
            continue
        nonce = header.nonce
        end = _replay(path, data, header, groups, is_last)
        sizes[number] = end
        cut_bytes += len(data) - end
        held = sum(log.bytes for log in groups.values())
        if held > bytes_max:
            raise LogTooLarge(
                f"the log in {directory} holds {held} bytes in entries up to segment {number}, and this node keeps at "
                f"most {bytes_max} in memory. Move the data directory away to have the node rebuilt from the others"
            )
    for group, log in groups.items():
        if log.missing:
            raise WalCorrupt(f"{log.noticed}: entries of group {group} before this place are missing")
    last = _open_last(disk, directory, sizes)
    disk.sync_directory(directory)
    return RecoveredLog(_result(groups, cut_bytes), _index(groups), sizes, last, max(sizes, default=0), nonce)


def _segment_numbers(disk: Disk, directory: Path) -> list[int]:
    names = [name for name in disk.names(directory) if name.endswith(SEGMENT_SUFFIX)]
    return [int(name.removesuffix(SEGMENT_SUFFIX)) for name in names]


def _checked_header(path: Path, data: bytes, number: int, identity: bytes, is_last: bool) -> fmt.SegmentHeader | None:
    header = fmt.decode_header(data)
    if header is None:
        # A segment's first write has no mark: one shows that this header had been durable before it.
        if is_last and fmt.mark_behind(data, 0, None) is None:
            return None
        raise WalCorrupt(f"{path}: damaged header at offset 0")
    if header.version > fmt.SEGMENT_VERSION:
        raise WrongFormat(
            f"{path} has log format {header.version}; this version reads up to {fmt.SEGMENT_VERSION}. "
            "Use the Geodyne version that wrote it."
        )
    if header.identity != identity:
        owner = header.identity.decode(errors="replace").replace("\n", " / ")
        raise WrongCluster(f"{path} belongs to {owner}, not to {identity.decode().replace(chr(10), ' / ')}")
    if header.number != number:
        raise WalCorrupt(f"{path}: the header at offset 0 is of segment {header.number}")
    return header


def _replay(path: Path, data: bytes, header: fmt.SegmentHeader, groups: dict[int, _Replayed], is_last: bool) -> int:
    """Apply a segment's records; returns where its valid part ends."""
    position = header.end
    while position < len(data):
        record = fmt.record_at(data, position)
        if record is None:
            if not is_last:
                raise WalCorrupt(f"{path}: damaged record at offset {position} of a completed segment")
            mark = fmt.mark_behind(data, position, header.nonce)
            if mark is not None:
                raise WalCorrupt(f"{path}: damaged record at offset {position}; durable up to offset {mark}")
            return position
        _apply(record, groups, header.number, path)
        position = record.end
    return position


def _apply(record: fmt.Record, groups: dict[int, _Replayed], segment: int, path: Path) -> None:
    kind = record.type
    if kind == fmt.MARK:
        return
    where = f"{path}: offset {record.position}"
    if kind == fmt.GROUPS:
        stated = {facts.group: facts for facts in fmt.decode_groups(record.payload)}
        for gone in groups.keys() - stated.keys():
            del groups[gone]
        for number, facts in stated.items():
            groups.setdefault(number, _Replayed()).restate(facts, where)
        return
    if kind == fmt.DESTROY:
        groups.pop(record.group, None)
        return
    log = groups.setdefault(record.group, _Replayed())
    if kind == fmt.ENTRY:
        place = Place(record.position, record.end - record.position)
        log.put(fmt.decode_entry(record.payload), segment, place, where)
    elif kind == fmt.HARD_STATE:
        log.term, log.vote = fmt.decode_hard_state(record.payload)
    elif kind == fmt.OFFSET:
        log.drop_through(*fmt.decode_position(record.payload))
    elif kind == fmt.RESET:
        log.clear(*fmt.decode_position(record.payload))
    else:
        raise WalCorrupt(f"{where}: unknown record type {kind}")


def _open_last(disk: Disk, directory: Path, sizes: dict[int, int]) -> DiskFile | None:
    if not sizes:
        return None
    number = max(sizes)
    file = disk.open(directory / segment_name(number))
    file.truncate(sizes[number])
    file.sync()
    return file


def _result(groups: dict[int, _Replayed], cut_bytes: int) -> Recovered:
    return Recovered(
        {
            number: RecoveredGroup((log.term, log.vote), log.offset_index, log.offset_term, log.entries)
            for number, log in groups.items()
        },
        cut_bytes,
    )


def _index(groups: dict[int, _Replayed]) -> LogIndex:
    index = LogIndex()
    for number, log in groups.items():
        group = index.group(number)
        group.term, group.vote = log.term, log.vote
        group.offset_index = group.last_index = log.offset_index
        group.offset_term = log.offset_term
        for entry, (segment, place) in zip(log.entries, log.places, strict=True):
            index.add(group, entry.index, segment, place.position, place.length)
    return index
