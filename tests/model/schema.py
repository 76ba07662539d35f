"""The tables of the generated sequences: one without a sort key, one with indexes, one with binary keys."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.model.values import Invalid, Item, tag

KEY_TYPES = {"pk": "S", "sk": "N", "a": "S", "n": "N", "g": "S", "c": "N"}


class Index(NamedTuple):
    name: str
    is_global: bool
    keys: tuple[str, ...]  # of the index: the attributes of its partition key, then those of its sort key
    projected: tuple[str, ...] | None  # besides all keys; None: everything
    partition_keys: int = 1  # how many of the keys

    def entry(self, table: Table, item: Item) -> Item | None:
        """What the index holds of an item; None when a key of the index is missing."""
        if any(key not in item for key in self.keys):
            return None
        if self.projected is None:
            return item
        kept = {*self.keys, *table.keys, *self.projected}
        return {name: value for name, value in item.items() if name in kept}


class Table(NamedTuple):
    name: str
    types: dict[str, str]  # of the table's own keys, in order
    indexes: tuple[Index, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.types)

    def find_index(self, name: str) -> Index:
        return next(index for index in self.indexes if index.name == name)

    def key_of(self, item: Item) -> Item:
        return {name: item[name] for name in self.keys}

    def check_item(self, item: Item) -> None:
        """Keys of table and indexes. Raises Invalid."""
        for name, kind in self.types.items():
            if name not in item or tag(item[name]) != kind or item[name][kind] == "":
                raise Invalid(f"the key {name}")
        for index in self.indexes:
            for name in index.keys:
                if name in item and (tag(item[name]) != KEY_TYPES[name] or item[name][KEY_TYPES[name]] == ""):
                    raise Invalid(f"the index key {name}")

    def definition(self) -> dict[str, Any]:
        """CreateTable's request."""
        types = dict(self.types)
        made: dict[str, Any] = {}
        for index in self.indexes:
            types |= {name: KEY_TYPES[name] for name in index.keys}
            projection: dict[str, Any] = {"ProjectionType": "ALL"}
            if index.projected is not None:
                projection = {"ProjectionType": "INCLUDE" if index.projected else "KEYS_ONLY"}
                projection |= {"NonKeyAttributes": list(index.projected)} if index.projected else {}
            group = "GlobalSecondaryIndexes" if index.is_global else "LocalSecondaryIndexes"
            entry = {
                "IndexName": index.name,
                "KeySchema": _schema(index.keys, index.partition_keys),
                "Projection": projection,
            }
            made.setdefault(group, []).append(entry)
        attributes = [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]
        return {
            "TableName": self.name,
            "KeySchema": _schema(self.keys),
            "AttributeDefinitions": attributes,
            "BillingMode": "PAY_PER_REQUEST",
            **made,
        }


def _schema(keys: tuple[str, ...], partition_keys: int = 1) -> list[dict[str, str]]:
    kinds = ["HASH" if place < partition_keys else "RANGE" for place in range(len(keys))]
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(keys, kinds, strict=True)]


PLAIN = Table("model-plain", {"pk": "S"})
SORTED = Table("model-sorted", {"pk": "S", "sk": "N"})
BINARY = Table("model-binary", {"pk": "B", "sk": "B"})
INDEXED = Table(
    "model-indexed",
    {"pk": "S", "sk": "N"},
    (
        Index("local-a", False, ("pk", "a"), ()),
        Index("local-n", False, ("pk", "n"), ("b",)),
        Index("global-g-n", True, ("g", "n"), None),
        Index("global-a", True, ("a",), ()),
        Index("global-many", True, ("g", "a", "c", "n"), ("b",), 2),
    ),
)
TABLES = {table.name: table for table in (PLAIN, SORTED, BINARY, INDEXED)}
