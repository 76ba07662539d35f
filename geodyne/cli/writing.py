"""The supervisor's part of `geodyne writes`: the operator's call goes on to the replicators of the regions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from geodyne.cli import probe
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.topology import Topology

ANSWER_SECONDS_MAX: Final = 12.0  # more than the metadata group is given for a control operation
CALL: Final = ("operation", "table", "mode", "active", "home", "force")


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"regions": {region: what replication.writing answers, or {"error"}}} of {"operation", "table", ...}; of all
    regions, or of the one that `at` names. Raises CommandError."""
    at = request.get("at")
    if at is not None and at not in topology.regions:
        raise CommandError(f"there is no region {at}; there are {', '.join(topology.regions)}")
    names = list(topology.regions) if at is None else [str(at)]
    call = {name: request.get(name) for name in CALL}
    answers = await asyncio.gather(*(_ask(topology, children, name, call, token) for name in names))
    return {"regions": dict(zip(names, answers, strict=True))}


async def _ask(
    topology: Topology, children: Mapping[str, Child], region: str, call: dict[str, Any], token: str
) -> dict[str, Any]:
    for process in topology.regions[region].replicators[:1]:
        if not children[process.id].ready.is_set():
            return {"error": f"{process.id} is not ready"}
        answer = await probe.administer(process.metrics, "writes", call, token, ANSWER_SECONDS_MAX)
        if answer is None:
            return {"error": f"{process.id} does not answer"}
        reply = answer.json()
        return dict(reply["result"]) if "result" in reply else {"error": str(reply.get("error", "no answer"))}
    return {"error": f"{region} has no replicator: the cluster has one region"}
