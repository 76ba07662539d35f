"""The journal of conflicts: what is kept, for how long, and that nothing but the journal suffers when it cannot be."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from geodyne.model import version as versions
from geodyne.model.keys import KeySchema, encode_key
from geodyne.wire import log_v1_pb2 as log
from node import conflictlog
from node.catalog.machine import Catalog
from node.conflictlog import ConflictLog, Journals, encoded
from node.entries import Effect, EntryBuilder
from node.feed.conflicts import Conflict, Side, conflicts_of
from node.metrics import NodeMetrics
from node.storage.port import Row
from tests.unit.node.test_index_catalog import made, settle, the_table

TABLE = "T"
IMAGE = b'{"pk":{"S":"x"},"n":{"N":"1"}}'


def conflict(number: int, image: bytes | None = IMAGE) -> Conflict:
    key = encode_key(KeySchema("pk", "S", "sk", "S"), {"pk": {"S": f"p{number}"}, "sk": {"S": "r"}})
    lost = Side(versions.make(number + 1, b"here"), image, len(image or b""))
    won = Side(versions.make(number + 2, b"there"), None, 0)
    return Conflict(key, lost, won, 1_000 + number, perhaps=False)


def a_catalog() -> Catalog:
    catalog = made()
    settle(catalog)
    return catalog


CATALOG = a_catalog()


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class Kept:
    """A node's log of conflicts, of one table."""

    def __init__(self, folder: Path) -> None:
        self.catalog = CATALOG
        self.metrics = NodeMetrics(CollectorRegistry())
        self.log = ConflictLog(folder, "here/node-a", self.metrics, lambda: self.catalog)
        self.table = the_table(self.catalog)

    def note(self, *conflicts: Conflict, leading: bool = True) -> None:
        self.log.note(self.table.partitions[0].id, conflicts, leading)

    async def show(self, **asked: Any) -> dict[str, Any]:
        answer = await self.log.administer({"operation": "show", "table": TABLE, **asked})
        return dict(answer["result"])

    async def numbers(self, **asked: Any) -> list[int]:
        return [record["seen_us"] - 1_000 for record in (await self.show(**asked))["records"]]

    @property
    def dropped(self) -> float:
        return float(self.metrics.conflicts_dropped._value.get())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "conflicts"


def running(folder: Path, act: Callable[[Kept], Awaitable[None]]) -> Kept:
    kept = Kept(folder)

    async def run() -> None:
        await act(kept)
        await kept.log.close()

    asyncio.run(run())
    return kept


def test_what_was_kept_is_told_newest_first_in_words_for_people(folder: Path) -> None:
    async def act(kept: Kept) -> None:
        kept.note(conflict(1), conflict(2, None))
        newest, oldest = (await kept.show())["records"]
        assert newest["lost"] == {"region": "here", "time_us": 3, "deleted": True, "image": None, "image_bytes": 0}
        assert oldest["key"] == {"pk": {"S": "p1"}, "sk": {"S": "r"}}
        assert oldest["lost"]["image"] == IMAGE.decode()
        assert (oldest["won"]["region"], oldest["won"]["time_us"], oldest["won"]["deleted"]) == ("there", 3, True)
        assert kept.metrics.conflicts.labels("here", "there")._value.get() == 2

    running(folder, act)


def test_a_follower_keeps_records_and_counts_nothing(folder: Path) -> None:
    async def act(kept: Kept) -> None:
        kept.note(conflict(1), leading=False)
        assert await kept.numbers() == [1]
        assert kept.metrics.conflicts.labels("here", "there")._value.get() == 0

    running(folder, act)


def test_records_are_there_after_a_restart_and_one_that_is_applied_again_is_told_once(folder: Path) -> None:
    async def first(kept: Kept) -> None:
        kept.note(conflict(1), conflict(2))

    async def again(kept: Kept) -> None:
        kept.note(conflict(2), conflict(3))
        assert await kept.numbers() == [3, 2, 1]

    running(folder, first)
    running(folder, again)


