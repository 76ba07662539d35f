"""What a region in memory does for indexes: entries derived from the rows, without any delay."""

from __future__ import annotations

from dataclasses import dataclass

from geodyne.catalog import IndexRecord, TableRecord
from geodyne.messages import Range, Write, Written
from geodyne.model.indexcost import index_write_units
from geodyne.model.indexkeys import IndexSchema, encode_index_key, projected
from geodyne.model.keys import KeySchema, hash_of
from geodyne.model.values import dumps, item_size, loads

Rows = dict[bytes, bytes]


@dataclass(frozen=True)
class Entries:
    """One index of a table, as nodes see it."""

    name: str
    slot: int
    schema: IndexSchema
    projection: str
    included: tuple[str, ...]

    @staticmethod
    def of(table: TableRecord, index: IndexRecord) -> Entries:
        key = KeySchema(table.hash_key, table.hash_type, table.range_key, table.range_type)
        schema = IndexSchema(index.hash_keys, index.range_keys, key)
        return Entries(index.name, index.slot, schema, index.projection, index.included)

    def entry(self, item_key: bytes, row: bytes) -> tuple[bytes, bytes] | None:
        item = loads(row)
        key = encode_index_key(self.schema, item, item_key)
        return None if key is None else (key, dumps(projected(self.schema, self.projection, self.included, item)))


def table_of(tables: dict[str, TableRecord], partition: int) -> TableRecord | None:
    return next((t for t in tables.values() if any(p.id == partition for p in t.partitions)), None)


def written(table: TableRecord, rows: dict[int, Rows], call: Write, old: bytes | None, answer: Written) -> Written:
    """The answer with what the indexes cost, after the global ones have followed the write."""
    new = rows[call.partition].get(call.key)
    for index in table.indexes:
        if index.is_global:
            entries = Entries.of(table, index)
            for row, put in ((old, False), (new, True)):
                entry = None if row is None else entries.entry(call.key, row)
                if entry is not None:
                    target = rows[index.partition_of(hash_of(entry[0])).id]
                    target.pop(entry[0], None)
                    target.update([entry] if put else [])
    local = [Entries.of(table, index) for index in table.indexes if not index.is_global]
    if call.capacity:
        images = [None if row is None else loads(row) for row in (old, new)]
        units = index_write_units((Entries.of(table, index) for index in table.indexes), *images)
        answer = answer._replace(index_writes=units)
    if local:
        size = sum(
            item_size(loads(row)) + sum(item_size(loads(e[1])) for each in local if (e := each.entry(key, row)))
            for key, row in rows[call.partition].items()
            if key[:8] == call.key[:8]
        )
        answer = answer._replace(collection_bytes=size)
    return answer


def local_rows(table: TableRecord, rows: Rows, call: Range) -> tuple[Rows, dict[bytes, bytes]]:
    """The entries of a local index in one partition, and the whole item of each."""
    index = next(index for index in table.indexes if index.slot == call.slot)
    entries = Entries.of(table, index)
    found = {e[0]: (e[1], row) for key, row in rows.items() if (e := entries.entry(key, row))}
    return {key: entry for key, (entry, _) in found.items()}, {key: row for key, (_, row) in found.items()}
