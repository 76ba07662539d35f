"""The replicas of a table as its region's record has them: asked for, and as the region's replicator reports. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import (
    REPLICA_ADDED,
    REPLICA_PROGRESS,
    REPLICA_TROUBLES,
    SOURCED_MS,
    TO_COMPARE,
    ReplicaStatus,
    TableRecord,
    TableStatus,
)
from geodyne.errors import ApiError, replica_exists
from node.catalog import writemodes

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,255}")
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def changed(table: TableRecord, body: Mapping[str, Any], own_region: str, now_ms: int) -> TableRecord:
    """With replicas on their way in (`replicas_add`) or out (`replicas_remove`). Raises ApiError."""
    group = dict(table.replicas) or {own_region: ReplicaStatus.ACTIVE}
    for region in body.get("replicas_add", ()):
        if region in group:
            raise ApiError("ValidationException", replica_exists(table.name))
        group[region] = ReplicaStatus.CREATING
        table = _note(replace(table, extra={**table.extra, SOURCED_MS: now_ms}), REPLICA_ADDED, region, now_ms)
    for region in body.get("replicas_remove", ()):
        if region not in group:
            raise ApiError(
                "ValidationException", f"Replica not found in region {region} for table with name: '{table.name}'"
            )
        writemodes.check_removable(table, region)
        group[region] = ReplicaStatus.DELETING
        table = without_news(table, region)
    return replace(table, replicas=group)


def joined(table: TableRecord, members: dict[str, str], added: Mapping[str, int]) -> TableRecord:
    """With members that another region has told of, and since when it is adding them."""
    for region in members.keys() - table.replicas.keys() & added.keys():
        table = _note(table, REPLICA_ADDED, region, added[region])
    return replace(table, replicas=members)


def check_offered(name: str, table_id: str) -> None:
    """A table that another region says is to be made here: a name that users may give, an id that is part of files'
    names. Raises ApiError."""
    if not (_NAME.fullmatch(name) and _ID.fullmatch(table_id)):
        raise ApiError("ValidationException", "No table that another region may have made here")


def name_taken(table: TableRecord) -> ApiError:
    """Another region wants a replica here whose name this other table has. One that goes leaves the name."""
    if table.status is TableStatus.DELETING:
        return ApiError("ResourceInUseException", f"Table is being deleted: {table.name}")
    return ApiError("TableAlreadyExistsException", f"Table already exists: {table.name}")


def reported(table: TableRecord, body: Mapping[str, Any], revision: int) -> TableRecord:
    """After SET_REPLICA; the same table when that says nothing new, or of a status that the replica does not have."""
    region, wanted = body["region"], body["status"]
    status = table.replicas.get(region)
    if status != body.get("expected", status):
        return table
    if status == wanted:
        if status == ReplicaStatus.ACTIVE:
            return _compared(table, region, body.get("compared"))
        return _told(table, region, body) if status in (ReplicaStatus.CREATING, ReplicaStatus.DELETING) else table
    table = without_news(replace(table, replicas={**table.replicas, region: wanted}), region)
    if wanted == ReplicaStatus.ACTIVE:
        return _note(table, REPLICA_ADDED, region, None)
    if wanted != ReplicaStatus.CREATION_FAILED:
        return table
    table = _note(table, REPLICA_TROUBLES, region, body.get("trouble") or None)
    return replace(table, status=TableStatus.UPDATING, revision=revision)  # nothing is kept for it any more


def without_news(table: TableRecord, region: str) -> TableRecord:
    """The replica is no longer on its way, or on another: what was told of that is over."""
    return _note(_note(table, REPLICA_PROGRESS, region, None), REPLICA_TROUBLES, region, None)


def without(table: TableRecord, region: str, own_region: str, revision: int) -> TableRecord:
    """A replica is gone. The others are to be compared: what it had sent to some of them alone, nobody sends on."""
    rest = {name: status for name, status in table.replicas.items() if name != region}
    table = _note(_note(replace(table, replicas=rest), TO_COMPARE, region, None), REPLICA_ADDED, region, None)
    if table.leaving is not None:  # it is no replica itself soon
        return table
    for name in rest.keys() - {own_region}:
        table = _note(table, TO_COMPARE, name, revision)
    return table


def _compared(table: TableRecord, region: str, revision: int | None) -> TableRecord:
    """Found the same in both regions, by a comparison that began when the record asked for it since `revision`."""
    asked = table.extra.get(TO_COMPARE, {}).get(region)
    return _note(table, TO_COMPARE, region, None) if revision is not None and asked == revision else table


def _told(table: TableRecord, region: str, body: Mapping[str, Any]) -> TableRecord:
    """With news of a replica that is, and stays, on its way."""
    if "progress" in body and body["status"] == ReplicaStatus.CREATING:
        table = _note(table, REPLICA_PROGRESS, region, body["progress"])
    if "trouble" in body:
        table = _note(table, REPLICA_TROUBLES, region, body["trouble"] or None)
    return table


def _note(table: TableRecord, member: str, region: str, value: object) -> TableRecord:
    """The same table when that is noted of the region already; None: nothing is."""
    told = table.extra.get(member, {})
    if told.get(region) == value:
        return table
    notes = {name: kept for name, kept in {**told, region: value}.items() if kept is not None}
    extra = {name: kept for name, kept in table.extra.items() if name != member}
    return replace(table, extra=extra | ({member: notes} if notes else {}))
