"""A replica leaves its global table and stays as a table of its own, its rows kept. Pure.

What is asked is the documented Disassociate (AWS developer guide, "Disassociating a global table replica"): the replica
of the region that was asked leaves, after the changes under way have arrived. It goes through two stages, kept in the
table's record, which is UPDATING meanwhile:

    waiting  until all that was written in any region up to `through_us` is in the others and here. Not by
             `give_up_ms`: the table goes on as a replica
    fenced   from here on there is no way back. Of what is written here, only versions up to `through_us` go to the
             other regions, so that these stay alike; once they have them they forget this one, and it them

DeleteTable of a replica goes the same way from the second stage on, and its table is deleted at the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from geodyne import overrides
from geodyne.catalog import (
    CONFLICT_LOG,
    DISASSOCIATION_PROTECTION,
    LEAVING,
    SOURCED_MS,
    TO_COMPARE,
    Leaving,
    LeavingStage,
    ReplicaStatus,
    TableRecord,
    TableStatus,
)
from geodyne.errors import ApiError
from geodyne.writemodes import WRITES
from node.catalog import news
from node.catalog.replicas import name_taken, without, without_news
from node.catalog.writemodes import check_removable

WAIT_MS_MAX = 30 * 60_000  # of the first stage
# Between a request and the version it waits for. No version that is in a partition is as far ahead of the clocks:
# replicators hold what is (replication.values.CLOCK_SKEW_MS_MAX). So all that was written before the request counts.
BEYOND_MS = 11_000
SOURCE_KEPT_MS = 86_400_000


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
    check_removable(table, own_region)
    _check_settled(table)
    leaving = Leaving(LeavingStage.WAITING, _beyond_us(now_ms), now_ms + WAIT_MS_MAX)
    return _with(table, leaving)


def deleted(table: TableRecord, own_region: str, now_ms: int, *, as_replica: bool) -> TableRecord:
    """DeleteTable was asked, of a replica (`as_replica`) by a region that all others have obeyed already. Else a
    replica goes straight to the second stage, since nobody needs what the others write here: once they have what was
    written here they forget this replica, and its table goes. Raises ApiError.

    A region that replicas were added from stays for a day (observed of the service; AWS developer guide, "Global
    tables": deleting a replica)."""
    if table.deletion_protection:
        raise ApiError(
            "ValidationException",
            "Resource cannot be deleted as it is currently protected against deletion. "
            "Disable deletion protection first.",
        )
    if as_replica or not set(table.replicas) - {own_region}:
        return replace(table, status=TableStatus.DELETING)
    if now_ms - table.extra.get(SOURCED_MS, -SOURCE_KEPT_MS) < SOURCE_KEPT_MS:
        raise ApiError(
            "ValidationException",
            "Replica cannot be deleted because it has acted as a source region for new replica(s) being added to the "
            "table in the last 24 hours.",
        )
    check_removable(table, own_region)
    _check_settled(table)
    leaving = Leaving(LeavingStage.FENCED, _beyond_us(now_ms), 0, deletes=True)
    return replace(_with(table, leaving), status=TableStatus.UPDATING)


def concluded(table: TableRecord, through_us: int, *, arrived: bool, now_ms: int, revision: int) -> TableRecord:
    """The first stage is over: all is there, or it took too long. The same table if that is known already."""
    leaving = table.leaving
    if leaving is None or leaving.stage is not LeavingStage.WAITING or leaving.through_us != through_us:
        return table
    if arrived:
        return _with(table, Leaving(LeavingStage.FENCED, _beyond_us(now_ms), 0))
    extra = {name: value for name, value in table.extra.items() if name != LEAVING}
    return replace(table, extra=extra, revision=revision, status=TableStatus.UPDATING)


def dropped(table: TableRecord, region: str, own_region: str, revision: int) -> TableRecord:
    """Without the replica of another region. With the last one the table is its own, or goes if that was asked. The
    same table when there is no such replica."""
    if region not in table.replicas:
        return table
    deletes = table.leaving is not None and table.leaving.deletes
    table = without(news.told(table, region), region, own_region, revision)
    table = replace(table, status=TableStatus.UPDATING, revision=revision)
    table = overrides.pruned(without_news(table, region))
    if set(table.replicas) != {own_region}:
        return table
    return replace(alone(table, own_region), status=TableStatus.DELETING if deletes else TableStatus.UPDATING)


def alone(table: TableRecord, own_region: str) -> TableRecord:
    """A table that has no other replicas any more: what it was told as a replica is over."""
    table = overrides.alone(table, own_region)
    gone = (CONFLICT_LOG, LEAVING, DISASSOCIATION_PROTECTION, SOURCED_MS, TO_COMPARE, WRITES)
    return replace(table, replicas={}, extra={name: value for name, value in table.extra.items() if name not in gone})


def check_admissible(table: TableRecord) -> None:
    """Another region says that this table is a replica of its own. Raises ApiError: it is leaving, or has left, and
    takes part in nothing by an old word, nor by a new one, since as a table of its own it has its name to itself."""
    if table.leaving is not None:
        raise ApiError("ResourceInUseException", f"Table is being disassociated: {table.name}")
    if not table.is_global and table.status is not TableStatus.DELETING:
        raise name_taken(table)


def _check_settled(table: TableRecord) -> None:
    changing = [region for region, status in table.replicas.items() if status != ReplicaStatus.ACTIVE]
    if changing:
        raise ApiError(
            "ResourceInUseException",
            f"Replicas of table {table.name} are being added or removed: {', '.join(sorted(changing))}",
        )


def _with(table: TableRecord, leaving: Leaving) -> TableRecord:
    extra: dict[str, Any] = {**table.extra, LEAVING: leaving.to_json()}
    return replace(table, extra=extra)


def _beyond_us(now_ms: int) -> int:
    return (now_ms + BEYOND_MS) * 1000
