"""What the metadata leader does by itself: tables become ACTIVE, and disappear, when their partitions say so; and so do
their indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodyne.catalog import TableStatus
from node.catalog.indexes import leaving_partitions, live_partitions
from node.catalog.machine import ACTIVATE, FORGET, Catalog

PLANNED_AT_ONCE_MAX = 64


def plan(catalog: Catalog, led: Mapping[int, int]) -> list[tuple[str, dict[str, Any]]]:
    """The control operations that are due. `led`: partition -> the definition revision its leader has applied.

    Repeating an operation is harmless: each checks that it still applies.
    """
    due: list[tuple[str, dict[str, Any]]] = []
    for table in catalog.tables.values():
        if len(due) >= PLANNED_AT_ONCE_MAX:
            break
        if table.status in (TableStatus.CREATING, TableStatus.UPDATING):
            applied = all(led.get(partition.id, -1) >= table.revision for partition in live_partitions(table))
            if applied and not any(partition.id in led for partition in leaving_partitions(table)):
                due.append((ACTIVATE, {"name": table.name, "revision": table.revision}))
        elif table.status is TableStatus.DELETING and not any(p.id in led for p in table.all_partitions):
            due.append((FORGET, {"name": table.name, "id": table.id}))
    return due
