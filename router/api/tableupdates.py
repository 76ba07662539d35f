"""UpdateTable: one kind of change at a time, and never a change that changes nothing.

The body of the control operation holds only what changes (geodyne.catalog.ControlOperation.UPDATE_TABLE).
"""

from __future__ import annotations

from typing import Any

import orjson

from geodyne import overrides
from geodyne.catalog import ControlOperation, IndexRecord, TableRecord, TableStatus
from geodyne.errors import validation
from router.api.context import Context
from router.api.control import check_not_busy, control
from router.api.describe import describe
from router.api.indexupdates import check_index_updates, index_changes
from router.api.parameters import Body
from router.api.quotas import check_changed_table
from router.api.refusals import INVALID, not_supported
from router.api.replicaupdates import disassociation_protection, replica_change
from router.api.shapes import validator
from router.api.tablerecords import not_found
from router.api.tables import check_encryption
from router.api.throughput import (
    ON_DEMAND,
    PROVISIONED,
    REMOVED,
    Units,
    changed_ceilings,
    check_units_change,
    provisioned_units,
    raised_warm,
    times_of_change,
    units_on_demand,
    warm_units,
)

_check_update = validator("UpdateTable")

_CHANGES = (
    "ProvisionedThroughput",
    "BillingMode",
    "StreamSpecification",
    "GlobalSecondaryIndexUpdates",
    "SSESpecification",
    "ReplicaUpdates",
    "MultiRegionConsistency",
    "DeletionProtectionEnabled",
    "OnDemandThroughput",
    "WarmThroughput",
    "TableClass",
    "VectorIndexUpdates",
    "GlobalTableWitnessUpdates",
    "GlobalTableSettingsReplicationMode",
    "DisassociationProtectionEnabled",
)
_REFUSED = (
    "VectorIndexUpdates",
    "GlobalTableWitnessUpdates",
    "GlobalTableSettingsReplicationMode",
)
# Each of these must be the only change of a request; the first one present names the error.
_ALONE = {
    "ReplicaUpdates": "Replica modification must be the only operation in the request",
    "TableClass": "TableClass modification must be the only operation in the request",
    "DeletionProtectionEnabled": "DeletionProtection modification must be the only operation in the request",
    "DisassociationProtectionEnabled": "DisassociationProtection modification must be the only operation in the "
    "request",
    "SSESpecification": "Server-Side Encryption modification must be the only operation in the request",
}
_NOTHING = (
    "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates, "
    "SSESpecification, ReplicaUpdates, MultiAccountReplicaReady, ReplicaTransitRoleArn, MultiRegionConsistency, "
    "DeletionProtectionEnabled, OnDemandThroughput, WarmThroughput or TableClass is required"
)


async def update_table(body: Body, context: Context) -> bytes:
    """UpdateTable. Raises ApiError."""
    _check_update(body)
    _check_one_kind(body)
    _check_units(body)
    check_index_updates(body)
    name = context.tables.name_of(body["TableName"])
    record = context.region_client.catalog.tables.get(name)
    if record is None:
        raise not_found(name)
    check_not_busy(record)
    record = overrides.effective(record, context.region)
    change = _change(body, record, context)
    before = record
    check_changed_table(change, record, context.region_client.catalog.tables)
    if change:
        record = await control(context, ControlOperation.UPDATE_TABLE, {"name": name, **change})
    description = describe(record, context)
    if record.status == TableStatus.UPDATING:
        _show_units_of(before, description)
    removed = [member for member, units in (body.get("OnDemandThroughput") or {}).items() if units == REMOVED]
    if removed:  # this one answer repeats what was asked
        description["OnDemandThroughput"] = description.get("OnDemandThroughput", {}) | dict.fromkeys(removed, REMOVED)
    return orjson.dumps({"TableDescription": description})


def _show_units_of(before: TableRecord, description: dict[str, Any]) -> None:
    """Until a table is ACTIVE again it has the provisioned units that it had before the call."""
    description["ProvisionedThroughput"] |= _units_of(before)
    for described in description.get("GlobalSecondaryIndexes", []):
        index = before.index(described["IndexName"])
        if index is not None:
            described["ProvisionedThroughput"] |= _units_of(index)


def _units_of(record: TableRecord | IndexRecord) -> dict[str, int]:
    return {"ReadCapacityUnits": record.read_units, "WriteCapacityUnits": record.write_units}


def _check_one_kind(body: Body) -> None:
    present = [name for name in _CHANGES if _is_asked(body.get(name))]
    if not present:
        raise validation(_NOTHING)
    others = len([name for name in present if name != "MultiRegionConsistency"])  # it goes with a change of replicas
    for name, sentence in _ALONE.items():
        if name in present and others > 1:
            raise validation(INVALID + sentence)
    throughput = "ProvisionedThroughput" in present or "BillingMode" in present
    if throughput and "StreamSpecification" in present:
        raise validation(f"{INVALID}You cannot modify stream status while updating table IOPS")
    for name in present:
        if name in _REFUSED:
            raise not_supported(name)
    if "MultiRegionConsistency" in present:
        _check_consistency(body)
    check_encryption(body)
    if "SSESpecification" in present:
        raise validation(f"{INVALID}Table is already encrypted by default")


