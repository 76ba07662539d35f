"""The state database: what a transaction holds, what a checkpoint covers, what a crash leaves."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from geodyne.wire.log_v1_pb2 import GroupState
from node.storage.port import (
    GroupAbsent,
    GroupUpdate,
    Row,
    SnapshotDamaged,
    StateDamaged,
    StateFailed,
    TooManyExports,
    WrongFormat,
)
from node.storage.sqlite import EXPORTS_MAX, StateSettings, StateStore
from node.storage.sqlite_connection import quick_check

P = 5


def state(index: int, feed_floor: int = 0) -> bytes:
    return GroupState(applied_index=index, applied_term=1, feed_floor=feed_floor).SerializeToString()


def row(number: int, size: int = 100) -> Row:
    return Row(b"%d" % number * size, b"v%08d" % number, size)


def key(number: int) -> bytes:
    return b"k%06d" % number


def update(index: int, *numbers: int, partition: int = P, **more: Any) -> GroupUpdate:
    fields: dict[str, Any] = {"rows": {key(n): row(n) for n in numbers}, "feed": (), "trim_feed_to": None} | more
    return GroupUpdate(partition=partition, state=state(index), **fields)


def with_store(path: Path, body: Callable[[StateStore], Coroutine[None, None, Any]], **settings: int) -> Any:
    async def run() -> Any:
        store = StateStore.open(path / "state.db", StateSettings(**settings))
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(run())


def killed_copy(path: Path, target: Path, wal_bytes: int | None = None) -> Path:
    """The files as a killed process leaves them; with `wal_bytes`, as a power loss might: the WAL's tail is lost."""
    target.mkdir()
    shutil.copy(path / "state.db", target)
    wal = (path / "state.db-wal").read_bytes()
    (target / "state.db-wal").write_bytes(wal if wal_bytes is None else wal[:wal_bytes])
    return target


async def contents(store: StateStore, partition: int = P) -> dict[bytes, Row]:
    return dict(store.range(partition, b"", b"\xff", False, 1 << 20, tombstones=True))


# --- reads and writes -------------------------------------------------------------------------------------------


def test_two_updates_of_a_group_in_one_transaction_are_refused_because_their_order_would_be_lost(
    tmp_path: Path,
) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, 1)])
        with pytest.raises(ValueError, match="two updates"):
            store.apply([update(2, rows={key(1): None}), update(3, 1)])
        assert store.get(P, key(1)) == row(1)

    with_store(tmp_path, body)


def test_rows_are_put_overwritten_and_deleted_with_the_state(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, *range(200))])
        store.apply([update(2, rows={key(1): Row(None, b"v2", 0), key(2): None, key(3): row(33)})])
        assert store.get(P, key(0)) == row(0)
        assert store.get(P, key(1)) == Row(None, b"v2", 0)
        assert store.get(P, key(2)) is None
        assert [store.get(P, key(number)) for number in (3, 199, 200)] == [row(33), row(199), None]

    with_store(tmp_path, body)

    async def again(store: StateStore) -> None:
        assert {p: g.state for p, g in store.groups().items()} == {P: state(2)}
        assert len(await contents(store)) == 199

    with_store(tmp_path, again)


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 127, 300])
def test_batches_of_any_size_go_in_whole(tmp_path: Path, count: int) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        records = [(n, b"r%d" % n) for n in range(1, count + 1)]
        store.apply([update(1, *range(count), feed=records)])
        assert await contents(store) == {key(n): row(n) for n in range(count)}
        assert store.read_feed(P, 0, 1 << 20, 1000) == records

    with_store(tmp_path, body)


def test_groups_do_not_see_each_other(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(1, state(0))
        store.create(2, state(0))
        store.apply([update(1, 7, partition=1), update(1, 8, partition=2)])
        assert await contents(store, 1) == {key(7): row(7)}
        assert await contents(store, 2) == {key(8): row(8)}
        with pytest.raises(GroupAbsent):
            store.get(3, key(7))
        with pytest.raises(GroupAbsent):
            store.apply([update(1, 7, partition=3)])
        with pytest.raises(ValueError, match="partition 1 exists"):
            store.create(1, state(0))

    with_store(tmp_path, body)


def test_ranges_respect_bounds_order_limit_tombstones_and_bytes(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, *range(10))])
        store.apply([update(2, rows={key(4): Row(None, b"t", 0)})])

        def keys(*arguments: Any, **more: Any) -> list[int]:
            return [int(k[1:]) for k, _ in store.range(P, *arguments, **more)]

        assert keys(key(2), key(7), False, 100) == [2, 3, 5, 6]
        assert keys(key(2), key(7), False, 100, tombstones=True) == [2, 3, 4, 5, 6]
        assert keys(key(2), key(7), True, 3) == [6, 5, 3]
        assert keys(b"", b"\xff", False, 100, bytes_max=250) == [0, 1, 2]
        assert keys(key(7), key(2), False, 100) == []

    with_store(tmp_path, body)