def test_pages_together_tell_all_and_each_once(folder: Path) -> None:
    async def act(kept: Kept) -> None:
        kept.note(*(conflict(number) for number in range(10)))
        told, before = [], None
        while True:
            page = await kept.show(limit=3, before=before)
            told += [record["seen_us"] - 1_000 for record in page["records"]]
            before = page["next"]
            if before is None:
                break
            assert len(page["records"]) == 3
        assert told == list(range(9, -1, -1))
        assert await kept.numbers(since_us=1_007) == [9, 8, 7]

    running(folder, act)


def test_the_older_half_goes_when_the_newer_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(encoded(conflict(10)))
    monkeypatch.setattr(conflictlog, "FILE_BYTES_MAX", 5 * size)

    async def act(kept: Kept) -> None:
        for number in range(10, 40):
            kept.note(conflict(number))
            assert (await kept.numbers())[0] == number
        numbers = await kept.numbers()
        assert numbers == list(range(39, 39 - len(numbers), -1))
        assert 5 <= len(numbers) <= 10
        assert sum(map(os.path.getsize, files(folder))) <= 2 * 6 * size

    running(folder, act)


def test_a_large_batch_goes_over_the_bound_of_a_file_by_one_record_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(encoded(conflict(10)))
    monkeypatch.setattr(conflictlog, "FILE_BYTES_MAX", 5 * size)
    journals = Journals(folder)
    assert journals.write([("t", conflict(number)) for number in range(10, 50)]) == 40
    assert [path.stat().st_size for path in sorted(folder.iterdir())] == [5 * size, 5 * size]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_end_costs_its_own_record_and_no_other(folder: Path, cut: int) -> None:
    journals = Journals(folder)
    journals.write([("t", conflict(1)), ("t", conflict(2))])
    [path] = folder.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    journals.write([("t", conflict(3))])
    page = journals.read("t", 0, None, 10)
    whole = cut == 1  # all but the end of the line
    assert [at[0] - 1_000 for at, _ in page.records] == ([3, 2, 1] if whole else [3, 1])
    assert page.damaged == (0 if whole else 1)


def test_a_damaged_line_is_counted_and_passed_over(folder: Path) -> None:
    journals = Journals(folder)
    journals.write([("t", conflict(number)) for number in range(3)])
    [path] = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    page = journals.read("t", 0, None, 10)
    assert [at[0] - 1_000 for at, _ in page.records] == [2, 0]
    assert page.damaged == 1


def test_a_disk_that_takes_nothing_costs_the_records_and_nothing_else(folder: Path) -> None:
    folder.write_bytes(b"")  # where the folder should be

    async def act(kept: Kept) -> None:
        kept.note(conflict(1), conflict(2))
        await kept.log.close()
        assert kept.dropped == 2
        os.unlink(folder)
        kept.note(conflict(3))
        assert await kept.numbers() == [3]

    running(folder, act)


def test_what_waits_for_the_disk_is_bounded_and_nothing_is_kept_while_space_is_short(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflictlog, "BUFFER_BYTES_MAX", 3 * conflictlog._weight(conflict(1)))

    async def act(kept: Kept) -> None:
        kept.note(*(conflict(number) for number in range(1, 6)))
        assert await kept.numbers() == [3, 2, 1]
        assert kept.dropped == 2
        kept.log.suspended = lambda: True
        kept.note(conflict(6))
        assert await kept.numbers() == [3, 2, 1]
        assert kept.dropped == 3

    running(folder, act)


def test_journals_are_for_their_owner_alone_and_go_with_the_table(folder: Path) -> None:
    async def act(kept: Kept) -> None:
        kept.note(conflict(1))
        await kept.log.close()
        [path] = files(folder)
        assert (mode(path), mode(folder)) == (0o600, 0o700)
        kept.log.sweep()
        await kept.log.close()
        assert files(folder) == [path]
        kept.catalog = Catalog()
        kept.catalog.revision = 1_000
        kept.log.sweep()
        await kept.log.close()
        assert files(folder) == []

    running(folder, act)


