"""Quotas on provisioned units: of a new table with its global indexes, and of all tables of a region together.

Source: API reference, "DescribeLimits": the quota of a table holds when it is created, later changes are only bounded
by the account's; a change that asks for no more than before is always allowed. What this router knows of the catalog
is compared, so that two changes made at the same moment may pass together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodyne.catalog import TableRecord
from geodyne.errors import ApiError
from geodyne.limits import (
    ACCOUNT_READ_UNITS_MAX,
    ACCOUNT_WRITE_UNITS_MAX,
    TABLE_READ_UNITS_MAX,
    TABLE_WRITE_UNITS_MAX,
)
from router.api.throughput import Units

_MEMBERS = ("ReadCapacityUnits", "WriteCapacityUnits")
_TABLE_MAX: Units = (TABLE_READ_UNITS_MAX, TABLE_WRITE_UNITS_MAX)
_ACCOUNT_MAX: Units = (ACCOUNT_READ_UNITS_MAX, ACCOUNT_WRITE_UNITS_MAX)
_NONE: Units = (0, 0)


def check_new_table(definition: Mapping[str, Any], tables: Mapping[str, TableRecord]) -> None:
    """Raises LimitExceededException when a new table has more units than a table or the account can have."""
    wanted = _total([_units(definition), *(_units(index) for index in definition["indexes"])])
    for member, units, most in zip(_MEMBERS, wanted, _TABLE_MAX, strict=True):
        if units > most:
            raise _exceeded("per-table", member, units, most)
    _check_account(_NONE, wanted, definition["name"], tables)


def check_changed_table(change: Mapping[str, Any], record: TableRecord, tables: Mapping[str, TableRecord]) -> None:
    """The same for the members of an UPDATE_TABLE that change units. Raises LimitExceededException."""
    updates: Mapping[str, Mapping[str, Any]] = change.get("index_update", {})
    wanted = [(change.get("read_units", record.read_units), change.get("write_units", record.write_units))]
    for index in record.indexes:
        if index.name in updates:
            wanted.append(_units(updates[index.name]))
        elif index.name != change.get("index_remove"):
            wanted.append((index.read_units, index.write_units))
    if "index_add" in change:
        wanted.append(_units(change["index_add"]))
    _check_account(_provisioned(record), _total(wanted), record.name, tables)


def _check_account(before: Units, wanted: Units, name: str, tables: Mapping[str, TableRecord]) -> None:
    if wanted[0] <= before[0] and wanted[1] <= before[1]:
        return
    others = _total([_provisioned(table) for table in tables.values() if table.name != name])
    for member, old, new, rest, most in zip(_MEMBERS, before, wanted, others, _ACCOUNT_MAX, strict=True):
        if new > old and rest + new > most:
            raise _exceeded("account-level", member, rest + new, most)


def _provisioned(record: TableRecord) -> Units:
    return _total(
        [(record.read_units, record.write_units), *((index.read_units, index.write_units) for index in record.indexes)]
    )


def _units(definition: Mapping[str, Any]) -> Units:
    return definition["read_units"], definition["write_units"]


def _total(units: list[Units]) -> Units:
    return sum(read for read, _ in units), sum(write for _, write in units)


def _exceeded(kind: str, member: str, units: int, most: int) -> ApiError:
    return ApiError(
        "LimitExceededException",
        f"Subscriber limit exceeded: {units} {member} would exceed the {kind} limit of {most}",
    )
