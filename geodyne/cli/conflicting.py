"""The supervisor's part of `geodyne conflicts`: asking the nodes, whose answers are put together, and the replicators.

Every replica of a partition keeps the same records, so what one node does not say another does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from geodyne.cli.administration import Administration
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.topology import ProcessSpec, Topology

LIMIT_MAX: Final = 1_000  # records of one answer
PAGES_MAX: Final = 64  # of one node
NO_TABLE: Final = "no such table"  # part of the answer of a region without a replica


class Asked:
    """One call of the operator."""

    def __init__(
        self, topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
    ) -> None:
        """Raises CommandError for a region that there is not."""
        self._administration = Administration(topology, children, token)
        self._regions = self._administration.regions(request.get("region"))
        self._request = request
        self._untold: dict[str, str] = {}  # process -> why it says nothing

    async def show(self) -> dict[str, Any]:
        """{records, more, on {region: whether it is kept}, untold {process: reason}, damaged}: the newest records, in
        the order in which they were seen. Raises CommandError when no node knows the table."""
        limit = min(max(int(self._request.get("limit") or LIMIT_MAX), 1), LIMIT_MAX)
        nodes = [process for region in self._regions for process in region.nodes]
        found = await asyncio.gather(*(self._records(node, limit) for node in nodes))
        answered = [one for one in found if one is not None]
        if not answered:
            raise CommandError("; ".join(dict.fromkeys(self._untold.values())) or "no node answers")
        merged: dict[tuple[str, ...], dict[str, Any]] = {}
        for records, _, _ in answered:
            for record in records:
                merged[tuple(record.pop("at")[1:])] = record
        newest = sorted(merged.values(), key=lambda one: (one["seen_us"], str(one["key"])))
        return {
            "records": newest[-limit:],
            "more": len(newest) > limit or any(more for _, more, _ in answered),
            "on": await self._kept(),
            "untold": {process: why for process, why in self._untold.items() if NO_TABLE not in why},
            "damaged": sum(damaged for _, _, damaged in answered),
        }

    async def switch(self) -> dict[str, Any]:
        """{region, on}: the first region that can changes it for all. Raises CommandError."""
        reasons = []
        for region in self._regions:
            for process in region.replicators[:1]:
                reply = await self._call(process, {"operation": "set", "on": bool(self._request.get("on"))})
                if "result" in reply:
                    return dict(reply["result"])
                reasons.append(str(reply["error"]))
        raise CommandError("; ".join(reasons) or "the cluster has one region: there are no conflicts")

    async def purge(self) -> dict[str, Any]:
        """{purged: [nodes], untold}: records of the table are removed, those that were on their way included."""
        nodes = [process for region in self._regions for process in region.nodes]
        replies = await asyncio.gather(*(self._call(node, {"operation": "purge"}) for node in nodes))
        purged = [node.id for node, reply in zip(nodes, replies, strict=True) if "result" in reply]
        untold = {process: why for process, why in self._untold.items() if not purged or NO_TABLE not in why}
        return {"purged": purged, "untold": untold}

    async def _records(self, node: ProcessSpec, limit: int) -> tuple[list[dict[str, Any]], bool, int] | None:
        """Of one node: its newest, whether it has more, and how many lines it could not read."""
        records: list[dict[str, Any]] = []
        before: Any = None
        for _ in range(PAGES_MAX):
            asked = {"operation": "show", "since_us": self._request.get("since_us"), "before": before}
            reply = await self._call(node, {**asked, "limit": limit - len(records)})
            if "result" not in reply:
                return None
            page = reply["result"]
            records += page["records"]
            before = page["next"]
            if before is None or len(records) >= limit:
                return records, before is not None, int(page["damaged"])
        return records, True, 0

    async def _kept(self) -> dict[str, bool]:
        """Regions that do not say are left out."""
        kept = {}
        for region in self._regions:
            for process in region.replicators[:1]:
                reply = await self._call(process, {"operation": "show"})
                if "result" in reply:
                    kept[region.name] = bool(reply["result"]["on"])
        return kept

    async def _call(self, process: ProcessSpec, body: dict[str, Any]) -> dict[str, Any]:
        """{"result"} or {"error"}, which is noted."""
        call = {"table": self._request.get("table"), **body}
        reply = await self._administration.ask(process, "conflicts", call)
        if "error" in reply:
            self._untold[process.id] = str(reply["error"])
        return reply


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """The answer to {"operation": "show", "set" or "purge", "table", "region", ...}. Raises CommandError."""
    asked = Asked(topology, children, request, token)
    match request.get("operation"):
        case "set":
            return await asked.switch()
        case "purge":
            return await asked.purge()
    return await asked.show()
