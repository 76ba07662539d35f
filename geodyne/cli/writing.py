"""The supervisor's part of `geodyne writes`: the operator's call goes on to the replicators of the regions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from geodyne.cli.administration import Administration
from geodyne.cli.child import Child
from geodyne.topology import Topology

CALL: Final = ("operation", "table", "mode", "active", "home", "force")


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"regions": {region: what replication.writing answers, or {"error"}}} of {"operation", "table", ...}; of all
    regions, or of the one that `at` names. Raises CommandError."""
    administration = Administration(topology, children, token)
    regions = administration.regions(request.get("at"))
    call = {name: request.get(name) for name in CALL}
    replies = await asyncio.gather(*(administration.ask_replicator(region, "writes", call) for region in regions))
    return {
        "regions": {region.name: reply.get("result", reply) for region, reply in zip(regions, replies, strict=True)}
    }
