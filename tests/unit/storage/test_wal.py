"""The log: what sync confirmed is found again; segments come and go; failures are final."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from zlib import crc32

import pytest

from geodyne.peermessages import Entry
from node.storage import wal_format
from node.storage.disk import PosixDisk
from node.storage.port import DiskFile, Recovered, StorageError, WalCorrupt, WalFailed, WrongCluster, WrongFormat
from node.storage.wal import Wal, WalSettings

INLINE = WalSettings("cluster", "node-a", inline=True, nonce=lambda: b"\x07nonce\xff!")
SMALL = WalSettings(
    "cluster", "node-a", inline=True, segment_bytes=2000, sealed_segments_max=2, relocated_bytes_max=1000
)


def entries(first: int, last: int, term: int = 1, size: int = 10) -> list[Entry]:
    return [Entry(index, term, bytes([index & 255]) * size) for index in range(first, last + 1)]


def synced(wal: Wal) -> None:
    called: list[bool] = []
    wal.sync(lambda: called.append(True))
    assert called


def reopened(path: Path, settings: WalSettings = INLINE) -> Recovered:
    wal, recovered = Wal.open(path, settings)
    wal.close()
    return recovered


def only_segment(path: Path) -> Path:
    (segment,) = path.glob("*.log")
    return segment


def test_a_new_log_is_empty(tmp_path: Path) -> None:
    assert reopened(tmp_path / "log") == Recovered({}, 0)


def test_entries_and_hard_states_of_all_groups_come_back(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.append(1, entries(1, 3))
    wal.append(2, entries(1, 2, term=4))
    wal.set_hard_state(1, 7, "node-é")
    synced(wal)
    wal.close()
    groups = reopened(tmp_path).groups
    assert groups[1] == ((7, "node-é"), 0, 0, entries(1, 3))
    assert groups[2] == ((0, ""), 0, 0, entries(1, 2, term=4))


def test_an_append_truncates_what_it_overlaps(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.append(1, entries(1, 9))
    wal.append(1, entries(4, 5, term=2))
    wal.close()
    assert reopened(tmp_path).groups[1].entries == entries(1, 3) + entries(4, 5, term=2)


@pytest.mark.parametrize("first", [0, 2, 5, 9])
def test_a_gap_or_a_compacted_index_is_a_programming_error(tmp_path: Path, first: int) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.append(1, entries(1, 3))
    wal.compact(1, 2, 1)
    with pytest.raises(ValueError, match=r"outside 3\.\.4"):
        wal.append(1, entries(first, first))
    with pytest.raises(ValueError, match="ends at 3"):
        wal.compact(1, 4, 1)
    wal.close()


def test_compaction_reset_and_destruction_come_back(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    for group in (1, 2, 3):
        wal.append(group, entries(1, 5))
    wal.compact(1, 3, 1)
    wal.compact(1, 2, 1)  # behind: nothing
    wal.reset(2, 40, 6)
    wal.append(2, entries(41, 42, term=6))
    wal.destroy(3)
    wal.destroy(9)
    wal.close()
    groups = reopened(tmp_path).groups
    assert groups[1] == ((0, ""), 3, 1, entries(4, 5))
    assert groups[2] == ((0, ""), 40, 6, entries(41, 42, term=6))
    assert 3 not in groups


def test_a_reset_may_go_back(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.append(1, entries(1, 9))
    wal.reset(1, 4, 2)
    wal.append(1, entries(5, 5, term=3))
    wal.close()
    assert reopened(tmp_path).groups[1] == ((0, ""), 4, 2, entries(5, 5, term=3))


def test_a_tail_cut_at_any_byte_keeps_everything_confirmed_before(tmp_path: Path) -> None:
    source = tmp_path / "source"
    wal, _ = Wal.open(source, INLINE)
    confirmed: list[tuple[int, int]] = []  # file size when the sync returned, last index it confirmed
    for index in range(1, 7):
        wal.append(1, entries(index, index))
        synced(wal)
        confirmed.append((wal.bytes_on_disk, index))
    data = only_segment(source).read_bytes()
    wal.close()
    for size in range(len(data) + 1):
        torn = tmp_path / str(size)
        torn.mkdir()
        (torn / "0000000000000001.log").write_bytes(data[:size])
        groups = reopened(torn).groups
        last = max((index for end, index in confirmed if end <= size), default=0)
        found = groups[1].entries if 1 in groups else []
        assert found[:last] == entries(1, last)
        assert found == entries(1, len(found))
        assert reopened(torn).groups == groups  # recovery of a recovery


def test_a_damaged_byte_is_either_in_the_unconfirmed_tail_or_reported_with_its_place(tmp_path: Path) -> None:
    source = tmp_path / "source"
    wal, _ = Wal.open(source, INLINE)
    for index in (1, 2):
        wal.append(1, entries(index, index))
        synced(wal)
    durable = wal.bytes_on_disk
    wal.append(1, entries(3, 3))
    synced(wal)  # its first record is a mark: everything before it was durable
    data = only_segment(source).read_bytes()
    wal.close()
    for place in range(len(data)):
        damaged = tmp_path / str(place)
        damaged.mkdir()
        path = damaged / "0000000000000001.log"
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        if place < durable:
            with pytest.raises(WalCorrupt, match=r"0000000000000001\.log: .*offset \d+"):
                Wal.open(damaged, INLINE)
        else:
            assert reopened(damaged).groups[1].entries == entries(1, 2)


def test_a_torn_tail_followed_by_valid_records_of_the_same_write_is_still_a_torn_tail(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.append(1, entries(1, 1))
    synced(wal)
    start = wal.bytes_on_disk
    wal.append(1, entries(2, 4, size=600))
    synced(wal)
    data = bytearray(only_segment(tmp_path).read_bytes())
    wal.close()
    data[start : start + 512] = bytes(512)  # one sector of the last write never reached the disk
    only_segment(tmp_path).write_bytes(data)
    recovered = reopened(tmp_path)
    assert recovered.groups[1].entries == entries(1, 1)
    assert recovered.cut_bytes == len(data) - start


def test_after_a_clean_close_the_whole_log_is_protected(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.append(1, entries(1, 1, size=100))
    size = wal.bytes_on_disk
    wal.close()
    data = bytearray(only_segment(tmp_path).read_bytes())
    data[size + 150] ^= 1
    only_segment(tmp_path).write_bytes(data)
    with pytest.raises(WalCorrupt):
        Wal.open(tmp_path, INLINE)


def test_user_data_cannot_pose_as_a_mark(tmp_path: Path) -> None:
    other, _ = Wal.open(tmp_path / "other", WalSettings("cluster", "node-a", inline=True, nonce=lambda: b"guessed."))
    other.append(1, entries(1, 1))
    synced(other)
    other.append(1, entries(2, 2))
    synced(other)
    forged = only_segment(tmp_path / "other").read_bytes()
    other.close()
    wal, _ = Wal.open(tmp_path / "log", INLINE)
    wal.append(1, [Entry(1, 1, b"x")])
    wal.append(1, [Entry(2, 1, forged)])
    synced(wal)
    path = only_segment(tmp_path / "log")
    data = bytearray(path.read_bytes())
    wal.close()
    data[100] ^= 1
    path.write_bytes(data)
    reopened(tmp_path / "log")  # no WalCorrupt


def test_a_log_of_another_owner_or_a_newer_format_is_refused(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    wal.append(1, entries(1, 1))
    wal.close()
    with pytest.raises(WrongCluster, match="belongs to cluster / node-a, not to cluster / node-b"):
        Wal.open(tmp_path, WalSettings("cluster", "node-b", inline=True))
    path = only_segment(tmp_path)
    data = path.read_bytes()
    header = wal_format.decode_header(data)
    assert header is not None
    newer = bytearray(data[: header.end - 4])
    newer[8] = 2
    path.write_bytes(bytes(newer) + crc32(newer).to_bytes(4, "little") + data[header.end :])
    with pytest.raises(WrongFormat, match="log format 2"):
        Wal.open(tmp_path, INLINE)


def test_segments_roll_and_go_when_no_group_needs_them(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, SMALL)
    wal.set_hard_state(1, 3, "b")
    for index in range(1, 101):
        wal.append(1, entries(index, index, size=200))
        synced(wal)
    assert wal.segments > 8
    wal.compact(1, 97, 1)
    wal.close()
    assert len(list(tmp_path.glob("*.log"))) <= 2
    recovered = reopened(tmp_path, SMALL)
    assert recovered.groups[1] == ((3, "b"), 97, 1, entries(98, 100, size=200))


def test_an_idle_group_does_not_pin_old_segments(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, SMALL)
    wal.append(7, entries(1, 3))
    wal.set_hard_state(7, 2, "a")
    for index in range(1, 201):
        wal.append(1, entries(index, index, size=200))
        synced(wal)
        wal.compact(1, index, 1)
    assert wal.segments <= SMALL.sealed_segments_max + 2
    assert wal.bytes_on_disk < 10 * SMALL.segment_bytes
    wal.close()
    recovered = reopened(tmp_path, SMALL)
    assert recovered.groups[7] == ((2, "a"), 0, 0, entries(1, 3))
    assert recovered.groups[1].offset_index == 200


def test_a_missing_segment_that_is_needed_is_damage(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, SMALL)
    for index in range(1, 31):
        wal.append(1, entries(index, index, size=200))
        synced(wal)
    wal.close()
    segments = sorted(tmp_path.glob("*.log"))
    segments[1].unlink()
    with pytest.raises(WalCorrupt, match="entries of group 1 before this place are missing"):
        Wal.open(tmp_path, SMALL)


def test_segments_whose_removal_was_not_durable_bring_nothing_back(tmp_path: Path) -> None:
    kept: dict[Path, bytes] = {}

    class Disk(PosixDisk):
        def remove(self, path: Path) -> None:
            kept[path] = path.read_bytes()
            super().remove(path)

    wal, _ = Wal.open(tmp_path, SMALL, Disk())
    wal.append(5, entries(1, 3))
    wal.append(1, entries(1, 20, size=200))
    synced(wal)
    wal.append(1, entries(8, 12, term=2, size=200))
    synced(wal)
    wal.destroy(5)
    wal.compact(1, 10, 2)
    for index in range(13, 40):
        wal.append(1, entries(index, index, term=2, size=200))
        synced(wal)
        wal.compact(1, index - 2, 2)
    wal.close()
    expected = reopened(tmp_path, SMALL).groups
    assert 5 not in expected
    assert len(kept) > 2
    for path, data in kept.items():  # any one deleted segment is back after a power loss
        path.write_bytes(data)
        assert reopened(tmp_path, SMALL).groups == expected
        path.unlink(missing_ok=True)


def test_random_histories_come_back_at_every_confirmed_point(tmp_path: Path) -> None:
    chance = random.Random(5)
    model: dict[int, tuple[int, int, list[Entry]]] = {}
    wal, _ = Wal.open(tmp_path, SMALL)
    for step in range(400):
        group = chance.randrange(1, 5)
        offset, offset_term, log = model.get(group, (0, 0, []))
        last = log[-1].index if log else offset
        choice = chance.random()
        if choice < 0.6:
            first = chance.randrange(max(offset + 1, last - 3), last + 2)
            more = entries(first, first + chance.randrange(3), term=step, size=chance.randrange(300))
            wal.append(group, more)
            model[group] = (offset, offset_term, [e for e in log if e.index < first] + more)
        elif choice < 0.9 and log:
            through = chance.choice(log)
            wal.compact(group, through.index, through.term)
            model[group] = (through.index, through.term, [e for e in log if e.index > through.index])
        elif choice < 0.95:
            wal.reset(group, last + 5, step)
            model[group] = (last + 5, step, [])
        synced(wal)
        if step % 40 == 0:
            wal.close()
            wal, recovered = Wal.open(tmp_path, SMALL)
            found = {number: (log[1], log[2], log[3]) for number, log in recovered.groups.items()}
            assert found == model
    wal.close()


# --- beside the loop, and failures ----------------------------------------------------------------------------


class FailingFile:
    """Passes everything on; fails once `failing` says so."""

    def __init__(self, file: DiskFile, disk: FailingDisk) -> None:
        self._file = file
        self._disk = disk
        self.read_at, self.truncate, self.close = file.read_at, file.truncate, file.close
        self.descriptor = None  # so that the failing sync below is what is called

    def write(self, data: bytes) -> None:
        if self._disk.failing == "write":
            raise OSError(errno.ENOSPC, "No space left on device")
        self._file.write(data)

    def sync(self) -> None:
        if self._disk.failing == "sync":
            self._disk.failing = ""  # a second fsync would succeed, and lie
            raise OSError(errno.EIO, "Input/output error")
        self._file.sync()


class FailingDisk(PosixDisk):
    failing = ""

    def create(self, path: Path) -> DiskFile:
        return FailingFile(super().create(path), self)

    def open(self, path: Path) -> DiskFile:
        return FailingFile(super().open(path), self)


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_failed_write_or_fsync_is_final_and_confirms_nothing(tmp_path: Path, kind: str) -> None:
    disk = FailingDisk()
    errors: list[OSError] = []
    done: list[bool] = []
    wal, _ = Wal.open(tmp_path, INLINE, disk, errors.append)
    wal.append(1, entries(1, 1))
    synced(wal)
    disk.failing = kind
    wal.append(1, entries(2, 2))
    wal.sync(lambda: done.append(True))
    assert not done
    assert len(errors) == 1
    disk.failing = ""
    with pytest.raises(WalFailed):
        wal.append(1, entries(3, 3))
    with pytest.raises(WalFailed):
        wal.sync(lambda: done.append(True))
    wal.close()
    assert not done
    assert reopened(tmp_path).groups[1].entries[:1] == entries(1, 1)


def beside_the_loop(
    tmp_path: Path,
    kernel: bool,
    body: Callable[[Wal], Coroutine[None, None, None]],
    disk: PosixDisk | None = None,
    on_error: Callable[[], None] = lambda: None,
) -> list[OSError]:
    errors: list[OSError] = []

    def failed(error: OSError) -> None:
        errors.append(error)
        on_error()

    async def run() -> None:
        wal, _ = Wal.open(tmp_path, WalSettings("cluster", "node-a", kernel=kernel), disk, failed)
        try:
            await body(wal)
        finally:
            wal.close()

    asyncio.run(run())
    return errors


@pytest.mark.parametrize("kernel", [False, True])
def test_syncs_share_one_fsync_while_another_is_in_flight_and_keep_their_order(tmp_path: Path, kernel: bool) -> None:
    order: list[int] = []

    async def body(wal: Wal) -> None:
        landed = asyncio.Event()
        wal.append(1, entries(1, 1))
        wal.sync(lambda: order.append(1))
        for index in range(2, 20):
            wal.append(1, entries(index, index))
            wal.sync(lambda index=index: order.append(index))  # type: ignore[misc]
        wal.sync(landed.set)
        assert order == []
        await landed.wait()
        assert wal.syncs == 2

    assert beside_the_loop(tmp_path, kernel, body) == []
    assert order == list(range(1, 20))
    assert reopened(tmp_path).groups[1].entries == entries(1, 19)


@pytest.mark.parametrize("kernel", [False, True])
def test_close_confirms_what_is_in_flight_and_what_waits(tmp_path: Path, kernel: bool) -> None:
    order: list[int] = []

    async def body(wal: Wal) -> None:
        for index in (1, 2):
            wal.append(1, entries(index, index))
            wal.sync(lambda index=index: order.append(index))  # type: ignore[misc]
        wal.close()
        assert order == [1, 2]
        await asyncio.sleep(0)
        with pytest.raises(StorageError):
            wal.append(1, entries(3, 3))

    assert beside_the_loop(tmp_path, kernel, body) == []
    assert order == [1, 2]


@pytest.mark.parametrize("kernel", [False, True])
def test_an_fsync_error_beside_the_loop_reaches_the_loop_once(tmp_path: Path, kernel: bool) -> None:
    disk = FailingDisk()

    async def body(wal: Wal) -> None:
        disk.failing = "sync"
        wal.append(1, entries(1, 1))
        wal.sync(lambda: pytest.fail("confirmed a failed fsync"))
        wal.append(1, entries(2, 2))
        wal.sync(lambda: pytest.fail("confirmed behind a failed fsync"))
        await told.wait()

    told = asyncio.Event()
    assert len(beside_the_loop(tmp_path, kernel, body, disk, told.set)) == 1


@pytest.mark.parametrize("kernel", [False, True])
def test_close_does_not_confirm_a_flight_that_failed(tmp_path: Path, kernel: bool) -> None:
    disk = FailingDisk()

    async def body(wal: Wal) -> None:
        disk.failing = "sync"
        wal.append(1, entries(1, 1))
        wal.sync(lambda: pytest.fail("confirmed a failed fsync"))
        wal.close()

    assert len(beside_the_loop(tmp_path, kernel, body, disk)) == 1


def test_callbacks_may_append_and_sync_again(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, INLINE)
    reached: list[int] = []

    def step(index: int) -> None:
        reached.append(index)
        if index < 2000:  # deeper than any recursion could go
            wal.append(1, entries(index + 1, index + 1))
            wal.sync(lambda: step(index + 1))

    step(0)
    assert reached[-1] == 2000
    wal.close()