def test_the_feed_gives_at_least_one_record_and_keeps_its_bounds(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, feed=[(n << 16, b"x" * 100) for n in range(1, 6)])])
        assert [s >> 16 for s, _ in store.read_feed(P, 0, 1, 10)] == [1]
        assert [s >> 16 for s, _ in store.read_feed(P, 1 << 16, 250, 10)] == [2, 3]
        assert [s >> 16 for s, _ in store.read_feed(P, 0, 1 << 20, 4)] == [1, 2, 3, 4]
        assert store.read_feed(P, 5 << 16, 1 << 20, 4) == []

    with_store(tmp_path, body)


def test_trimmed_records_are_gone_at_once_and_deleted_in_steps(tmp_path: Path) -> None:
    count = 1000

    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, feed=[(n, b"r") for n in range(1, count + 1)])])
        store.apply([update(2, trim_feed_to=900)])
        assert [s for s, _ in store.read_feed(P, 0, 1 << 20, 1)] == [901]
        while await store.collect_garbage(100):
            assert [s for s, _ in store.read_feed(P, 0, 1 << 20, 1)] == [901]
        assert store._db.execute("SELECT count(*), min(sequence) FROM feed").fetchone() == (100, 901)

    with_store(tmp_path, body)


def test_the_trim_floor_survives_a_restart_before_the_records_are_deleted(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, feed=[(n, b"r") for n in range(1, 1001)])])
        store.apply([update(2, trim_feed_to=900)])

    with_store(tmp_path, body)

    async def again(store: StateStore) -> None:
        assert [s for s, _ in store.read_feed(P, 0, 1 << 20, 1)] == [901]
        while await store.collect_garbage(100):
            pass
        assert store._db.execute("SELECT count(*) FROM feed").fetchone() == (100,)

    with_store(tmp_path, again)


def test_a_failed_transaction_has_no_effect(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, 1, feed=[(1, b"r")])])
        with pytest.raises(sqlite3.IntegrityError):
            store.apply([update(2, 2, feed=[(1, b"again")])])
        assert await contents(store) == {key(1): row(1)}
        store.apply([update(2, 2, feed=[(2, b"r")])])

    with_store(tmp_path, body)


def test_a_full_disk_is_told_as_such_and_has_no_effect(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StateFailed, match="full"):
            store.apply([update(1, *range(1000))])
        assert await contents(store) == {}
        store._db.execute("PRAGMA max_page_count=1000000")
        store.apply([update(1, *range(1000))])

    with_store(tmp_path, body)


# --- crashes and checkpoints --------------------------------------------------------------------------------------


def test_a_power_loss_at_any_point_of_the_wal_leaves_a_prefix_of_the_commits(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(1, state(0))
        store.create(2, state(0))
        covered = {}
        for index in range(1, 13):
            store.apply([update(index, index, partition=p, feed=[(index, b"r")]) for p in (1, 2)])
            if index == 6:
                covered = await store.checkpoint()
        assert covered == {1: 6, 2: 6}
        size = (tmp_path / "state.db-wal").stat().st_size
        for number, cut in enumerate(range(0, size + 1, 1999)):
            copy = killed_copy(tmp_path, tmp_path / f"copy{number}", cut)
            lost = StateStore.open(copy / "state.db")
            indexes = {p: GroupState.FromString(g.state).applied_index for p, g in lost.groups().items()}
            applied = indexes[1]
            assert indexes == {1: applied, 2: applied}
            assert applied >= 6
            for p in (1, 2):
                assert await contents(lost, p) == {key(n): row(n) for n in range(1, applied + 1)}
                assert [s for s, _ in lost.read_feed(p, 0, 1 << 20, 100)] == list(range(1, applied + 1))
            await lost.close()

    with_store(tmp_path, body)


def test_a_checkpoint_covers_each_commit_once_and_an_idle_store_needs_none(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(1, state(0))
        store.create(2, state(0))
        assert await store.checkpoint() == {1: 0, 2: 0}
        assert await store.checkpoint() == {}
        store.apply([update(3, 1, partition=1)])
        assert await store.checkpoint() == {1: 3}
        assert await store.checkpoint() == {}

    with_store(tmp_path, body)


def test_point_reads_leave_no_read_mark_that_would_stop_a_checkpoint(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, *range(20), feed=[(n, b"r" * 100) for n in range(20)])])
        await store.checkpoint()
        store.get(P, key(3))
        store.range(P, b"", b"\xff", False, 100, bytes_max=200)
        store.read_feed(P, 0, 150, 10)
        store.apply([update(2, *range(20))])
        assert await store.checkpoint() == {P: 2}

    with_store(tmp_path, body)


