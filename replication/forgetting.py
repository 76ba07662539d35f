"""What an operator asks about a region that is lost for good (`geodyne forget`): the part of a region that is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodyne.catalog import ControlOperation
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
        """{"result": {"region", "replicas": {region: status}}} or {"error"} of {"operation": "check" or "forget",
        "table", "lost"}. A region whose replicator answers is not lost: it would be left with a replica that nobody
        else knows of."""
        operation, name, lost = (str(request.get(member)) for member in ("operation", "table", "lost"))
        if operation not in ("check", "forget") or lost not in self._links:
            return {"error": f"{self._own} knows the regions {', '.join(sorted(self._links))}"}
        if self._links[lost].connected:
            return {"error": f"{lost} answers {self._own}: remove its replica with UpdateTable or DeleteTable"}
        body = {"name": name, "region": lost if operation == "forget" else ""}
        try:
            table = await control(self._region, ControlOperation.DROP_REPLICA.value, body)
        except ApiError as error:
            return {"error": error.message or error.kind.code}
        if table is None:
            return {"error": f"{self._own} has no table {name}"}
        return {"result": {"region": self._own, "replicas": table.replicas}}
