"""ReplicaUpdates of UpdateTable: replicas come, go, leave, or get settings of their own."""

from __future__ import annotations

from typing import Any

from geodyne import overrides
from geodyne.catalog import DISASSOCIATION_PROTECTION, ReplicaStatus, TableRecord
from geodyne.errors import replica_exists, validation
from geodyne.limits import THROUGHPUT_UNITS_MAX
from router.api.context import Context
from router.api.refusals import INVALID, not_supported
from router.api.throughput import ON_DEMAND, REMOVED

_ACTIONS = ("Create", "Update", "Delete", "Disassociate")
# What the service answers to an Update that changes nothing (observed; hashicorp/terraform-provider-aws#29102).
_UNCHANGED = f"{INVALID}KMSMasterKeyId must be specified for each replica."


def replica_change(updates: list[dict[str, Any]], record: TableRecord, context: Context) -> dict[str, Any]:
    """Members of UPDATE_TABLE for regions to add, to remove or to change: several at once, but of one kind, and each
    once. `record` is that of the asked region. Raises ValidationException."""
    if any(update.get("Disassociate") is not None for update in updates):
        return _disassociation(updates, context)
    named: dict[str, list[dict[str, Any]]] = {}
    for update in updates:
        actions = [name for name in _ACTIONS if update.get(name) is not None]
        if len(actions) != 1:
            raise validation("There are no actions specified in the Replica Update Action of the request.")
        named.setdefault(actions[0], []).append(update[actions[0]])
    if len(named) > 1:
        raise validation("Update table operation with more than one type of replica actions not allowed.")
    ((kind, actions_of_kind),) = named.items()
    regions = [action["RegionName"] for action in actions_of_kind]
    _check_regions(regions, context)
    if kind == "Create":
        _check_new(regions, record)
    else:
        _check_members(regions, record, removing=kind == "Delete")
    own = {action["RegionName"]: asked for action in actions_of_kind if (asked := _override(action, record))}
    if kind == "Update":
        _check_changes(regions, own, record)
        return {"overrides": own}
    key = "replicas_add" if kind == "Create" else "replicas_remove"
    return {key: regions} | ({"overrides": own} if own else {})


def _disassociation(updates: list[dict[str, Any]], context: Context) -> dict[str, Any]:
    """The replica that was asked leaves the global table. Whether it may is for the metadata group to say."""
    if len(updates) != 1 or [name for name, action in updates[0].items() if action is not None] != ["Disassociate"]:
        raise validation(f"{INVALID}Disassociate must be the only replica update in the request")
    if updates[0]["Disassociate"]["RegionName"] != context.region:
        raise validation(
            f"{INVALID}Disassociate must name the Region that the request is sent to, which is {context.region}"
        )
    return {"leave": True}


def disassociation_protection(enabled: bool, record: TableRecord) -> dict[str, Any]:
    """As a member of the record's `extra`: on, as long as nobody has switched it off."""
    if not record.is_global:
        raise validation(
            f"{INVALID}DisassociationProtectionEnabled can be specified only for a replica of a global table"
        )
    return {DISASSOCIATION_PROTECTION: None if enabled else False}


def _override(action: dict[str, Any], record: TableRecord) -> dict[str, Any]:
    """What a replica is to have of its own (geodyne.overrides); null takes one off."""
    if action.get("KMSMasterKeyId") is not None:
        raise not_supported("ReplicaUpdates.KMSMasterKeyId")
    own = _units(action, record)
    if action.get("TableClassOverride") is not None:
        own[overrides.TABLE_CLASS] = action["TableClassOverride"]
    indexes: dict[str, dict[str, Any]] = {}
    for index in action.get("GlobalSecondaryIndexes") or ():
        name = index["IndexName"]
        if name in indexes:
            raise validation(f"{INVALID}Duplicate index name: {name}")
        found = record.index(name)
        if found is None or not found.is_global:
            raise validation(f"{INVALID}The table does not have the specified index: {name}")
        indexes[name] = _units(index, record)
    return own | ({overrides.INDEXES: indexes} if any(indexes.values()) else {})


def _units(asked: dict[str, Any], record: TableRecord) -> dict[str, Any]:
    """The overrides of read capacity, of the table or one index, in the mode that the table is in."""
    units: dict[str, Any] = {}
    provisioned, on_demand = asked.get("ProvisionedThroughputOverride"), asked.get("OnDemandThroughputOverride")
    if provisioned is not None:
        if record.billing_mode == ON_DEMAND:
            raise validation(
                f"{INVALID}ProvisionedThroughputOverride cannot be specified when BillingMode is PAY_PER_REQUEST"
            )
        units[overrides.READ_UNITS] = _bounded(provisioned, "ReadCapacityUnits", "ProvisionedThroughputOverride")
    if on_demand is not None:
        if record.billing_mode != ON_DEMAND:
            raise validation(
                f"{INVALID}MaxReadRequestUnits for OnDemandThroughputOverride cannot be specified when the table "
                "BillingMode is PROVISIONED"
            )
        most = _bounded(on_demand, "MaxReadRequestUnits", "OnDemandThroughputOverride")
        units[overrides.ON_DEMAND_READ] = None if most == REMOVED else most
    return units


def _bounded(asked: dict[str, Any], member: str, of: str) -> int:
    if asked.get(member) is None:
        raise validation(f"{INVALID}{member} must be specified for {of}")
    units = int(asked[member])
    if units < 1 and units != REMOVED:
        raise validation(f"{INVALID}{member} for {of} must be greater than or equal to 1")
    if units > THROUGHPUT_UNITS_MAX:
        raise validation(f"Given value {units} for {member} is out of bounds")
    return units


def _check_changes(regions: list[str], own: dict[str, dict[str, Any]], record: TableRecord) -> None:
    changed = overrides.asked(record, own)
    if any(overrides.override_of(changed, r) == overrides.override_of(record, r) for r in regions):
        raise validation(_UNCHANGED)


def _check_regions(regions: list[str], context: Context) -> None:
    if len(set(regions)) != len(regions):
        raise validation("Cannot target multiple regions with the same action")
    for region in regions:
        if region not in context.settings.regions:
            raise validation(
                f"Region {region} is not supported. The latest version of global tables are only supported in the "
                f"following regions: [{', '.join(sorted(context.settings.regions))}]"
            )
        if region == context.region:
            raise validation(
                "Cannot add, delete, or update the local region through ReplicaUpdates. Use CreateTable, DeleteTable, "
                "or UpdateTable as required."
            )


def _check_new(add: list[str], record: TableRecord) -> None:
    if any(region in record.replicas for region in add):
        raise validation(replica_exists(record.name))


def _check_members(regions: list[str], record: TableRecord, *, removing: bool) -> None:
    strangers = [region for region in regions if region not in record.replicas]
    if strangers:
        raise validation(
            "Update global table operation failed because one or more replicas were not part of the global table. "
            f"Please retry the request without these replicas: [{', '.join(strangers)}]."
        )
    for region in regions:
        status = record.replicas[region]
        if status == ReplicaStatus.CREATING:
            raise validation(
                "Create/Update/Delete of replica is not allowed while the replica is being added to table with name: "
                f"‘{record.name}’ in region: ‘{region}’."
            )
        if status != ReplicaStatus.ACTIVE and not removing:
            raise validation(f"{INVALID}The replica in {region} is {status} and cannot be updated")
