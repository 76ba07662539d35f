"""Whether a table keeps its conflicts (node.feed.conflicts): asking, and changing it for all of its replicas."""

from __future__ import annotations

from typing import Any

from geodyne.catalog import CONFLICT_LOG, ControlOperation, TableStatus
from geodyne.errors import ApiError
from replication.ports import Region
from replication.steps import control


class ConflictSwitch:
    """Of one region's replicator."""

    def __init__(self, own: str, region: Region) -> None:
        self._own = own
        self._region = region

    async def administer(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"result": {"region", "on"}} or {"error"} of {"operation": "show" or "set", "table", "on"}.

        A change is one of the settings that replicas have in common: each region takes it over as soon as it hears of
        it, and the newest wins (decision 0024)."""
        table = self._region.catalog.tables.get(str(request.get("table")))
        if table is None or table.status is TableStatus.DELETING:
            return {"error": f"{self._own} has no such table"}
        on = bool(table.extra.get(CONFLICT_LOG))
        match request.get("operation"):
            case "show":
                return {"result": {"region": self._own, "on": on}}
            case "set":
                wanted = bool(request.get("on"))
            case _:
                return {"error": "the operation must be show or set"}
        if wanted and not table.is_global:
            return {"error": f"table {table.name} has no replicas: it has no conflicts"}
        body = {"name": table.name, "table_id": table.id, "extra": {CONFLICT_LOG: True if wanted else None}}
        try:
            if wanted != on:
                await control(self._region, ControlOperation.UPDATE_TABLE.value, body)
        except ApiError as error:
            return {"error": error.reason}
        return {"result": {"region": self._own, "on": wanted}}
