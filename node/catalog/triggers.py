"""Functions and event source mappings as control operations change them. Pure.

A mapping's bookmark is part of its table's definition: it begins where the marker stands that names it, in each
partition by itself, and goes with the marker that no longer does. The mapping is Creating or Deleting until all
partitions have applied that; its other changes take effect with its record. While a change is under way the next one is
refused, as the Lambda API does (ResourceInUseException; API reference, "UpdateEventSourceMapping").

A record is what `geodyne.triggers` makes of a mapping or function, and these members:

state, revision, created_ms, modified_ms    of a mapping; modified_ms of a function too
result                                      of a mapping: LastProcessingResult
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geodyne.catalog import MappingState, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.triggers import mapping as mappings

MAPPINGS_MAX = 500  # of a region: all processes hold their records
MAPPINGS_OF_A_TABLE_MAX = 50  # each is a cursor in every partition
FUNCTIONS_MAX = 500
RESULT_LENGTH_MAX = 500
NOTHING_YET = "No records processed"

Record = dict[str, Any]
Records = Mapping[str, Record]
_SETTLED = (MappingState.ENABLED, MappingState.DISABLED)


# --- functions --------------------------------------------------------------------------------------------


def function_put(functions: Records, function: Record, now_ms: int) -> Record:
    """The record of a function that is made or replaced. Raises ApiError."""
    if function["name"] not in functions and len(functions) >= FUNCTIONS_MAX:
        raise ApiError("LimitExceededException", f"There are {FUNCTIONS_MAX} functions, which is the most")
    return {**function, "modified_ms": now_ms}


def function_deleted(functions: Records, known: Records, name: str, force: bool) -> Record:
    """The record of a function that may go. Raises ApiError."""
    if name not in functions:
        raise ApiError("ResourceNotFoundException", f"There is no function {name}")
    using = sorted(uuid for uuid, one in known.items() if one["function"] == name and not _leaving(one))
    if using and not force:
        raise ApiError("ResourceInUseException", f"Function {name} is used by the mappings {', '.join(using)}")
    return functions[name]


# --- mappings ---------------------------------------------------------------------------------------------


def created(
    known: Records, functions: Records, table: TableRecord | None, asked: Record, uuid: str, now_ms: int, revision: int
) -> tuple[Record, TableRecord]:
    """The record of a new mapping, and its table with the bookmark. Raises ApiError."""
    label = asked["stream_label"]
    if table is None or table.status is TableStatus.DELETING or all(s.label != label for s in table.streams):
        raise ApiError("TableNotFoundException", f"There is no stream {label} of table {asked['table']}")
    record = {**asked, "uuid": uuid}
    _check_function(functions, record)
    _check_only(known, record)
    if len(known) >= MAPPINGS_MAX or len(table.bookmarks) >= MAPPINGS_OF_A_TABLE_MAX:
        raise ApiError(
            "LimitExceededException",
            f"There are {MAPPINGS_MAX} mappings in the region, or {MAPPINGS_OF_A_TABLE_MAX} of the table, "
            "which is the most",
        )
    record |= {"created_ms": now_ms, "result": NOTHING_YET}
    marked = replace(table, bookmarks=(*table.bookmarks, _bookmark(record)), revision=revision)
    return _changed(record, MappingState.CREATING, now_ms, revision), marked


def updated(known: Records, functions: Records, uuid: str, asked: Record, now_ms: int, revision: int) -> Record:
    """The record of a mapping after a change of some members. Raises ApiError."""
    before = _settled_one(known, uuid, "update")
    record = {**before, **asked}
    if record["function"] != before["function"]:
        _check_function(functions, record)
        _check_only(known, record)
    state = MappingState.UPDATING
    if record["enabled"] != before["enabled"]:
        state = MappingState.ENABLING if record["enabled"] else MappingState.DISABLING
    return _changed(record, state, now_ms, revision)


def deleted(
    known: Records, tables: Mapping[str, TableRecord], uuid: str, now_ms: int, revision: int
) -> tuple[Record, TableRecord | None]:
    """The record of a mapping that goes, and its table without the bookmark if that has it. Raises ApiError."""
    record = {**_settled_one(known, uuid, "delete"), "enabled": False}
    table, bookmark = tables.get(record["table"]), _bookmark(record)
    if table is None or table.status is TableStatus.DELETING or bookmark not in table.bookmarks:
        table = None
    else:
        kept = tuple(name for name in table.bookmarks if name != bookmark)
        table = replace(table, bookmarks=kept, revision=revision)
    return _changed(record, MappingState.DELETING, now_ms, revision), table


def reported(known: Records, uuid: str, result: str) -> Record | None:
    """The record with another result; None when there is nothing to change."""
    record, result = known.get(uuid), result[:RESULT_LENGTH_MAX]
    return None if record is None or record["result"] == result else {**record, "result": result}


def unsettled(record: Record) -> bool:
    """A change of the mapping is under way."""
    return record["state"] not in _SETTLED


def settled(record: Record, revision: int, now_ms: int) -> Record | None:
    """The record once the change of `revision` has taken effect; None: it is gone."""
    if record["revision"] != revision or not unsettled(record):
        return record
    if _leaving(record):
        return None
    state = MappingState.ENABLED if record["enabled"] else MappingState.DISABLED
    return {**record, "state": state.value, "modified_ms": now_ms}


def waits_for(record: Record, tables: Mapping[str, TableRecord]) -> TableRecord | None:
    """The table whose partitions must have applied its definition before the change has taken effect."""
    table = tables.get(record["table"])
    return None if table is None or table.status is TableStatus.DELETING else table


def _bookmark(record: Record) -> str:
    return mappings.Mapping.from_record(record).bookmark


def _changed(record: Record, state: MappingState, now_ms: int, revision: int) -> Record:
    return {**record, "state": state.value, "modified_ms": now_ms, "revision": revision}


def _leaving(record: Record) -> bool:
    return bool(record["state"] == MappingState.DELETING)


def _settled_one(known: Records, uuid: str, doing: str) -> Record:
    record = known.get(uuid)
    if record is None:
        raise ApiError("ResourceNotFoundException", "The resource you requested does not exist.")
    if unsettled(record):
        raise ApiError("ResourceInUseException", f"Cannot {doing} the event source mapping because it is in use.")
    return record


def _check_function(functions: Records, record: Record) -> None:
    if record["function"] not in functions:
        raise ApiError("ResourceNotFoundException", f"Function not found: {record['function']}")


def _check_only(known: Records, record: Record) -> None:
    """One stream and one function are mapped once. The conflict's text is the UUID of the mapping that there is."""
    same = ("table", "stream_label", "function")
    for uuid, other in known.items():
        if uuid != record["uuid"] and all(other[name] == record[name] for name in same):
            raise ApiError("ResourceConflictException", uuid)