def _check_consistency(body: Body) -> None:
    """Only what there is, and only with replicas that are added (the service model says so)."""
    if body["MultiRegionConsistency"] != "EVENTUAL":
        raise not_supported(f"MultiRegionConsistency {body['MultiRegionConsistency']}")
    if not any(update.get("Create") is not None for update in body.get("ReplicaUpdates") or ()):
        raise validation(
            f"{INVALID}MultiRegionConsistency can be specified only when replicas are created through ReplicaUpdates"
        )


def _check_units(body: Body) -> None:
    throughput = body.get("ProvisionedThroughput")
    if throughput is not None:
        if body.get("BillingMode") == ON_DEMAND:
            raise units_on_demand()
        provisioned_units(throughput)


def _is_asked(value: Any) -> bool:
    """An empty list or structure asks for nothing."""
    return value is not None and value not in ([], {})


def _change(body: Body, record: TableRecord, context: Context) -> dict[str, Any]:
    change: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    now_ms = context.now_ms()
    mode = body.get("BillingMode") or record.billing_mode
    if body.get("ProvisionedThroughput") is not None or body.get("BillingMode") is not None:
        change, extra = _billing_change(body, record, now_ms)
    extra |= changed_ceilings(mode, body.get("OnDemandThroughput"), record.extra)
    units = change.get("read_units", record.read_units), change.get("write_units", record.write_units)
    extra |= raised_warm(body.get("WarmThroughput"), warm_units(mode, units, record.extra))
    change |= index_changes(body, record, mode, now_ms)
    if body.get("StreamSpecification") is not None:
        change |= _stream_change(body["StreamSpecification"], record)
    if body.get("ReplicaUpdates") is not None:
        change |= replica_change(body["ReplicaUpdates"], record, context)
    if body.get("DeletionProtectionEnabled") is not None:
        change["deletion_protection"] = body["DeletionProtectionEnabled"]
    if body.get("DisassociationProtectionEnabled") is not None:
        extra |= disassociation_protection(body["DisassociationProtectionEnabled"], record)
    if body.get("TableClass") is not None:
        change["table_class"] = body["TableClass"]
        extra["table_class_updated_ms"] = now_ms
    if extra:
        change["extra"] = extra
    return change


# --- throughput -----------------------------------------------------------------------------------------


def _billing_change(body: Body, record: TableRecord, now_ms: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Members of the control operation, and those of the record's `extra`."""
    mode = body.get("BillingMode") or record.billing_mode
    throughput = body.get("ProvisionedThroughput")
    if mode == ON_DEMAND:
        if throughput is not None:
            raise units_on_demand()
        if record.billing_mode == mode:
            return {}, {}
        return _settings(mode, (0, 0)), {"on_demand_since_ms": now_ms}
    if throughput is None:
        if record.billing_mode == mode:
            return {}, {}
        raise validation(f"{INVALID}ProvisionedThroughput must be specified when BillingMode is PROVISIONED")
    units = provisioned_units(throughput)
    if record.billing_mode == mode:
        current = record.read_units, record.write_units
        check_units_change(current, units)
        return _settings(mode, units), times_of_change(record.extra, current, units, now_ms)
    extra: dict[str, Any] = {"on_demand_since_ms": record.extra.get("on_demand_since_ms", record.created_ms)}
    if record.extra.get("on_demand_max"):
        extra["on_demand_max"] = None
    return _settings(PROVISIONED, units), extra


def _settings(mode: str, units: Units) -> dict[str, Any]:
    return {"billing_mode": mode, "read_units": units[0], "write_units": units[1]}


# --- the stream -----------------------------------------------------------------------------------------


def _stream_change(stream: dict[str, Any], record: TableRecord) -> dict[str, Any]:
    view = stream.get("StreamViewType")
    if stream["StreamEnabled"]:
        if view is None:
            raise validation(f"{INVALID}If stream is being enabled then UpdateViewType is required")
        if record.stream_view is not None:
            raise validation(f"Table already has an enabled stream: TableName: {record.name}")
        return {"stream": view}
    if view is not None:
        raise validation(f"{INVALID}If stream is being disabled, then UpdateViewType must not be specified")
    if record.stream_view is None:
        raise validation(f"Table has no stream to disable: TableName: {record.name}")
    if record.is_global:
        raise validation(f"{INVALID}Disabling Stream is not allowed for a Global Table replica.")
    return {"stream": None}
