"""The end of the log: what is a torn write, what is damage, and what does not fit memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodyne.peermessages import Entry
from node.storage.directory import open_directory
from node.storage.port import LogTooLarge, WalCorrupt
from node.storage.wal import Wal, WalSettings
from node.storage.wal_recovery import recover

INLINE = WalSettings("cluster", "node-a", inline=True)


def killed(path: Path, *, marked: bool) -> Path:
    """A log with two confirmed batches, left as a killed process leaves it; returns its segment."""
    wal, _ = Wal.open(path, INLINE)
    for index in (1, 2):
        wal.append(1, [Entry(index, 1, b"payload %d" % index)])
        wal.sync(lambda: None)
    if marked:
        wal.mark_end()
    wal.discard()
    (segment,) = path.glob("*.log")
    return segment


def change(segment: Path, part: bytes) -> None:
    content = segment.read_bytes()
    assert content.count(part) == 1
    segment.write_bytes(content.replace(part, part[:-1] + b"?"))


def test_damage_in_the_newest_batch_is_found_once_its_end_is_marked(tmp_path: Path) -> None:
    change(killed(tmp_path, marked=True), b"payload 2")
    with pytest.raises(WalCorrupt, match="durable up to offset"):
        Wal.open(tmp_path, INLINE)


def test_before_that_it_cannot_be_told_from_a_torn_write(tmp_path: Path) -> None:
    """The limit of what the log can know: what was confirmed a moment before the crash, and is damaged."""
    change(killed(tmp_path, marked=False), b"payload 2")
    wal, recovered = Wal.open(tmp_path, INLINE)
    wal.close()
    assert [entry.index for entry in recovered.groups[1].entries] == [1]
    assert recovered.cut_bytes


def test_damage_in_an_older_batch_is_always_found(tmp_path: Path) -> None:
    change(killed(tmp_path, marked=False), b"payload 1")
    with pytest.raises(WalCorrupt, match="durable up to offset"):
        Wal.open(tmp_path, INLINE)


def test_an_idle_log_is_marked_once(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.mark_end()
    assert wal.syncs == 0  # there is nothing to mark
    wal.append(1, [Entry(1, 1, b"x")])
    wal.sync(lambda: None)
    for _ in range(3):
        wal.mark_end()
    assert wal.syncs == 2
    wal.append(1, [Entry(2, 1, b"y")])
    wal.mark_end()  # it is not idle: what waits will mark what is before it
    assert wal.syncs == 2
    wal.close()


def test_a_log_that_does_not_fit_memory_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    small = WalSettings("cluster", "node-a", inline=True, segment_bytes=2_000)
    wal, _ = Wal.open(tmp_path, small)
    for index in range(1, 40):
        wal.append(1, [Entry(index, 1, bytes(200))])
        wal.sync(lambda: None)
    wal.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    bounded = WalSettings("cluster", "node-a", inline=True, recovered_bytes_max=4_000)
    with pytest.raises(LogTooLarge, match=r"holds \d+ bytes in entries .* at most 4000 in memory"):
        Wal.open(tmp_path, bounded)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    wal, _ = Wal.open(tmp_path, small)
    wal.compact(1, 36, 1)
    wal.close()
    wal, recovered = Wal.open(tmp_path, bounded)  # what counts is what is still needed, not the files
    wal.close()
    assert len(recovered.groups[1].entries) == 3


def test_what_a_segment_adds_to_memory_is_counted_before_the_next_one_is_read(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, WalSettings("cluster", "node-a", inline=True, segment_bytes=2_000))
    for index in range(1, 100):
        wal.append(1, [Entry(index, 1, bytes(200))])
        wal.sync(lambda: None)
    wal.close()
    read: list[Path] = []

    class Watched(type(wal._disk)):  # type: ignore[misc]
        def read(self, path: Path) -> bytes:
            read.append(path)
            data: bytes = super().read(path)
            return data

    with pytest.raises(LogTooLarge):
        recover(Watched(), tmp_path, wal._identity, 4_000)
    assert len(read) <= 3 < len(list(tmp_path.iterdir()))


def test_a_log_that_is_put_aside_makes_the_directory_another_one(tmp_path: Path) -> None:
    first = open_directory(tmp_path, "c", "a")
    killed(first.log_path, marked=True)
    first.close()
    second = open_directory(tmp_path, "c", "a")
    assert second.roster.directory == first.roster.directory
    aside = second.put_log_aside()
    assert [path.suffix for path in aside.iterdir()] == [".log"]
    assert not second.log_path.exists()
    assert second.roster.directory == second.incarnation
    killed(second.log_path, marked=True)
    second.close()
    third = open_directory(tmp_path, "c", "a")
    assert third.roster.directory == second.incarnation
    third.put_log_aside()  # one copy is kept, of the newest
    third.close()


def test_a_crash_right_after_the_log_was_moved_leads_to_another_directory_too(tmp_path: Path) -> None:
    first = open_directory(tmp_path, "c", "a")
    killed(first.log_path, marked=True)
    first.close()
    first.log_path.rename(tmp_path / "log.damaged")
    second = open_directory(tmp_path, "c", "a")
    second.close()
    assert second.roster.directory == second.incarnation
