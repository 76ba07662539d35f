"""A replica leaves its global table and stays as a table of its own, its rows kept. Pure.

What is asked is the documented Disassociate (AWS developer guide, "Disassociating a global table replica"): the replica
of the region that was asked leaves, after the changes under way have arrived. It goes through two stages, kept in the
table's record, which is UPDATING meanwhile:

    waiting  until all that was written in any region up to `through_us` is in the others and here. Not by
             `give_up_ms`: the table goes on as a replica
    fenced   from here on there is no way back. Of what is written here, only versions up to `through_us` go to the
             other regions, so that these stay alike; once they have them they forget this one, and it them
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from geodyne.catalog import (
    DISASSOCIATION_PROTECTION,
    LEAVING,
    Leaving,
    LeavingStage,
    ReplicaStatus,
    TableRecord,
    TableStatus,
)
from geodyne.errors import ApiError

WAIT_MS_MAX = 30 * 60_000  # of the first stage
# Between a request and the version it waits for. No version that is in a partition is as far ahead of the clocks:
# replicators hold what is (replication.values.CLOCK_SKEW_MS_MAX). So all that was written before the request counts.
BEYOND_MS = 11_000


def begun(table: TableRecord, own_region: str, now_ms: int) -> TableRecord:
    """The replica of the region is to leave. Raises ApiError."""
    if not table.is_global:
        raise ApiError("ValidationException", f"Table {table.name} is not a replica of a global table")
    if table.extra.get(DISASSOCIATION_PROTECTION, True):
        raise ApiError(
            "ValidationException",
            "Replica cannot be disassociated as it is currently protected against disassociation. "
            "Disable disassociation protection first.",
        )
    changing = [region for region, status in table.replicas.items() if status != ReplicaStatus.ACTIVE]
    if changing:
        raise ApiError(
            "ResourceInUseException",
            f"Replicas of table {table.name} are being added or removed: {', '.join(sorted(changing))}",
        )
    leaving = Leaving(LeavingStage.WAITING, _beyond_us(now_ms), now_ms + WAIT_MS_MAX)
    return _with(table, leaving)


def concluded(table: TableRecord, through_us: int, *, arrived: bool, now_ms: int, revision: int) -> TableRecord:
    """The first stage is over: all is there, or it took too long. The same table if that is known already."""
    leaving = table.leaving
    if leaving is None or leaving.stage is not LeavingStage.WAITING or leaving.through_us != through_us:
        return table
    if arrived:
        return _with(table, Leaving(LeavingStage.FENCED, _beyond_us(now_ms), 0))
    extra = {name: value for name, value in table.extra.items() if name != LEAVING}
    return replace(table, extra=extra, revision=revision, status=TableStatus.UPDATING)


def alone(table: TableRecord) -> TableRecord:
    """A table that has no other replicas any more: what it was told as a replica is over."""
    gone = (LEAVING, DISASSOCIATION_PROTECTION)
    return replace(table, replicas={}, extra={name: value for name, value in table.extra.items() if name not in gone})


def check_admissible(table: TableRecord) -> None:
    """Another region says that this table is a replica of its own. Raises ApiError: it is leaving, or has left, and
    takes part in nothing by an old word, nor by a new one, since as a table of its own it has its name to itself."""
    if table.leaving is not None:
        raise ApiError("ResourceInUseException", f"Table is being disassociated: {table.name}")
    if not table.is_global and table.status is not TableStatus.DELETING:
        raise ApiError("ResourceInUseException", f"Table already exists: {table.name}")


def _with(table: TableRecord, leaving: Leaving) -> TableRecord:
    extra: dict[str, Any] = {**table.extra, LEAVING: leaving.to_json()}
    return replace(table, extra=extra)


def _beyond_us(now_ms: int) -> int:
    return (now_ms + BEYOND_MS) * 1000
