"""What an operator asks of the write modes of tables (`geodyne writes`): the part of one region, at its replicator."""

from __future__ import annotations

from typing import Any, Final

from geodyne.catalog import ControlOperation
from geodyne.errors import ApiError
from geodyne.ports import Clock
from geodyne.writemodes import write_mode
from replication.ports import Region
from replication.steps import control
from replication.watermarks import Watermarks, sources_of

CHANGES: Final = ("mode", "active", "home", "force")


class Writing:
    """Of one replicator."""

    def __init__(self, own: str, region: Region, watermarks: Watermarks, clock: Clock) -> None:
        self._own = own
        self._region = region
        self._watermarks = watermarks
        self._clock = clock

    async def administer(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"result": {"region", "mode": geodyne.writemodes.WriteMode, "replicas": {region: status}, "watermarks":
        {source: microseconds, 0 for not known}, "now_us"}} or {"error"} of {"operation": "show" or "set", "table", and
        of a "set" mode, active, home, force}. The table is as the region's metadata leader has it."""
        operation, name = request.get("operation"), request.get("table")
        if operation not in ("show", "set") or not isinstance(name, str):
            return {"error": "the operation must be show or set, of a table"}
        change = {each: request.get(each) for each in CHANGES} if operation == "set" else {}
        try:
            table = await control(self._region, ControlOperation.SET_WRITES.value, {"name": name, **change})
        except ApiError as error:
            return {"error": error.reason}
        if table is None:
            return {"error": f"there is no table {name}"}
        watermarks = {source: self._watermarks.us(table.id, source) for source in sources_of(table, self._own)}
        return {
            "result": {
                "region": self._own,
                "mode": write_mode(table).to_json(),
                "replicas": table.replicas,
                "watermarks": watermarks,
                "now_us": self._clock.wall_us(),
            }
        }
