"""What an operator asks about a region that is lost for good (`geodyne forget`): the part of a region that is left, and
of the lost one when it is back after all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodyne.catalog import ControlOperation, ReplicaStatus, TableRecord
from geodyne.errors import ApiError
from replication.link import DestinationLink
from replication.ports import Region
from replication.steps import control


class Forgetting:
    """Of one replicator."""

    def __init__(self, own: str, region: Region, links: Mapping[str, DestinationLink]) -> None:
        self._own = own
        self._region = region
        self._links = links

    async def administer(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"result": {"region", "replicas": {region: status}, "connected": whether the lost region answers this one}},
        no replicas of a table that is not there, or {"error"} of {"operation": "check", "forget" or "part", "table",
        "lost"}. A region whose replicator answers is not lost: it would be left with a replica that nobody else knows
        of. "part" is for the lost region itself, once all others have forgotten it: its table becomes its own."""
        operation, name, lost = (str(request.get(member)) for member in ("operation", "table", "lost"))
        known = lost == self._own if operation == "part" else operation in ("check", "forget") and lost in self._links
        if not known:
            return {"error": f"{self._own} knows the regions {', '.join(sorted(self._links))}"}
        connected = operation != "part" and self._links[lost].connected
        if operation == "forget" and connected:
            return {"error": f"{lost} answers {self._own}: remove its replica with UpdateTable or DeleteTable"}
        try:
            dropped = lost if operation == "forget" else ""
            table = await (self._part(name) if operation == "part" else self._drop(name, dropped))
        except ApiError as error:
            return {"error": error.reason}
        replicas = table.replicas if table is not None else {}
        return {"result": {"region": self._own, "replicas": replicas, "connected": connected}}

    async def _part(self, name: str) -> TableRecord:
        """Without the replicas of the others. What is on its way in or out has its own end. Raises ApiError."""
        table = await self._drop(name, "")
        if table is None or not table.is_global:
            raise ApiError("ValidationException", f"{self._own} has no replica {name}")
        if table.leaving is not None or set(table.replicas.values()) != {ReplicaStatus.ACTIVE}:
            raise ApiError("ResourceInUseException", f"In {self._own} replicas of table {name} come or go")
        for other in sorted(table.replicas.keys() - {self._own}):
            table = await self._drop(name, other, table.id) or table
        return table

    async def _drop(self, name: str, region: str, table_id: str | None = None) -> TableRecord | None:
        """The table afterwards; of no region: as it is. Raises ApiError."""
        body = {"name": name, "region": region} | ({"table_id": table_id} if table_id is not None else {})
        return await control(self._region, ControlOperation.DROP_REPLICA.value, body)
