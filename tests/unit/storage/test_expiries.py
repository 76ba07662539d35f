"""The index of what expires always follows from the rows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geodyne.model.values import dumps, loads
from geodyne.wire.log_v1_pb2 import Definition, GroupState
from node.storage import schema
from node.storage.port import GroupDamaged, GroupUpdate, Row
from node.storage.sqlite import StateStore
from node.storage.sqlite_expiries import FILL_BYTES_MAX

P = 5
START = (0, b"")
FOREVER = 1 << 62
END = b"\xff" * 64


def state(index: int, attribute: str = "ttl") -> bytes:
    return GroupState(applied_index=index, applied_term=1, definition=Definition(ttl=attribute)).SerializeToString()


def row(second: int | None = None, **attributes: Any) -> Row:
    item = {"pk": {"S": "p"}, **attributes}
    if second is not None:
        item["ttl"] = {"N": str(second)}
    return Row(dumps(item), b"v", 10)


def update(index: int, rows: Mapping[bytes, Row | None], attribute: str = "ttl") -> GroupUpdate:
    return GroupUpdate(P, dict(rows), (), None, state(index, attribute), expires_by=attribute)


def with_store(path: Path, body: Callable[[StateStore], Coroutine[None, None, Any]]) -> Any:
    async def run() -> Any:
        store = StateStore.open(path / "state.db")
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(run())


def found(store: StateStore) -> list[tuple[int, bytes]]:
    return store.expiring(P, START, FOREVER, 10_000)


def expected(store: StateStore, attribute: str = "ttl") -> list[tuple[int, bytes]]:
    rows = store.range(P, b"", END, False, 10_000)
    numbers = [(loads(one.value or b"{}").get(attribute, {}).get("N"), key) for key, one in rows]
    return sorted((int(text), key) for text, key in numbers if text is not None)


def fill(store: StateStore, rows: int = 64) -> int:
    steps = 0
    while store.fill_expiries(P, rows):
        steps += 1
    return steps


def prepared(store: StateStore, rows: Mapping[bytes, Row | None] | None = None) -> None:
    store.create(P, state(0))
    store.apply([update(1, rows or {})])
    fill(store)


# --- beside the rows --------------------------------------------------------------------------------------------


def test_what_expires_is_found_in_the_order_of_its_time(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        prepared(store, {b"a": row(30), b"b": row(10), b"c": row(10), b"d": row(), b"e": row(20)})
        assert found(store) == [(10, b"b"), (10, b"c"), (20, b"e"), (30, b"a")]
        assert store.expiring(P, (10, b"b"), 20, 10) == [(10, b"c"), (20, b"e")]
        assert store.expiring(P, START, 29, 2) == [(10, b"b"), (10, b"c")]

    with_store(tmp_path, body)


def test_an_item_that_is_renewed_overwritten_or_deleted_has_no_old_entry(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        prepared(store, {b"a": row(10), b"b": row(10), b"c": row(10), b"d": row(10)})
        store.apply([update(2, {b"a": row(50), b"b": row(), b"c": None, b"d": Row(None, b"w", 0)})])
        assert found(store) == [(50, b"a")]

    with_store(tmp_path, body)


def test_a_group_without_ttl_has_no_entries(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0, ""))
        store.apply([update(1, {b"a": row(10)}, "")])
        assert found(store) == []
        assert store.expiries_filled(P)
        assert not store.fill_expiries(P, 64)

    with_store(tmp_path, body)


KEYS = [b"k%d" % number for number in range(12)]
VALUES = st.one_of(st.none(), st.builds(row, st.one_of(st.none(), st.integers(1, 6))))
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
STEPS = st.lists(st.one_of(ROWS, st.sampled_from(["fill", "restart", "ttl", "", "other"])), max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_entries_equal_the_rows_whatever_is_written_filled_or_redefined_in_between(steps: list[Any]) -> None:
    asyncio.run(_any_order(steps))


async def _any_order(steps: list[Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "state.db"
        store = StateStore.open(path)
        store.create(P, state(0))
        attribute = "ttl"
        for index, step in enumerate([*steps, {}], 1):
            if step == "fill":
                store.fill_expiries(P, 3)
            elif step == "restart":
                await store.close()
                store = StateStore.open(path)
            elif isinstance(step, str):
                attribute = step
                store.apply([update(index, {}, attribute)])
            else:
                store.apply([update(index, step, attribute)])
            entries = set(found(store))
            assert entries <= set(expected(store, attribute) if attribute else [])
            if attribute and store.expiries_filled(P):
                assert entries == set(expected(store, attribute))
        fill(store, 2)
        assert found(store) == (expected(store, attribute) if attribute else [])
        await store.close()


# --- filling ----------------------------------------------------------------------------------------------------


def test_enabling_ttl_writes_no_entry_at_once_and_fills_in_steps_that_a_restart_resumes(tmp_path: Path) -> None:
    rows = {b"%05d" % number: row(number + 1) for number in range(1000)}

    async def before(store: StateStore) -> None:
        store.create(P, state(0, ""))
        store.apply([update(1, rows, "")])
        store.apply([update(2, {}, "ttl")])
        assert found(store) == []
        assert not store.expiries_filled(P)
        for _ in range(4):
            assert store.fill_expiries(P, 100)
        assert len(found(store)) == 400

    async def after(store: StateStore) -> None:
        assert len(found(store)) == 400
        assert fill(store, 100) == 6
        assert found(store) == expected(store)
        assert store.expiries_filled(P)

    with_store(tmp_path, before)
    with_store(tmp_path, after)


def test_a_step_of_filling_reads_few_large_items(tmp_path: Path) -> None:
    large = {"S": "x" * (FILL_BYTES_MAX // 4)}

    async def body(store: StateStore) -> None:
        store.create(P, state(0, ""))
        store.apply([update(1, {b"%d" % number: row(number + 1, other=large) for number in range(8)}, "")])
        store.apply([update(2, {}, "ttl")])
        assert store.fill_expiries(P, 64)
        assert len(found(store)) == 4
        assert fill(store) == 1  # and another step finds that there is no more
        assert found(store) == expected(store)

    with_store(tmp_path, body)


def test_another_attribute_begins_anew_and_the_old_entries_are_collected_in_steps(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        prepared(store, {b"%03d" % number: row(number + 1, other={"N": "7"}) for number in range(300)})
        store.apply([update(2, {}, "other")])
        fill(store)
        assert found(store) == [(7, b"%03d" % number) for number in range(300)]
        store.apply([update(3, {}, "")])
        assert found(store) == []
        assert await store.collect_garbage(50) > 600
        assert store._db.execute("SELECT count(*) FROM expiries").fetchone() == (0,)
        assert store._db.execute("SELECT count(*) FROM expiry_series").fetchone() == (0,)

    with_store(tmp_path, body)


def test_the_entries_of_a_destroyed_group_are_collected(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        prepared(store, {b"%03d" % number: row(number + 1) for number in range(100)})
        store.destroy(P)
        while await store.collect_garbage(30):
            pass
        for table in ("expiries", "expiry_series", "items", "spaces"):
            assert store._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)

    with_store(tmp_path, body)


def test_a_transaction_that_fails_leaves_the_series_as_it_was(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        prepared(store, {b"a": row(10)})
        store._db.execute("UPDATE items SET value='damage' WHERE key=?", (b"a",))
        with pytest.raises(GroupDamaged):
            store.apply([update(2, {b"a": row(20)})])
        store._db.execute("UPDATE items SET value=? WHERE key=?", (row(10).value, b"a"))
        store.apply([update(2, {b"a": row(30)})])
        assert found(store) == [(30, b"a")]

    with_store(tmp_path, body)


# --- snapshots --------------------------------------------------------------------------------------------------


def test_a_snapshot_brings_no_entries_and_its_import_makes_them(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        prepared(store, {b"%03d" % number: row(number + 1) for number in range(200)})
        export = await store.export(P, 1024)
        chunks = [chunk async for chunk in export]
        store.apply([update(2, {b"000": row(999), b"001": None})])
        incoming = store.begin_import(P)
        for chunk in chunks:
            incoming.add(chunk)
        await incoming.commit()
        assert store.expiries_filled(P)
        assert found(store) == expected(store) == [(number + 1, b"%03d" % number) for number in range(200)]
        while await store.collect_garbage():
            pass
        assert store._db.execute("SELECT count(*) FROM expiries").fetchone() == (200,)

    with_store(tmp_path, body)


def test_a_snapshot_of_a_state_without_ttl_ends_the_series(tmp_path: Path) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0, ""))
        store.apply([update(1, {b"a": row(5)}, "")])
        export = await store.export(P, 1024)
        chunks = [chunk async for chunk in export]
        store.apply([update(2, {}, "ttl")])
        fill(store)
        incoming = store.begin_import(P)
        for chunk in chunks:
            incoming.add(chunk)
        await incoming.commit()
        assert found(store) == []
        assert store.expiries_filled(P)

    with_store(tmp_path, body)


# --- the format -------------------------------------------------------------------------------------------------


def version(path: Path) -> int:
    with closing(sqlite3.connect(path / "state.db")) as database:
        found: int = database.execute("PRAGMA user_version").fetchone()[0]
        return found


def test_an_older_version_can_go_back_to_the_database_until_something_here_expires(tmp_path: Path) -> None:
    async def without(store: StateStore) -> None:
        store.create(P, state(0, ""))
        store.apply([update(1, {b"a": row(10)}, "")])
        await store.collect_garbage()

    async def expiring(store: StateStore) -> None:
        store.apply([update(2, {}, "ttl")])
        fill(store)

    with_store(tmp_path, without)
    assert version(tmp_path) == schema.SCHEMA_VERSION
    with_store(tmp_path, expiring)
    assert version(tmp_path) == schema.EXPIRY_VERSION
    with_store(tmp_path, expiring)
