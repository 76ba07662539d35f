"""What the local indexes of a replica hold, compared with what its rows say they must."""

from __future__ import annotations

from typing import Any

from geodyne.model.indexkeys import encode_index_key, projected
from geodyne.model.keys import collection_of
from geodyne.model.values import dumps, item_size, loads
from geodyne.sim.network import Violation
from node.state import Definition
from node.storage.sqlite import StateStore

ROWS_MAX = 100_000
END = b"\xff" * 64


def held(store: StateStore, partition: int, definition: Definition) -> dict[str, Any]:
    space = store._groups[partition].space
    statement = "SELECT prefix, bytes FROM collections WHERE space=?"
    return {
        "entries": {
            (slot, entry.key): (entry.value, entry.size)
            for slot in (index.slot for index in definition.local_indexes)
            for entry in store.entries(partition, slot, b"", END, False, ROWS_MAX)
        },
        "counts": {slot: counts for slot, counts in store.entry_counts(partition).items() if counts != (0, 0)},
        "collections": dict(store._db.execute(statement, (space,)).fetchall()),
    }


def due(store: StateStore, partition: int, definition: Definition) -> dict[str, Any]:
    entries: dict[tuple[int, bytes], tuple[bytes | None, int]] = {}
    counts: dict[int, tuple[int, int]] = {}
    collections: dict[bytes, int] = {}
    for key, row in store.range(partition, b"", END, False, ROWS_MAX):
        item = loads(row.value or b"")
        prefix = collection_of(key)
        collections[prefix] = collections.get(prefix, 0) + row.size
        for index in definition.local_indexes:
            entry_key = encode_index_key(index.schema, item, key)
            if entry_key is not None:
                image = projected(index.schema, index.projection, index.included, item)
                size = item_size(image)
                stored = (None, 0) if index.projection == "ALL" else (dumps(image), size)
                entries[index.slot, entry_key] = stored
                count = counts.get(index.slot, (0, 0))
                counts[index.slot] = (count[0] + 1, count[1] + size)
                collections[prefix] += size
    return {"entries": entries, "counts": counts, "collections": collections}


def check_local_indexes(who: str, store: StateStore, partition: int, definition: Definition) -> None:
    """Raises Violation when a replica's indexes are not what follows from its rows."""
    if not definition.local_indexes:
        return
    found, wanted = held(store, partition, definition), due(store, partition, definition)
    for part, value in found.items():
        if value != wanted[part]:
            raise Violation(f"{who}: local indexes of partition {partition}: {part} {value}, not {wanted[part]}")
