"""Steps of a replica's life that another region asks this one to take, as operations of this region's catalog.

All are idempotent. An answer that a peer builds on ("it is not there") comes from the leader of the metadata group,
never from the copy, which may lag; an answer that a table *is* there may come from the copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from geodyne.catalog import (
    ADDED_CLOCKS_MS,
    SETTINGS_CHANGED,
    ControlOperation,
    IndexStatus,
    ReplicaStatus,
    TableRecord,
    TableStatus,
    merged_members,
)
from geodyne.errors import ApiError, replica_exists
from geodyne.messages import Control, ControlDone, Refused
from geodyne.writemodes import WRITES, write_mode
from replication.ports import Region
from replication.values import Command, Operation, Result

log = logging.getLogger(__name__)

CONTROL_TIMEOUT_MS = 10_000


async def control(region: Region, operation: str, body: dict[str, Any]) -> TableRecord | None:
    """Run a control operation here; the table afterwards, None when it does not exist. Raises ApiError."""
    answer = await region.call(Control(operation, body), timeout_ms=CONTROL_TIMEOUT_MS)
    if isinstance(answer, Refused):
        if answer.code == "ResourceNotFoundException":
            return None
        raise ApiError(answer.code, answer.message)
    if not isinstance(answer, ControlDone):
        raise ApiError("ServiceUnavailable", f"the metadata group answered {type(answer).__name__}")
    return TableRecord.from_json(answer.body["table"])


class ReplicaSteps:
    """The commands of other regions' replicators.

    `on_helping(table id, new member, creating region)` is told of each member that this region learns of.
    """

    def __init__(self, own: str, region: Region, on_helping: Callable[[str, str, str], None]) -> None:
        self._own = own
        self._region = region
        self._on_helping = on_helping

    async def on_command(self, source: str, command: Command) -> Result:
        """Take one step for the region `source`. An error becomes part of the result."""
        try:
            if command.operation is Operation.ENSURE:
                table = await self._ensure(source, command)
            elif command.operation is Operation.DELETE:
                table = await self._delete(source, command)
            elif command.operation is Operation.INDEX:
                table = await self._take_change(source, command)
            else:
                table = await self._forget(source, command)
        except (ApiError, LookupError, TypeError, ValueError, AttributeError) as fault:
            # The latter: a definition that makes no sense. Without an answer its sender would wait for one.
            malformed = ApiError("ValidationException", f"not a step: {fault!r}")
            error = fault if isinstance(fault, ApiError) else malformed
            about = {"source": source, "step": command.operation.name, "table": command.table}
            log.warning("replica step refused", extra={**about, "code": error.kind.code})
            return Result(command.id, False, error_code=error.kind.code, error_message=error.message or "")
        if table is None or table.id != command.table_id:
            return Result(command.id, False)
        body = {WRITES: write_mode(table).to_json()} if WRITES in command.definition else {}
        return Result(command.id, True, table.status.value, table.replicas, body=body)

    async def _ensure(self, source: str, command: Command) -> TableRecord | None:
        table = self._region.catalog.tables.get(command.table)
        current = table.replicas if table is not None and table.id == command.table_id else {}
        wanted = merged_members(self._own, current, command.members)
        if table is not None and table.id == command.table_id:
            if table.status is TableStatus.DELETING:
                return table
            if table.is_global:  # else it has left, and its name is taken
                self._check_member(source, table)
                self._check_made_anew(table, command)
            if wanted == dict(current):
                return table
            for region in wanted.keys() - current.keys():
                self._on_helping(table.id, region, source)
            if wanted.keys() == current.keys():  # only the own status differs, which no partition needs to know
                return await self._control(
                    ControlOperation.SET_REPLICA,
                    {"name": command.table, "region": self._own, "status": ReplicaStatus.ACTIVE.value},
                )
        return await self._control(
            ControlOperation.ENSURE_REPLICA,
            {"definition": dict(command.definition), "members": wanted, "table_id": command.table_id},
        )

    async def _take_change(self, source: str, command: Command) -> TableRecord | None:
        """Take over a change of Time to Live, or one of indexes and settings as far as it is not so yet. A table that
        is busy with another change refuses."""
        table = await self._look(command)
        if table is None or table.id != command.table_id or table.status is TableStatus.DELETING:
            return table
        self._check_member(source, table)
        if (ttl := command.definition.get("ttl")) is not None:
            body = {"name": command.table, "table_id": command.table_id, "as_replica": True, **ttl}
            return await self._control(ControlOperation.SET_TTL, body)
        if (record := command.definition.get(WRITES)) is not None:
            body = {"name": command.table, "table_id": command.table_id, "as_replica": True, "mode_record": record}
            return await self._control(ControlOperation.SET_WRITES, body)
        present = {index.name for index in table.indexes if index.status is not IndexStatus.DELETING}
        add, remove = command.definition.get("index_add"), command.definition.get("index_remove")
        change: dict[str, Any] = {}
        if add is not None and add["name"] not in present:
            change["index_add"] = add
        if remove is not None and remove in present:
            change["index_remove"] = remove
        settings = command.definition.get("settings")
        if settings is not None and settings["changed_ms"] >= table.extra.get(SETTINGS_CHANGED, 0):
            change["settings"] = settings
        if not change:
            return table
        body = {"name": command.table, "table_id": command.table_id, "as_replica": True, **change}
        return await self._control(ControlOperation.UPDATE_TABLE, body)

    async def _delete(self, source: str, command: Command) -> TableRecord | None:
        table = await self._look(command)
        if table is None or table.id != command.table_id or table.status is TableStatus.DELETING:
            return table
        if not table.is_global:
            return None  # it has left, with its rows: it is nobody's replica
        self._check_member(source, table)
        if self._is_older(table, command):
            return None  # the replica that is to go never came into being: this table had its name
        return await self._control(
            ControlOperation.DELETE_TABLE,
            {"name": command.table, "as_replica": True, "table_id": command.table_id},
        )

    async def _forget(self, source: str, command: Command) -> TableRecord | None:
        table = await self._look(command)
        if table is None or table.id != command.table_id or table.status is TableStatus.DELETING:
            return None  # it is going, or gone: nothing lists that member any more
        if command.region not in table.replicas:
            return table
        self._check_member(source, table)
        return await self._control(
            ControlOperation.DROP_REPLICA,
            {"name": command.table, "region": command.region, "table_id": command.table_id, "as_replica": True},
        )

    def _check_member(self, source: str, table: TableRecord) -> None:
        """A region that was forgotten, and is back, still takes itself for a replica. Raises ApiError."""
        if source not in table.replicas:
            raise ApiError("ValidationException", f"Table {table.name} has no replica in {source} any more")

    def _check_made_anew(self, table: TableRecord, command: Command) -> None:
        """Rows of before this region was forgotten may have been deleted since. Raises ApiError."""
        if command.members.get(self._own) == ReplicaStatus.CREATING and self._is_older(table, command):
            raise ApiError("TableAlreadyExistsException", replica_exists(table.name))

    def _is_older(self, table: TableRecord, command: Command) -> bool:
        """Whether the table was here before the replica that is spoken of was asked for."""
        added_ms = int(command.definition.get("added", {}).get(self._own, 0))
        return table.created_ms + ADDED_CLOCKS_MS < added_ms

    async def _look(self, command: Command) -> TableRecord | None:
        """The table as the metadata leader has it. Dropping a member that no table has changes nothing."""
        return await self._control(ControlOperation.DROP_REPLICA, {"name": command.table, "region": ""})

    async def _control(self, operation: ControlOperation, body: dict[str, Any]) -> TableRecord | None:
        return await control(self._region, operation.value, body)