def test_a_purge_removes_what_was_on_its_way_too(folder: Path) -> None:
    async def act(kept: Kept) -> None:
        kept.note(conflict(1))
        assert await kept.log.administer({"operation": "purge", "table": TABLE}) == {"result": {"node": "here/node-a"}}
        assert await kept.numbers() == []
        kept.note(conflict(2))
        assert await kept.numbers() == [2]

    running(folder, act)


@pytest.mark.parametrize(
    "asked",
    [{"operation": "show", "table": "other"}, {"table": TABLE}, {"operation": "show", "table": TABLE, "before": [1]}],
)
def test_a_request_that_is_none_is_refused(folder: Path, asked: dict[str, Any]) -> None:
    async def act(kept: Kept) -> None:
        assert "error" in await kept.log.administer(asked)

    running(folder, act)


def test_a_table_on_which_conflicts_never_end_is_told_of_all_the_same(folder: Path) -> None:
    async def act(kept: Kept) -> None:
        async def conflicts() -> None:
            for number in range(1, 100_000):
                kept.note(conflict(number))
                await asyncio.sleep(0.001)

        kept.note(conflict(0))
        busy = asyncio.create_task(conflicts())
        async with asyncio.timeout(10):
            await kept.show()
            answer = await kept.log.administer({"operation": "purge", "table": TABLE})
        busy.cancel()
        assert answer == {"result": {"node": "here/node-a"}}

    running(folder, act)


def test_what_is_noted_while_a_journal_goes_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(kept: Kept) -> None:
        loop, drop = asyncio.get_running_loop(), Journals.drop

        def slow(journals: Journals, tables: set[str]) -> None:
            noted = threading.Event()
            if tables:
                loop.call_soon_threadsafe(kept.note, conflict(2))
                loop.call_soon_threadsafe(noted.set)
                assert noted.wait(10)
            drop(journals, tables)

        monkeypatch.setattr(Journals, "drop", slow)
        kept.note(conflict(1))
        await kept.log.administer({"operation": "purge", "table": TABLE})
        await kept.log.close()
        assert await kept.numbers() == [2]

    running(folder, act)


def test_nothing_is_written_to_nor_waited_for_in_what_is_no_file_of_the_log(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")

    def link(path: Path) -> None:
        path.symlink_to(elsewhere)

    for put_there in (link, os.mkfifo):

        async def act(kept: Kept) -> None:
            kept.note(conflict(1))
            answer = await kept.log.administer({"operation": "show", "table": TABLE})
            assert "here/node-a" in answer["error"]
            assert kept.dropped == 1

        folder.mkdir(exist_ok=True)
        path = folder / f"{the_table(CATALOG).id}.log"
        put_there(path)
        running(folder, act)
        assert elsewhere.read_bytes() == b""
        path.unlink()


def test_what_lost_is_the_same_for_whoever_reads_the_entry_back() -> None:
    builder = EntryBuilder(7, 1_234)
    key, version = b"key", versions.make(9, b"there")
    lost = log.Lost(version=versions.make(5, b"here"), image=IMAGE, image_bytes=len(IMAGE), perhaps=True)
    effect = Effect(key, Row(None, version, 0), version, -1, 0, None, None)
    builder.add(effect, None, base=b"base", lost=lost)
    builder.add(effect._replace(key=b"other"), None)
    made_here = conflicts_of(builder.payload.effects, builder.payload.wall_us)
    read_back = log.EntryPayload.FromString(builder.payload.SerializeToString())
    assert conflicts_of(read_back.effects, read_back.wall_us) == made_here
    assert made_here == [
        Conflict(key, Side(lost.version, IMAGE, len(IMAGE)), Side(version, None, 0), 1_234, perhaps=True)
    ]
