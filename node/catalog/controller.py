"""What the metadata leader does by itself: tables become ACTIVE, and disappear, when their partitions say so; and so do
their indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodyne.catalog import TableRecord, TableStatus
from geodyne.writemodes import WRITES
from node.catalog import kinesis, streams, triggers, ttl, writemodes
from node.catalog.indexes import leaving_partitions, live_partitions
from node.catalog.machine import (
    ACTIVATE,
    BEGIN_STREAM,
    FORGET,
    FORGET_STREAMS,
    KINESIS_SETTLED,
    MAPPING_SETTLED,
    TTL_SETTLED,
    WRITES_APPLIED,
    WRITES_GIVEN_UP,
    Catalog,
)

PLANNED_AT_ONCE_MAX = 64


def plan(catalog: Catalog, led: Mapping[int, int], now_ms: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """The control operations that are due. `led`: partition -> the definition revision its leader has applied.

    Repeating an operation is harmless: each checks that it still applies.
    """
    due: list[tuple[str, dict[str, Any]]] = []
    for table in catalog.tables.values():
        if len(due) >= PLANNED_AT_ONCE_MAX:
            break
        if table.status in (TableStatus.CREATING, TableStatus.UPDATING) and table.leaving is None:
            if _applied(table, led) and not any(partition.id in led for partition in leaving_partitions(table)):
                due.append((ACTIVATE, {"name": table.name, "revision": table.revision}))
        elif table.status is TableStatus.DELETING and not any(p.id in led for p in table.all_partitions):
            due.append((FORGET, {"name": table.name, "id": table.id}))
        if ttl.changing(table) and _applied(table, led):
            due.append((TTL_SETTLED, {"name": table.name, "revision": table.revision}))
        if WRITES in table.extra:
            due += _of_writes(table, led, now_ms)
        if table.kinesis and kinesis.changing(table) and _applied(table, led):
            due.append((KINESIS_SETTLED, {"name": table.name, "revision": table.revision}))
        if table.stream_view is not None or table.streams:
            due += _of_streams(catalog, table, now_ms)
    for uuid, mapping in catalog.mappings.items():
        if len(due) >= PLANNED_AT_ONCE_MAX:
            break
        if triggers.unsettled(mapping):
            table_or_none = triggers.waits_for(mapping, catalog.tables)
            if table_or_none is None or _applied(table_or_none, led):
                due.append((MAPPING_SETTLED, {"name": uuid, "revision": mapping["revision"]}))
    return due


def _of_writes(table: TableRecord, led: Mapping[int, int], now_ms: int) -> list[tuple[str, dict[str, Any]]]:
    due: list[tuple[str, dict[str, Any]]] = []
    if attempt := writemodes.overdue(table, now_ms):
        due.append((WRITES_GIVEN_UP, {"name": table.name, "attempt": attempt}))
    elif writemodes.unapplied(table) and _applied(table, led):
        due.append((WRITES_APPLIED, {"name": table.name, "revision": table.revision}))
    return due


def _of_streams(catalog: Catalog, table: TableRecord, now_ms: int) -> list[tuple[str, dict[str, Any]]]:
    due: list[tuple[str, dict[str, Any]]] = []
    if table.status is not TableStatus.DELETING:
        if streams.unbegun(table) and streams.known(catalog.members):
            due.append((BEGIN_STREAM, {"name": table.name}))
        if streams.outlived(table, now_ms):
            due.append((FORGET_STREAMS, {"name": table.name}))
    return due


def _applied(table: TableRecord, led: Mapping[int, int]) -> bool:
    """All partitions of the table that are to stay have applied its definition."""
    return all(led.get(partition.id, -1) >= table.revision for partition in live_partitions(table))
