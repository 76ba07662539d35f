"""Damage at rest: every flipped bit of the state database and of the log is found, or changes nothing that is read."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from geodyne.peermessages import Entry
from geodyne.wire.log_v1_pb2 import GroupState
from node.storage import schema
from node.storage.checksums import record_checksum, row_checksum, row_matches, state_checksum
from node.storage.condemned import condemn, put_aside
from node.storage.port import GroupDamaged, GroupUpdate, LocalEntry, Row, StateDamaged, StorageError
from node.storage.sqlite import StateStore
from node.storage.wal import Wal, WalSettings

P = 5
Q = 6


def state(index: int) -> bytes:
    return GroupState(applied_index=index, applied_term=1).SerializeToString()


def key(number: int) -> bytes:
    return b"key-%06d" % number


def row(number: int, size: int = 60) -> Row:
    return Row((b'{"pk":"%d"}' % number).ljust(size, b"."), b"v%08d" % number, size)


def with_store(path: Path, body: Callable[[StateStore], Coroutine[None, None, Any]]) -> Any:
    async def run() -> Any:
        store = StateStore.open(path / "state.db")
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(run())


def put(store: StateStore, index: int, rows: dict[bytes, Row | None], **more: Any) -> None:
    fields: dict[str, Any] = {"feed": (), "trim_feed_to": None, "state": state(index)} | more
    store.apply([GroupUpdate(P, rows, **fields)])


def edited(store: StateStore, statement: str) -> None:
    assert store._db.execute(statement).rowcount


ROW_EDITS = {
    "a value": "UPDATE items SET value=CAST('x' || value AS BLOB) WHERE key=CAST('key-000003' AS BLOB)",
    "a version": "UPDATE items SET version=CAST('w' AS BLOB) WHERE key=CAST('key-000003' AS BLOB)",
    "a size": "UPDATE items SET size=size+1 WHERE key=CAST('key-000003' AS BLOB)",
    "a checksum": "UPDATE items SET checksum=checksum+1 WHERE key=CAST('key-000003' AS BLOB)",
    "a lost checksum": "UPDATE items SET checksum=NULL WHERE key=CAST('key-000003' AS BLOB)",
    "a lost value": "UPDATE items SET value=NULL WHERE key=CAST('key-000003' AS BLOB)",
    "a value of another type": "UPDATE items SET value=17 WHERE key=CAST('key-000003' AS BLOB)",
}


@pytest.mark.parametrize("what", ROW_EDITS)
def test_a_damaged_row_is_refused_by_every_read_and_its_neighbours_are_not(tmp_path: Path, what: str) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        put(store, 1, {key(number): row(number) for number in range(6)})
        edited(store, ROW_EDITS[what])
        told: list[int] = []
        store.damage_found = lambda partition, _: told.append(partition)
        assert store.get(P, key(2)) == row(2)
        assert len(store.range(P, key(0), key(3), False, 10)) == 3
        with pytest.raises(GroupDamaged) as caught:
            store.get(P, key(3))
        assert caught.value.partition == P
        for reverse in (False, True):
            with pytest.raises(GroupDamaged):
                store.range(P, b"", b"\xff", reverse, 10)
        export = await store.export(P, 1 << 20)
        with pytest.raises(GroupDamaged):
            [chunk async for chunk in export]
        assert told == [P] * 3
        put(store, 2, {key(3): row(33)})
        assert store.get(P, key(3)) == row(33)

    with_store(tmp_path, body)


def test_a_damaged_change_record_is_refused(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        put(store, 1, {}, feed=[(number, b"record %d" % number) for number in range(1, 5)])
        edited(store, "UPDATE feed SET record=CAST('x' AS BLOB) WHERE sequence=3")
        assert len(store.read_feed(P, 0, 12, 2)) == 1
        with pytest.raises(GroupDamaged):
            store.read_feed(P, 2, 1 << 20, 10)

    with_store(tmp_path, body)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE groups SET state=CAST('x' AS BLOB) WHERE partition=5",
        "UPDATE groups SET feed_floor=9 WHERE partition=5",
        "UPDATE groups SET space=2 WHERE partition=5",
        "UPDATE windows SET window=CAST('x' AS BLOB) WHERE partition=5",
        "UPDATE windows SET log_index=2 WHERE partition=5",
        "UPDATE windows SET window=zeroblob(0), checksum=1 WHERE partition=5",
    ],
)
def test_a_damaged_group_is_told_at_opening_and_the_others_are_sound(tmp_path: Path, statement: str) -> None:
    async def body(store: StateStore) -> None:
        for partition in (P, Q):
            store.create(partition, state(0))
            store.save_window(partition, b"window", 1)
        edited(store, statement)

    async def again(store: StateStore) -> None:
        assert {partition: group.damaged for partition, group in store.groups().items()} == {P: True, Q: False}
        with pytest.raises(GroupDamaged):
            store.save_window(P, b"other", 2)

    with_store(tmp_path, body)
    with_store(tmp_path, again)


def test_a_space_that_a_group_uses_is_never_collected(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        put(store, 1, {key(1): row(1)})
        edited(store, "UPDATE spaces SET live=0")
        assert await store.collect_garbage() == 0
        assert store.get(P, key(1)) == row(1)

    with_store(tmp_path, body)


def test_rows_of_a_database_without_checksums_are_read_and_get_them_when_written(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    old.execute("PRAGMA journal_mode=WAL")
    for statement in (*schema.TABLES, *schema.INDEX_TABLES):
        old.execute(statement)
    old.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
    old.execute("PRAGMA user_version=2")
    old.execute("INSERT INTO spaces (space, live) VALUES (1, 1)")
    old.execute("INSERT INTO groups VALUES (?, 1, 0, ?)", (P, state(3)))
    old.execute("INSERT INTO windows VALUES (?, 3, ?)", (P, b"window"))
    for number in (1, 2):
        old.execute(
            "INSERT INTO items (space, key, value, version, size) VALUES (1, ?, ?, ?, ?)", (key(number), *row(number))
        )
    old.execute("INSERT INTO feed VALUES (1, 7, ?)", (b"record",))
    old.close()

    async def body(store: StateStore) -> None:
        assert store.groups() == {P: (state(3), b"window", 3, False)}
        assert store.range(P, b"", b"\xff", False, 9) == [(key(1), row(1)), (key(2), row(2))]
        assert store.read_feed(P, 0, 99, 9) == [(7, b"record")]
        put(store, 4, {key(1): row(11)})
        edited(store, "UPDATE items SET size=1 WHERE key=CAST('key-000001' AS BLOB)")
        with pytest.raises(GroupDamaged):
            store.get(P, key(1))
        store.create(Q, state(0))

    with_store(tmp_path, body)
    with_store(tmp_path, _version_is_current)


async def _version_is_current(store: StateStore) -> None:
    assert store._db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)


def test_a_checksum_covers_where_a_row_belongs() -> None:
    value, version = b"value", b"version"
    sums = {
        row_checksum(space, name, value, version, size)
        for space in (1, 2, 3, 1 << 12)
        for name in (b"a", b"b")
        for size in (0, 1, 5, 409_600)
    }
    assert len(sums) == 32
    assert row_checksum(1, b"a", None, version, 0) != row_checksum(1, b"a", b"", version, 0)
    assert record_checksum(1, 2, b"r") != record_checksum(2, 1, b"r")
    assert state_checksum(1, 2, 0, b"s") != state_checksum(2, 1, 0, b"s")
    assert row_matches(None, False, 1, b"a", value, version, 5)
    assert not row_matches(None, True, 1, b"a", value, version, 5)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_flipped_bit_of_the_database_is_never_served(tmp_path: Path) -> None:
    """Of 600 bits: each read gives what was written, or damage; where a damaged index hides a row, the check at the
    start finds it."""
    rows = {key(number): row(number, 26 + number % 90) for number in range(150)}
    records = [(number, b"record %d" % number) for number in range(1, 40)]

    async def fill(store: StateStore) -> None:
        store.create(P, state(0))
        put(store, 1, dict(rows), feed=records)
        store.save_window(P, b"window", 1)

    with_store(tmp_path, fill)
    path = tmp_path / "state.db"
    whole = path.read_bytes()
    random = Random(11)
    found = 0
    for bit in sorted(random.sample(range(len(whole) * 8), 600)):
        path.write_bytes(flipped(whole, bit))
        outcome = asyncio.run(_look(path, rows, records))
        assert outcome in ("whole", "damage"), bit
        found += outcome == "damage"
        for name in ("state.db-wal", "state.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
    assert found > 100


async def _look(path: Path, rows: dict[bytes, Row], records: list[tuple[int, bytes]]) -> str:
    try:
        store = StateStore.open(path)
    except StorageError:
        return "damage"
    try:
        if store.structure_damage():
            return "damage"
        group = store.groups().get(P)
        if group is None:
            return "absent"
        if group.damaged:
            return "damage"
        if group != (state(1), b"window", 1, False):
            return "wrong"
        found = [store.get(P, name) for name in rows]
        ranged = store.range(P, b"", b"\xff", False, 1_000)
        read = store.read_feed(P, 0, 1 << 20, 1_000)
    except StorageError:
        return "damage"
    finally:
        store._db.close()
    if any(one not in (row, None) for one, row in zip(found, rows.values(), strict=True)):
        return "wrong"
    if any(rows.get(name) != one for name, one in ranged) or not set(read) <= set(records):
        return "wrong"
    complete = None not in found and len(ranged) == len(rows) and len(read) == len(records)
    return "whole" if complete else "absent"


def test_a_flipped_bit_of_the_log_is_found_and_no_entry_is_changed(tmp_path: Path) -> None:
    """Of 400 bits: the log is refused, or what is read is what was written, but for what was torn off its very end."""
    settings = WalSettings("cluster", "node", segment_bytes=4_096, inline=True)
    entries = [Entry(index, 1, b"payload %d " % index * 8) for index in range(1, 120)]
    log, _ = Wal.open(tmp_path / "log", settings)
    for entry in entries:
        log.append(P, [entry])
        log.sync(lambda: None)
    log.close()
    files = sorted((tmp_path / "log").iterdir())
    assert len(files) > 3
    random = Random(5)
    refused = 0
    for number in range(400):
        file = files[random.randrange(len(files))]
        whole = file.read_bytes()
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "log", copy)
        (copy / file.name).write_bytes(flipped(whole, random.randrange(len(whole) * 8)))
        try:
            log, recovered = Wal.open(copy, settings)
        except StorageError:
            refused += 1
        else:
            log.close()
            read = recovered.groups[P].entries if P in recovered.groups else []
            assert read == entries[: len(read)]
            assert len(read) == len(entries) or file == files[-1]
        shutil.rmtree(copy)
    assert refused > 200


def test_entries_of_local_indexes_are_made_anew_without_a_row_that_is_damaged(tmp_path: Path) -> None:
    class ByValue:
        """One entry for each row: its value's first bytes."""

        def derive(self, key: bytes, row: Row | None) -> Any:
            entries = [] if row is None else [LocalEntry(1, key, (row.value or b"")[:12], 12)]
            return SimpleNamespace(entries=entries, sizes=[12] * len(entries))

        def collection(self, key: bytes) -> bytes:
            return key[:4]

    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        put(store, 1, {key(number): row(number) for number in range(4)}, indexes=ByValue())
        edited(store, ROW_EDITS["a value"])
        with pytest.raises(GroupDamaged):
            put(store, 2, {key(3): row(33)}, indexes=ByValue())
        assert len(store.range(P, key(0), key(3), False, 9)) == 3
        put(store, 2, {key(2): row(22)}, indexes=ByValue(), reindex=True)
        assert [entry.key for entry in store.entries(P, 1, b"", b"\xff", False, 9)] == [key(0), key(1), key(2)]
        put(store, 3, {key(3): row(33)}, indexes=ByValue(), reindex=True)
        assert [entry.key for entry in store.entries(P, 1, b"", b"\xff", False, 9)] == [key(n) for n in range(4)]
        edited(store, "UPDATE entries SET value=CAST('x' AS BLOB) WHERE key=CAST('key-000001' AS BLOB)")
        with pytest.raises(GroupDamaged):
            store.entries(P, 1, b"", b"\xff", False, 9)

    with_store(tmp_path, body)


def test_a_condemned_database_is_put_aside_for_an_empty_one(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.condemn()

    with_store(tmp_path, body)
    path = tmp_path / "state.db"
    with pytest.raises(StateDamaged):
        StateStore.open(path)
    for _ in range(2):  # a crash at the end of the first attempt changes nothing
        assert put_aside(path).exists()
        condemn(path)
    put_aside(path)
    with_store(tmp_path, _is_empty)


async def _is_empty(store: StateStore) -> None:
    assert store.groups() == {}
