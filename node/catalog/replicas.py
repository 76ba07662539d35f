"""The status of a replica, as its region's peers see it, and how far one that is being filled has come. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import REPLICA_PROGRESS, ReplicaStatus, TableRecord


def reported(table: TableRecord, body: Mapping[str, Any]) -> TableRecord:
    """After SET_REPLICA; the same table when that says nothing new, or of a status that the replica does not have."""
    region, wanted = body["region"], body["status"]
    status = table.replicas.get(region)
    if status != body.get("expected", status):
        return table
    percent = body.get("progress")
    if percent is not None and status == wanted == ReplicaStatus.CREATING:
        told = table.extra.get(REPLICA_PROGRESS, {})
        if told.get(region) == percent:
            return table
        return replace(table, extra={**table.extra, REPLICA_PROGRESS: {**told, region: percent}})
    if status == wanted:
        return table
    return without_progress(replace(table, replicas={**table.replicas, region: wanted}), region)


def without_progress(table: TableRecord, region: str) -> TableRecord:
    """The replica is no longer being filled."""
    told = {name: percent for name, percent in table.extra.get(REPLICA_PROGRESS, {}).items() if name != region}
    extra = {name: value for name, value in table.extra.items() if name != REPLICA_PROGRESS}
    return replace(table, extra=extra | ({REPLICA_PROGRESS: told} if told else {}))
