"""What the local indexes of a table hold of one row.

Entries follow from rows and definition alone, so every replica derives the same ones while it applies, in the
transaction that writes the rows; nothing of them is in the log or in a snapshot.
"""

from __future__ import annotations

from typing import NamedTuple

from geodyne.messages import Item
from geodyne.model.indexkeys import encode_index_key, projected
from geodyne.model.keys import collection_of
from geodyne.model.values import dumps, item_size, loads
from node.state import Definition, IndexDefinition
from node.storage.port import LocalEntry, Row


class Derived(NamedTuple):
    """What is kept of one row: its entries, as stored, and their sizes, in DynamoDB's count, in the same order."""

    entries: tuple[LocalEntry, ...]
    sizes: tuple[int, ...]


_NOTHING = Derived((), ())


class LocalIndexes:
    """The local indexes of a table, ready to derive entries from its rows."""

    __slots__ = ("_indexes",)

    def __init__(self, indexes: tuple[IndexDefinition, ...]) -> None:
        self._indexes = indexes

    @staticmethod
    def of(definition: Definition) -> LocalIndexes | None:
        """None for a table without any, or while the partition does not know its table's definition."""
        return LocalIndexes(local) if definition.indexes and (local := definition.local_indexes) else None

    def same_as(self, other: LocalIndexes | None) -> bool:
        return other is not None and self._indexes == other._indexes

    def index(self, slot: int) -> IndexDefinition | None:
        return next((index for index in self._indexes if index.slot == slot), None)

    def derive(self, key: bytes, row: Row | None) -> Derived:
        """What is kept of a row; of none, or of a tombstone, nothing.

        An index that keeps all attributes stores none: its entry stands for the row (`LocalEntry.value` None)."""
        if row is None or row.value is None:
            return _NOTHING
        item = loads(row.value)
        entries: list[LocalEntry] = []
        sizes: list[int] = []
        for index in self._indexes:
            entry_key = encode_index_key(index.schema, item, key)
            if entry_key is None:
                continue
            if index.projection == "ALL":
                entries.append(LocalEntry(index.slot, entry_key, None, 0))
                sizes.append(row.size)
                continue
            kept: Item = projected(index.schema, index.projection, index.included, item)
            size = item_size(kept)
            entries.append(LocalEntry(index.slot, entry_key, dumps(kept), size))
            sizes.append(size)
        return Derived(tuple(entries), tuple(sizes))

    def collection(self, key: bytes) -> bytes:
        """What the keys of all items of the row's item collection begin with."""
        return collection_of(key)

    def footprint(self, key: bytes, row: Row | None) -> int:
        """Bytes that a row adds to its item collection: its own and those of its entries."""
        return (row.size if row is not None else 0) + sum(self.derive(key, row).sizes)
