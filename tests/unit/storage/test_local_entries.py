"""Local indexes in the state database: entries, counts and collection sizes always follow from the rows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geodyne.messages import Item
from geodyne.model.indexkeys import IndexSchema, encode_index_key, item_key_of
from geodyne.model.keys import KeySchema, collection_of, encode_key
from geodyne.model.values import dumps, item_size, loads
from geodyne.wire.log_v1_pb2 import GroupState
from node.engine.localindexes import LocalIndexes
from node.state import IndexDefinition
from node.storage import schema
from node.storage.port import GroupUpdate, Row
from node.storage.sqlite import StateStore

P = 5
TABLE = KeySchema("pk", "S", "sk", "S")
HASH = (("pk", "S"),)
LOCAL = (
    IndexDefinition("all", 1, 1, IndexSchema(HASH, (("a", "N"),), TABLE), "ALL", ()),
    IndexDefinition("keys", 1, 2, IndexSchema(HASH, (("a", "N"),), TABLE), "KEYS_ONLY", ()),
    IndexDefinition("some", 1, 3, IndexSchema(HASH, (("b", "S"),), TABLE), "INCLUDE", ("c",)),
)
INDEXES = LocalIndexes(LOCAL)
END = b"\xff" * 64


def state(index: int) -> bytes:
    return GroupState(applied_index=index, applied_term=1).SerializeToString()


def item(pk: str, sk: str, **attributes: Any) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}, **attributes}


def placed(one: Item) -> tuple[bytes, Row]:
    return encode_key(TABLE, one), Row(dumps(one), b"v", item_size(one))


def update(index: int, rows: Mapping[bytes, Row | None], *, reindex: bool = False) -> GroupUpdate:
    return GroupUpdate(P, dict(rows), (), None, state(index), INDEXES, reindex)


def with_store(path: Path, body: Callable[[StateStore], Coroutine[None, None, Any]]) -> Any:
    async def run() -> Any:
        store = StateStore.open(path / "state.db")
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(run())


def kept(store: StateStore) -> dict[str, Any]:
    """All that the store keeps beside the rows."""
    entries = {
        (slot, e.key): (e.value, e.size) for slot in (1, 2, 3) for e in store.entries(P, slot, b"", END, False, 999)
    }
    counts = {slot: counted for slot, counted in store.entry_counts(P).items() if counted != (0, 0)}
    space = store._groups[P].space
    found = store._db.execute("SELECT prefix, bytes FROM collections WHERE space=?", (space,)).fetchall()
    return {"entries": entries, "counts": counts, "collections": dict(found)}


def expected(store: StateStore) -> dict[str, Any]:
    """What should be kept, worked out from the rows by the documentation, not by the code that keeps it."""
    entries: dict[tuple[int, bytes], tuple[bytes | None, int]] = {}
    counts: dict[int, tuple[int, int]] = {}
    collections: dict[bytes, int] = {}
    for key, row in store.range(P, b"", END, False, 10_000):
        assert row.value is not None
        one = loads(row.value)
        total = row.size
        for index in LOCAL:
            entry_key = encode_index_key(index.schema, one, key)
            if entry_key is None:
                continue
            names = {1: set(one), 2: {"pk", "sk", "a"}, 3: {"pk", "sk", "b", "c"}}[index.slot]
            image = {name: value for name, value in one.items() if name in names}
            entries[index.slot, entry_key] = (None, 0) if index.slot == 1 else (dumps(image), item_size(image))
            items, size = counts.get(index.slot, (0, 0))
            counts[index.slot] = (items + 1, size + item_size(image))
            total += item_size(image)
        prefix = collection_of(key)
        collections[prefix] = collections.get(prefix, 0) + total
    return {"entries": entries, "counts": counts, "collections": collections}


# --- beside the rows --------------------------------------------------------------------------------------------


def test_an_index_is_read_in_the_order_of_its_key_in_both_directions(tmp_path: Path) -> None:
    rows = dict(placed(item("p", f"s{n}", a={"N": str(value)})) for n, value in enumerate((5, -3, 5, 40)))

    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, rows)])
        found = store.entries(P, 2, b"", END, False, 10)
        items = [loads(entry.value or b"") for entry in found]
        assert [(one["a"]["N"], one["sk"]["S"]) for one in items] == [
            ("-3", "s1"),
            ("5", "s0"),
            ("5", "s2"),
            ("40", "s3"),
        ]
        assert store.entries(P, 2, b"", END, True, 2) == [found[3], found[2]]
        assert store.entries(P, 2, found[1].key, found[3].key, False, 10) == found[1:3]
        whole = store.entries(P, 1, b"", END, False, 1)[0]
        assert whole.value is None
        assert store.get(P, item_key_of(LOCAL[0].schema, whole.key)) == rows[encode_key(TABLE, items[0])]

    with_store(tmp_path, body)


def test_rows_that_go_or_become_tombstones_take_their_entries_with_them(tmp_path: Path) -> None:
    key, row = placed(item("p", "s", a={"N": "1"}, b={"S": "x"}))
    other, kept_row = placed(item("q", "s", b={"S": "y"}))

    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        for gone in (None, Row(None, b"v2", 0)):
            store.apply([update(1, {key: row, other: kept_row})])
            assert len(kept(store)["entries"]) == 4
            store.apply([update(2, {key: gone})])
            assert kept(store) == expected(store)
            assert store.collection_bytes(P, collection_of(key)) == 0
            assert store.entry_counts(P)[3][0] == 1

    with_store(tmp_path, body)


_TEXT = st.sampled_from(("x", "y", "z\x00", "longer"))
_ITEMS = st.builds(
    lambda pk, sk, more: item(pk, sk, **more),
    st.sampled_from(("p", "q")),
    st.sampled_from(("1", "2", "3")),
    st.fixed_dictionaries(
        {},
        optional={
            "a": st.one_of(st.integers(-2, 2).map(lambda n: {"N": str(n)}), st.just({"S": "wrong type"})),
            "b": _TEXT.map(lambda text: {"S": text}),
            "c": _TEXT.map(lambda text: {"S": text}),
            "d": _TEXT.map(lambda text: {"S": text}),
        },
    ),
)
_CHANGES = st.lists(st.tuples(_ITEMS, st.sampled_from(("put", "put", "delete", "bury"))), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_CHANGES, min_size=1, max_size=6))
def test_any_sequence_of_changes_keeps_what_follows_from_the_rows(
    tmp_path_factory: Any, turns: list[list[tuple[Item, str]]]
) -> None:
    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        for index, changes in enumerate(turns, 1):
            rows: dict[bytes, Row | None] = {}
            for one, kind in changes:
                key, row = placed(one)
                rows[key] = {"put": row, "delete": None, "bury": Row(None, b"v2", 0)}[kind]
            store.apply([update(index, rows)])
            assert kept(store) == expected(store)

    with_store(tmp_path_factory.mktemp("store"), body)


def test_indexes_that_come_after_rows_are_filled_from_them(tmp_path: Path) -> None:
    rows = dict(placed(item("p", f"{n:04}", a={"N": str(n)})) for n in range(200))

    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([GroupUpdate(P, rows, (), None, state(1))])
        assert kept(store)["entries"] == {}
        more = dict([placed(item("p", "last", b={"S": "x"}))])
        store.apply([update(2, more, reindex=True)])
        assert kept(store) == expected(store)
        assert len(kept(store)["entries"]) == 401
        store.apply([GroupUpdate(P, {}, (), None, state(3), None, True)])
        assert kept(store) == {"entries": {}, "counts": {}, "collections": {}}

    with_store(tmp_path, body)


# --- snapshots, garbage, older databases ------------------------------------------------------------------------------


def test_a_snapshot_brings_no_entries_but_its_receiver_has_them(tmp_path: Path) -> None:
    rows = dict(placed(item(f"p{n % 3}", str(n), a={"N": str(n)}, b={"S": "x"})) for n in range(100))
    asked: list[bytes] = []

    def indexes_of(of: bytes) -> LocalIndexes:
        asked.append(of)
        return INDEXES

    async def send(store: StateStore) -> tuple[list[bytes], dict[str, Any]]:
        store.create(P, state(0))
        store.apply([update(7, rows)])
        export = await store.export(P, 500)
        return [chunk async for chunk in export], kept(store)

    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    chunks, there = with_store(tmp_path / "from", send)
    assert len(chunks) > 5
    assert not any(b"entries" in chunk for chunk in chunks)

    async def receive(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, dict([placed(item("old", "1", a={"N": "1"}))]))])
        incoming = store.begin_import(P, indexes_of)
        for chunk in chunks:
            incoming.add(chunk)
        await incoming.commit()
        assert kept(store) == expected(store) == there
        assert asked == [state(7)]
        while await store.collect_garbage():
            pass
        assert kept(store) == there
        for table in ("entries", "entry_counts", "collections"):
            spaces = store._db.execute(f"SELECT count(DISTINCT space) FROM {table}").fetchone()
            assert spaces == (1,), table

    with_store(tmp_path / "to", receive)


def test_a_destroyed_group_leaves_nothing(tmp_path: Path) -> None:
    rows = dict(placed(item(f"p{n}", str(n), a={"N": str(n)}, b={"S": "x"})) for n in range(300))

    async def body(store: StateStore) -> None:
        store.create(P, state(0))
        store.apply([update(1, rows)])
        store.destroy(P)
        while await store.collect_garbage(50):
            pass
        for table in ("items", "entries", "entry_counts", "collections", "spaces"):
            assert store._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table

    with_store(tmp_path, body)


def test_a_database_of_the_version_before_local_indexes_opens_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA journal_mode=WAL")
    for table in schema.TABLES:
        old.execute(table)
    old.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
    old.execute("PRAGMA user_version=1")
    key, row = placed(item("p", "s", a={"N": "1"}))
    old.execute("INSERT INTO spaces (space, live) VALUES (1, 1)")
    old.execute("INSERT INTO groups VALUES (?, 1, 0, ?)", (P, state(3)))
    old.execute("INSERT INTO items (space, key, value, version, size) VALUES (1, ?, ?, ?, ?)", (key, *row))
    old.close()

    async def body(store: StateStore) -> None:
        assert store.groups()[P].state == state(3)
        assert store.get(P, key) == row
        store.apply([update(4, dict([placed(item("p", "t", a={"N": "2"}))]), reindex=True)])
        assert kept(store) == expected(store)
        assert len(kept(store)["entries"]) == 4

    with_store(tmp_path, body)
    with_store(tmp_path, _version_is_current)


async def _version_is_current(store: StateStore) -> None:
    assert store._db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
