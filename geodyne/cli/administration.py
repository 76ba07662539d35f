"""The supervisor's calls to the processes that carry out what an operator asks (/admin of their metrics pages)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from geodyne.cli import probe
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.topology import ProcessSpec, RegionSpec, Topology

ANSWER_SECONDS_MAX: Final = 12.0  # of one process: more than the metadata group is given for a control operation


@dataclass(frozen=True, slots=True)
class Administration:
    """Of one running cluster. `token` is the one that its processes ask for."""

    topology: Topology
    children: Mapping[str, Child]
    token: str

    def regions(self, name: object) -> list[RegionSpec]:
        """The region of that name; all of them for None. Raises CommandError."""
        known = self.topology.regions
        if name is None:
            return list(known.values())
        if not isinstance(name, str) or name not in known:
            raise CommandError(f"there is no region {name}; there are {', '.join(known)}")
        return [known[name]]

    async def ask(
        self, process: ProcessSpec, call: str, body: dict[str, Any], seconds_max: float = ANSWER_SECONDS_MAX
    ) -> dict[str, Any]:
        """{"result"} or {"error"}; with the latter it may have had an effect."""
        child = self.children.get(process.id)
        if child is None or not child.ready.is_set():
            return {"error": f"{process.id} is not ready"}
        answer = await probe.administer(process.metrics, call, body, self.token, seconds_max)
        reply = answer.json() if answer is not None else {}
        if "result" in reply or "error" in reply:
            return reply
        return {"error": f"{process.id} does not answer"}

    async def ask_replicator(
        self, region: RegionSpec, call: str, body: dict[str, Any], seconds_max: float = ANSWER_SECONDS_MAX
    ) -> dict[str, Any]:
        """Likewise, of the region's replicator."""
        if not region.replicators:
            return {"error": f"{region.name} has no replicator: the cluster has one region"}
        return await self.ask(region.replicators[0], call, body, seconds_max)
