"""The settings that all replicas of a global table have in common, as control operations change them. Pure.

Which they are: AWS developer guide, "Global tables", settings that are synchronised: capacity mode, capacity, ceilings
of on-demand tables, warm throughput and table class, of the table and of its global indexes, and what single replicas
have instead of some of them (geodyne.overrides). An edit in one region is passed on as all of them together, with the
time at which it was made; the newest holds everywhere, so that regions which were edited at once come to agree.
Tags and deletion protection are each region's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import SETTINGS_CHANGED, SHARED_EXTRA, IndexRecord, IndexStatus, TableRecord
from node.catalog import indexes

_PLAIN = ("billing_mode", "read_units", "write_units", "table_class")
_INDEX_EXTRA = ("on_demand_max", "warm")


def edited(table: TableRecord, body: Mapping[str, Any], now_ms: int) -> tuple[TableRecord, dict[str, Any]]:
    """The table with the time of an edit that a client asked for, and what the other regions are to take over: nothing
    when UPDATE_TABLE's `body` changed no such setting, or there are no other regions."""
    names = {*_PLAIN, "index_update", "overrides"}.intersection(body) | {*SHARED_EXTRA}.intersection(
        body.get("extra", ())
    )
    if not names or not table.is_global:
        return table, {}
    changed_ms = max(now_ms, table.extra.get(SETTINGS_CHANGED, 0) + 1)
    table = replace(table, extra={**table.extra, SETTINGS_CHANGED: changed_ms})
    return table, {"settings": _snapshot(table)}


def newer(table: TableRecord, settings: Mapping[str, Any]) -> bool:
    """Whether another region's settings take the place of those here. Of two of one time, both regions choose alike."""
    return _rank(settings) > _rank(_snapshot(table))


def taken_over(table: TableRecord, settings: Mapping[str, Any] | None) -> TableRecord:
    """With another region's settings; the same table when those here are newer. An index that this region does not
    have, or is deleting, is left out."""
    if settings is None or not newer(table, settings):
        return table
    plain = {name: settings[name] for name in _PLAIN}
    extra = {name: settings["extra"].get(name) for name in SHARED_EXTRA} | {SETTINGS_CHANGED: settings["changed_ms"]}
    table = replace(table, **plain, extra=indexes.merged(table.extra, extra))
    changes = {
        index.name: settings["indexes"][index.name]
        for index in table.indexes
        if _shared(index) and index.name in settings["indexes"] and settings["indexes"][index.name] != _of_index(index)
    }
    return indexes.updated(table, changes)


def _snapshot(table: TableRecord) -> dict[str, Any]:
    return {
        "changed_ms": table.extra.get(SETTINGS_CHANGED, 0),
        **{name: getattr(table, name) for name in _PLAIN},
        "extra": {name: table.extra[name] for name in SHARED_EXTRA if name in table.extra},
        "indexes": {index.name: _of_index(index) for index in table.indexes if _shared(index)},
    }


def _shared(index: IndexRecord) -> bool:
    return index.is_global and index.status is not IndexStatus.DELETING


def _of_index(index: IndexRecord) -> dict[str, Any]:
    """A setting that is not set is named, so that it goes elsewhere too."""
    extra = {name: index.extra.get(name) for name in _INDEX_EXTRA}
    return {"read_units": index.read_units, "write_units": index.write_units, "extra": extra}


def _rank(settings: Mapping[str, Any]) -> tuple[int, str]:
    return settings["changed_ms"], json.dumps(settings, sort_keys=True)
