"""The indexes of a table as control operations change them. Pure.

A global index comes with its table or later. One that comes later is CREATING until every partition of the table has
applied the marker that names it (its changes are then in the feed), then `backfilling` until each has sent the rows
that it had; one that goes is DELETING until nothing leads its partitions any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import IndexRecord, IndexStatus, PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError

PARTITIONS_OF_AN_INDEX = 2
Partitions = Callable[[int], tuple[PartitionRecord, ...]]


def made(
    definitions: Iterable[Mapping[str, Any]], revision: int, new_partitions: Partitions
) -> tuple[IndexRecord, ...]:
    """The indexes of a new table: local ones in slots 1 to 5, global ones with partitions of their own."""
    indexes: list[IndexRecord] = []
    slot = 0
    for definition in definitions:
        if definition["is_global"]:
            indexes.append(_global(definition, revision, new_partitions))
        else:
            slot += 1
            indexes.append(_record(definition, revision=revision, slot=slot))
    return tuple(indexes)


def added(table: TableRecord, definition: Mapping[str, Any], revision: int, new_partitions: Partitions) -> TableRecord:
    """With one more global index. Raises ApiError."""
    if table.index(definition["name"]) is not None:
        raise ApiError("ValidationException", "Attempting to create an index which already exists")
    _only_one_at_a_time(table)
    return replace(table, indexes=(*table.indexes, _global(definition, revision, new_partitions)))


def removed(table: TableRecord, name: str) -> TableRecord:
    """With the global index on its way out. Raises ApiError."""
    index = _global_index(table, name)
    _only_one_at_a_time(table, but=name)
    return _with(table, replace(index, status=IndexStatus.DELETING, backfilling=False, filled=()))


def updated(table: TableRecord, changes: Mapping[str, Mapping[str, Any]]) -> TableRecord:
    """With other throughput or `extra` of some global indexes. Raises ApiError."""
    for name, change in changes.items():
        index = _global_index(table, name)
        status = IndexStatus.UPDATING if index.status is IndexStatus.ACTIVE else index.status
        units = {unit: change[unit] for unit in ("read_units", "write_units") if unit in change}
        index = replace(index, status=status, extra=merged(index.extra, change.get("extra", {})), **units)
        table = _with(table, index)
    return table


def activated(table: TableRecord) -> tuple[IndexRecord, ...]:
    """The indexes once all partitions have applied the table's definition, and those of a removed one are gone.
    `table` as it was before it became ACTIVE."""
    return tuple(_activated(index, table) for index in table.indexes if index.status is not IndexStatus.DELETING)


def filled(table: TableRecord, name: str, revision: int, partition: int) -> TableRecord:
    """Partition `partition` of the table has sent its rows; the same table when that is no news."""
    index = table.index(name)
    if index is None or index.revision != revision or not index.backfilling or partition in index.filled:
        return table
    done = {*index.filled, partition}
    if done.issuperset(each.id for each in table.partitions):
        index = replace(index, status=IndexStatus.ACTIVE, backfilling=False, filled=())
    else:
        index = replace(index, filled=tuple(sorted(done)))
    return _with(table, index)


def live_partitions(table: TableRecord) -> tuple[PartitionRecord, ...]:
    """Those of the table and of its indexes that nodes are to hold."""
    if not table.indexes:
        return table.partitions
    kept = [index.partitions for index in table.indexes if index.status is not IndexStatus.DELETING]
    return (*table.partitions, *(partition for partitions in kept for partition in partitions))


def leaving_partitions(table: TableRecord) -> tuple[PartitionRecord, ...]:
    leaving = [index.partitions for index in table.indexes if index.status is IndexStatus.DELETING]
    return tuple(partition for partitions in leaving for partition in partitions)


def merged(extra: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Members of `changes` take the place of those of `extra`; one that is None goes."""
    return {name: value for name, value in {**extra, **changes}.items() if value is not None}


def _activated(index: IndexRecord, table: TableRecord) -> IndexRecord:
    if index.status is IndexStatus.UPDATING:
        return replace(index, status=IndexStatus.ACTIVE)
    if index.status is not IndexStatus.CREATING or index.backfilling:
        return index
    if table.status is TableStatus.CREATING:  # it came with the table, which has no rows
        return replace(index, status=IndexStatus.ACTIVE)
    return replace(index, backfilling=True)


def _global(definition: Mapping[str, Any], revision: int, new_partitions: Partitions) -> IndexRecord:
    partitions = new_partitions(PARTITIONS_OF_AN_INDEX)
    return _record(definition, status=IndexStatus.CREATING, revision=revision, partitions=partitions)


def _record(definition: Mapping[str, Any], **members: Any) -> IndexRecord:
    return IndexRecord(
        name=definition["name"],
        is_global=definition["is_global"],
        hash_keys=tuple((name, key_type) for name, key_type in definition["hash_keys"]),
        range_keys=tuple((name, key_type) for name, key_type in definition["range_keys"]),
        projection=definition["projection"],
        included=tuple(definition.get("included", ())),
        read_units=definition.get("read_units", 0),
        write_units=definition.get("write_units", 0),
        extra=dict(definition.get("extra", {})),
        **members,
    )


def _global_index(table: TableRecord, name: str) -> IndexRecord:
    index = table.index(name)
    if index is None or not index.is_global:
        raise ApiError("ResourceNotFoundException", "Requested resource not found")
    return index


def _only_one_at_a_time(table: TableRecord, but: str = "") -> None:
    if any(index.status is IndexStatus.CREATING and index.name != but for index in table.indexes):
        raise ApiError(
            "LimitExceededException",
            "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table",
        )


def _with(table: TableRecord, changed: IndexRecord) -> TableRecord:
    indexes = tuple(changed if index.name == changed.name else index for index in table.indexes)
    return replace(table, indexes=indexes)
