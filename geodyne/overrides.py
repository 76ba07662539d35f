"""What replicas of a global table have of their own among settings that are otherwise the same in all regions. Pure.

Which settings these are, and that a later edit of one in any region takes the place of all its overrides: AWS developer
guide, "How DynamoDB global tables work", settings that are synchronised but can be overridden: read capacity of the
table and its global indexes, ceilings of on-demand reads, the table class.

A table's record has in its own members what all regions have in common, and beside that the overrides of all replicas,
so that every region can describe each. As `extra[OVERRIDES]` and in UPDATE_TABLE they are, by region, any of
read_units, on_demand_read, table_class, and indexes: by name, read_units and on_demand_read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import OVERRIDES, IndexRecord, IndexStatus, TableRecord

Override = Mapping[str, Any]
READ_UNITS, ON_DEMAND_READ, TABLE_CLASS, INDEXES = "read_units", "on_demand_read", "table_class", "indexes"
_CEILINGS = "on_demand_max"  # of a record's `extra`: {read, write}


def override_of(table: TableRecord, region: str) -> Override:
    """What the region's replica has of its own; empty when that is nothing."""
    found: Override = table.extra.get(OVERRIDES, {}).get(region, {})
    return found


def effective(table: TableRecord, region: str) -> TableRecord:
    """The record with the settings that hold in the region. The overrides stay beside them."""
    own = override_of(table, region)
    if not own:
        return table
    plain = {name: own[name] for name in (READ_UNITS, TABLE_CLASS) if name in own}
    extra = _with_ceiling(table.extra, own[ON_DEMAND_READ]) if ON_DEMAND_READ in own else table.extra
    indexes = tuple(_effective_index(index, own.get(INDEXES, {}).get(index.name, {})) for index in table.indexes)
    return replace(table, extra=extra, indexes=indexes, **plain)


def asked(table: TableRecord, overrides: Mapping[str, Override]) -> TableRecord:
    """With other overrides of some regions: what is not named stays, null takes an override off."""
    merged = _merged(table.extra.get(OVERRIDES, {}), overrides)
    return _with(table, merged)


def settled(before: TableRecord, after: TableRecord, region: str) -> TableRecord:
    """The record after an edit in the region. `before` is as it was kept, `after` the edited `effective` one.

    What the edit left alone is in common as before; what it changed is so in every region.
    """
    overrides: dict[str, Override] = before.extra.get(OVERRIDES, {})
    if not overrides:
        return after
    shown = effective(before, region)
    changed = {name for name in (READ_UNITS, TABLE_CLASS) if getattr(after, name) != getattr(shown, name)}
    plain = {name: getattr(before, name) for name in (READ_UNITS, TABLE_CLASS) if name not in changed}
    extra = after.extra
    if _ceiling(after.extra) == _ceiling(shown.extra):
        extra = _with_ceiling(extra, _ceiling(before.extra))
    else:
        changed.add(ON_DEMAND_READ)
    if after.billing_mode != before.billing_mode:
        changed |= {READ_UNITS, ON_DEMAND_READ}
    kept: dict[str, Override] = {name: _without(own, changed) for name, own in overrides.items()}
    table = replace(after, extra=extra, **plain)
    for index in after.indexes:
        table, kept = _settled_index(before, shown, table, index, kept)
    return _with(table, kept)


def pruned(table: TableRecord) -> TableRecord:
    """Without overrides of replicas and indexes that there are no more."""
    if OVERRIDES not in table.extra:
        return table
    live = {index.name for index in table.indexes if index.is_global and index.status is not IndexStatus.DELETING}
    kept = {}
    for region, own in table.extra[OVERRIDES].items():
        if region in table.replicas:
            kept[region] = _only_indexes(own, live)
    return _with(table, kept)


def alone(table: TableRecord, region: str) -> TableRecord:
    """The region's replica as a table of its own: what holds there is its own."""
    return _with(effective(table, region), {})


def _settled_index(
    before: TableRecord, shown: TableRecord, table: TableRecord, index: IndexRecord, kept: dict[str, Override]
) -> tuple[TableRecord, dict[str, Override]]:
    """The same for one index."""
    base, seen = before.index(index.name), shown.index(index.name)
    if base is None or seen is None or not index.is_global:
        return table, kept
    changed = set()
    if table.billing_mode != before.billing_mode:
        changed = {READ_UNITS, ON_DEMAND_READ}
    if index.read_units != seen.read_units:
        changed.add(READ_UNITS)
    if _ceiling(index.extra) != _ceiling(seen.extra):
        changed.add(ON_DEMAND_READ)
    restored = index
    if index.read_units == seen.read_units:
        restored = replace(restored, read_units=base.read_units)
    if _ceiling(index.extra) == _ceiling(seen.extra):
        restored = replace(restored, extra=_with_ceiling(index.extra, _ceiling(base.extra)))
    indexes = tuple(restored if each.name == index.name else each for each in table.indexes)
    gone = {INDEXES: {index.name: dict.fromkeys(changed)}}
    return replace(table, indexes=indexes), {region: _merged(own, gone) for region, own in kept.items()}


def _effective_index(index: IndexRecord, own: Override) -> IndexRecord:
    if not own:
        return index
    extra = _with_ceiling(index.extra, own[ON_DEMAND_READ]) if ON_DEMAND_READ in own else index.extra
    return replace(index, read_units=own.get(READ_UNITS, index.read_units), extra=extra)


def _ceiling(extra: Mapping[str, Any]) -> int | None:
    found: int | None = extra.get(_CEILINGS, {}).get("read")
    return found


def _with_ceiling(extra: Mapping[str, Any], units: int | None) -> dict[str, Any]:
    """`extra` with that ceiling of on-demand reads; None: with none."""
    ceilings = _merged(extra.get(_CEILINGS, {}), {"read": units})
    rest = {name: value for name, value in extra.items() if name != _CEILINGS}
    return rest | ({_CEILINGS: ceilings} if ceilings else {})


def _without(own: Override, members: set[str]) -> Override:
    return {name: value for name, value in own.items() if name not in members}


def _only_indexes(own: Override, names: set[str]) -> Override:
    if INDEXES not in own:
        return own
    return {**own, INDEXES: {name: value for name, value in own[INDEXES].items() if name in names}}


def _merged(one: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Members of `changes` in place of those of `one`, those that are objects member by member; null takes one off."""
    merged = {**one}
    for name, value in changes.items():
        merged[name] = _merged(one.get(name, {}), value) if isinstance(value, Mapping) else value
    return {name: value for name, value in merged.items() if value is not None and value != {}}


def _with(table: TableRecord, overrides: Mapping[str, Override]) -> TableRecord:
    kept = _merged({}, overrides)
    rest = {name: value for name, value in table.extra.items() if name != OVERRIDES}
    return replace(table, extra=rest | ({OVERRIDES: kept} if kept else {}))