def test_what_is_committed_during_a_checkpoint_belongs_to_the_next(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, *range(500))])
        running = asyncio.create_task(store.checkpoint())
        await asyncio.sleep(0)
        store.apply([update(2, 1)])
        assert await running == {P: 1}
        assert await store.checkpoint() == {P: 2}

    with_store(tmp_path, body)


def test_the_wal_starts_over_once_it_has_passed_its_bound(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        sizes = []
        for index in range(1, 40):
            store.apply([update(index, *range(100))])
            running = asyncio.create_task(store.checkpoint())
            await asyncio.sleep(0)
            store.apply([update(index, *range(100))])  # writers never pause
            await running
            sizes.append((tmp_path / "state.db-wal").stat().st_size)
        assert sizes[-1] == sizes[10]

    with_store(tmp_path, body, wal_bytes_max=200_000)


def test_a_window_is_covered_by_the_checkpoint_after_it(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(7, 1)])
        store.save_window(P, b"window", 7)
        assert store.window_covered(P) == 0
        assert await store.checkpoint() == {P: 7}
        assert store.window_covered(P) == 7

    with_store(tmp_path, body)

    async def again(store: StateStore) -> None:
        assert store.groups()[P] == (state(7), b"window", 7, False)
        assert store.window_covered(P) == 7

    with_store(tmp_path, again)


def test_a_created_group_survives_a_power_loss_at_once(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(9))
        copy = killed_copy(tmp_path, tmp_path / "copy")
        lost = StateStore.open(copy / "state.db")
        assert lost.groups() == {P: (state(9), None, 0, False)}
        await lost.close()

    with_store(tmp_path, body)


# --- destruction, damage, other formats ---------------------------------------------------------------------------


def test_a_destroyed_group_is_gone_and_its_rows_are_collected_in_steps(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.create(6, state(0))
        store.apply([update(1, *range(300), feed=[(n, b"r") for n in range(50)]), update(1, 1, partition=6)])
        store.save_window(P, b"w", 1)
        store.destroy(P)
        store.destroy(P)
        with pytest.raises(GroupAbsent):
            store.get(P, key(1))
        store.create(P, state(0))
        assert await contents(store) == {}
        while await store.collect_garbage(20):
            pass
        counts = [store._db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("items", "feed", "windows")]
        assert counts == [1, 0, 0]
        assert set(await store.checkpoint()) == {5, 6}

    with_store(tmp_path, body)


def test_damage_is_found_and_told_as_damage(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, *range(500))])
        assert await quick_check(store.path) == []

    with_store(tmp_path, body)
    path = tmp_path / "state.db"
    data = bytearray(path.read_bytes())
    data[-4096 * 20 :] = b"\xee" * 4096 * 20  # rows; the tables at the front stay readable
    path.write_bytes(data)

    async def damaged(store: StateStore) -> None:
        assert await quick_check(store.path) != []
        with pytest.raises(StateDamaged):
            await contents(store)

    with_store(tmp_path, damaged)
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StateDamaged):
        StateStore.open(path)


