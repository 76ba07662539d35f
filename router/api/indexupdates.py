"""GlobalSecondaryIndexUpdates of UpdateTable: one index made or deleted at a time, any number changed."""

from __future__ import annotations

from typing import Any

from geodyne.catalog import IndexRecord, IndexStatus, TableRecord
from geodyne.errors import ApiError, validation
from geodyne.limits import GLOBAL_INDEXES_MAX
from router.api.indexdefinitions import (
    check_projected,
    global_index,
    global_index_parts,
    key_names,
    too_many_global_indexes,
)
from router.api.keydefinitions import Types, attribute_types, check_all_used
from router.api.parameters import Body
from router.api.refusals import INVALID
from router.api.throughput import (
    PROVISIONED,
    Units,
    changed_ceilings,
    changed_index_units,
    check_units_change,
    provisioned_units,
    raised_warm,
    times_of_change,
    warm_units,
)

_ACTIONS = ("Update", "Create", "Delete")
_TAKEN = "Attempting to create an index which already exists"


def check_index_updates(body: Body) -> None:
    """What can be said of the updates before the table is looked at. Raises ValidationException."""
    types = attribute_types(body.get("AttributeDefinitions") or [])
    actions = _actions(body)
    _check_once_each(actions)
    for kind, action in actions:
        if action.get("ProvisionedThroughput") is not None:
            provisioned_units(action["ProvisionedThroughput"], action["IndexName"])
        if kind == "Create":
            global_index_parts(action, types)


def index_changes(body: Body, record: TableRecord, mode: str, now_ms: int) -> dict[str, Any]:
    """index_add, index_remove and index_update of the control operation, in the table's new billing mode.

    Raises ApiError.
    """
    actions = _actions(body)
    _check_one_online(actions, record)
    change: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = {}
    for kind, action in actions:
        if kind == "Create":
            change["index_add"] = _created(action, body, record, mode)
            continue
        index = _existing(record, action["IndexName"])
        if kind == "Delete":
            change["index_remove"] = index.name
        else:
            settings[index.name] = _changed(action, index, record.billing_mode, mode, now_ms)
    settings = _with_mode(settings, record, mode, change.get("index_remove"))
    return change | ({"index_update": settings} if settings else {})


def _actions(body: Body) -> list[tuple[str, dict[str, Any]]]:
    return [_action(update) for update in body.get("GlobalSecondaryIndexUpdates") or []]


def _action(update: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    named = [name for name in _ACTIONS if update.get(name) is not None]
    listed = ", ".join(f"GlobalSecondaryIndexUpdate.{name}" for name in _ACTIONS)
    if not named:
        raise validation(f"{INVALID}One of {listed} must not be null")
    if len(named) > 1:
        raise validation(f"{INVALID}Only one of {listed} can be specified")
    return named[0], update[named[0]]


def _check_once_each(actions: list[tuple[str, dict[str, Any]]]) -> None:
    names: set[str] = set()
    for _, action in actions:
        name = action["IndexName"]
        if name in names:
            raise validation(
                f"{INVALID}Only one global secondary index update per index is allowed simultaneously. Index: {name}"
            )
        names.add(name)


def _check_one_online(actions: list[tuple[str, dict[str, Any]]], record: TableRecord) -> None:
    """An index that is being filled can be deleted, but none be made or deleted beside it."""
    online = [(kind, action["IndexName"]) for kind, action in actions if kind != "Update"]
    if not online:
        return
    busy = {index.name for index in record.indexes if index.status in (IndexStatus.CREATING, IndexStatus.DELETING)}
    if len(online) > 1 or busy - {name for kind, name in online if kind == "Delete"}:
        raise ApiError(
            "LimitExceededException",
            "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table",
        )


def _created(action: dict[str, Any], body: Body, record: TableRecord, mode: str) -> dict[str, Any]:
    """The definition of a new index. The request defines all of its key attributes, those known already included."""
    given = attribute_types(body.get("AttributeDefinitions") or [])
    own = record_types(record)
    if any(own.get(name, kind) != kind for name, kind in given.items()):
        name = next(name for name, kind in given.items() if own.get(name, kind) != kind)
        raise validation(
            f"{INVALID}Attribute type of an existing key attribute cannot be changed. "
            f"Attribute: {name}, current type: {own[name]}, requested type: {given[name]}"
        )
    definition = global_index(action, given, mode, changed_index_units)
    check_all_used(given, [*own, *key_names([definition])], indexed=True)
    if record.index(definition["name"]) is not None:
        raise validation(_TAKEN)
    if sum(index.is_global for index in record.indexes) >= GLOBAL_INDEXES_MAX:
        raise too_many_global_indexes()
    check_projected(sum(len(index.included) for index in record.indexes) + len(definition["included"]))
    return definition


def record_types(record: TableRecord) -> Types:
    """The key attributes of a table and its indexes, with their types."""
    types: Types = {record.hash_key: record.hash_type}
    if record.range_key is not None:
        types[record.range_key] = record.range_type or ""
    for index in record.indexes:
        types |= dict((*index.hash_keys, *index.range_keys))
    return types


def _existing(record: TableRecord, name: str) -> IndexRecord:
    index = record.index(name)
    if index is None or not index.is_global or index.status == IndexStatus.DELETING:
        raise ApiError("ResourceNotFoundException", "Requested resource not found")
    return index


def _changed(action: dict[str, Any], index: IndexRecord, before: str, mode: str, now_ms: int) -> dict[str, Any]:
    """New units, ceilings and warm throughput of an index; only what was asked for."""
    asked = action.get("ProvisionedThroughput")
    ceilings, warm = action.get("OnDemandThroughput"), action.get("WarmThroughput")
    if asked is None and not ceilings and not warm:
        changed_index_units(PROVISIONED, None, index.name)
    current: Units = (index.read_units, index.write_units)
    units, times = current, {}
    if asked is not None or before != mode:
        units = changed_index_units(mode, asked, index.name)
        if before == mode:
            check_units_change(current, units, index.name)
            times = times_of_change(index.extra, current, units, now_ms)
    extra = times | changed_ceilings(mode, ceilings, index.extra)
    extra |= raised_warm(warm, warm_units(mode, units, index.extra), index.name)
    return {"read_units": units[0], "write_units": units[1], "extra": extra}


def _with_mode(
    settings: dict[str, dict[str, Any]], record: TableRecord, mode: str, removed: str | None
) -> dict[str, dict[str, Any]]:
    """A new billing mode is that of every index: on demand units end, provisioned ones must be named."""
    if mode == record.billing_mode:
        return settings
    for index in record.indexes:
        if not index.is_global or index.name == removed or index.status == IndexStatus.DELETING:
            continue
        if index.name not in settings:
            units = changed_index_units(mode, None, index.name)
            settings[index.name] = {"read_units": units[0], "write_units": units[1], "extra": {}}
        if mode == PROVISIONED and index.extra.get("on_demand_max"):
            settings[index.name]["extra"]["on_demand_max"] = None
    return settings