def test_another_schema_version_or_another_database_is_refused(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store._db.execute("PRAGMA user_version=5")

    with_store(tmp_path, body)
    with pytest.raises(WrongFormat, match="state format 5; this version reads formats 1 to 4"):
        StateStore.open(tmp_path / "state.db")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(WrongFormat, match="not one of Geodyne's"):
        StateStore.open(tmp_path / "other.db")


# --- snapshots ------------------------------------------------------------------------------------------------------


async def snapshot(store: StateStore, chunk_bytes: int = 2000) -> list[bytes]:
    export = await store.export(P, chunk_bytes)
    assert (export.applied_index, export.applied_term) == (4, 1)
    return [chunk async for chunk in export]


async def filled(store: StateStore) -> None:
    store.create(P, state(0))
    store.apply([update(3, *range(100), feed=[(n, b"r%d" % n) for n in range(1, 40)])])
    store.apply([update(4, rows={key(7): Row(None, b"t", 0)}, trim_feed_to=10)])
    store.save_window(P, b"w" * 5000, 4)


def exported(path: Path) -> list[bytes]:
    async def body(store: StateStore) -> list[bytes]:
        await filled(store)
        return await snapshot(store)

    path.mkdir()
    chunks: list[bytes] = with_store(path, body)
    return chunks


def test_a_snapshot_carries_rows_tombstones_feed_window_and_state(tmp_path: Path) -> None:
    chunks = exported(tmp_path / "a")
    assert len(chunks) > 5
    assert max(map(len, chunks)) < 2000 + 300

    async def install(store: StateStore) -> None:
        incoming = store.begin_import(P)
        for chunk in chunks:
            incoming.add(chunk)
        assert (await incoming.commit()).applied_index == 4
        rows = await contents(store)
        assert rows == {key(n): row(n) for n in range(100)} | {key(7): Row(None, b"t", 0)}
        assert [s for s, _ in store.read_feed(P, 0, 1 << 20, 100)] == list(range(11, 40))

    with_store(tmp_path, install)

    async def again(store: StateStore) -> None:
        assert store.groups() == {P: (state(4), b"w" * 5000, 4, False)}
        assert (await contents(store))[key(7)] == Row(None, b"t", 0)

    with_store(tmp_path, again)


def test_an_export_is_consistent_while_the_group_changes_and_holds_back_no_writer(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        await filled(store)
        before = await contents(store)
        export = await store.export(P, 500)
        chunks = []
        async for chunk in export:
            chunks.append(chunk)
            store.apply([update(50 + len(chunks), *range(50, 150))])
        incoming = store.begin_import(6)
        for chunk in chunks:
            incoming.add(chunk)
        await incoming.commit()
        assert await contents(store, 6) == before

    with_store(tmp_path, body)


def test_a_checkpoint_under_an_open_export_covers_nothing_new_and_the_next_one_does(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        await filled(store)
        export = await store.export(P, 500)
        store.apply([update(60, 1)])
        assert await store.checkpoint() == {}
        await export.close()
        await export.close()
        assert await store.checkpoint() == {P: 60}

    with_store(tmp_path, body)


def test_only_so_many_exports_at_a_time_and_an_abandoned_one_can_be_closed(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        await filled(store)
        exports = [await store.export(P, 500) for _ in range(EXPORTS_MAX)]
        with pytest.raises(TooManyExports):
            await store.export(P, 500)
        with pytest.raises(GroupAbsent):
            await store.export(77, 500)
        for export in exports:
            await export.close()
        assert len(await snapshot(store)) > 1

    with_store(tmp_path, body)


def test_damaged_misplaced_and_missing_chunks_are_refused(tmp_path: Path) -> None:
    chunks = exported(tmp_path / "a")

    async def body(store: StateStore) -> None:
        flipped = bytearray(chunks[0])
        flipped[40] ^= 1
        for wrong, message in (
            (bytes(flipped), "checksum"),
            (chunks[1], "chunk 1 arrived where chunk 0"),
            (chunks[0][:8], "fewer than its header"),
            (b"GDS\x02" + chunks[0][4:], "format 47445302"),
        ):
            with pytest.raises(SnapshotDamaged, match=message):
                store.begin_import(P).add(wrong)
        incomplete = store.begin_import(P)
        for chunk in chunks[:-1]:
            incomplete.add(chunk)
        with pytest.raises(SnapshotDamaged, match="incomplete"):
            await incomplete.commit()

    with_store(tmp_path, body)


def test_a_crash_during_an_import_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    chunks = exported(tmp_path / "a")

    async def body(store: StateStore) -> list[Path]:
        store.create(P, state(1))
        store.apply([update(2, 1000)])
        incoming = store.begin_import(P)
        copies = []
        for number, chunk in enumerate(chunks):
            incoming.add(chunk)
            copies.append(killed_copy(tmp_path, tmp_path / f"during{number}"))
        await incoming.commit()
        copies.append(killed_copy(tmp_path, tmp_path / "after"))
        return copies

    *during, after = with_store(tmp_path, body)

    async def old(store: StateStore) -> None:
        assert store.groups()[P].state == state(2)
        assert await contents(store) == {key(1000): row(1000)}
        while await store.collect_garbage():
            pass
        assert store._db.execute("SELECT count(*) FROM items").fetchone() == (1,)

    async def new(store: StateStore) -> None:
        assert store.groups()[P].state == state(4)
        assert len(await contents(store)) == 100
        while await store.collect_garbage():
            pass
        assert store._db.execute("SELECT count(*) FROM items").fetchone() == (100,)

    for copy in during:
        with_store(copy, old)
    with_store(after, new)


def test_an_aborted_import_becomes_garbage_and_a_running_one_does_not(tmp_path: Path) -> None:
    chunks = exported(tmp_path / "a")

    async def body(store: StateStore) -> None:
        incoming = store.begin_import(P)
        for chunk in chunks:
            incoming.add(chunk)
        assert await store.collect_garbage() == 0
        incoming.abort()
        while await store.collect_garbage():
            pass
        assert store._db.execute("SELECT count(*) FROM items").fetchone() == (0,)

    with_store(tmp_path, body)
