"""The supervisor's part of `geodyne forget`: the operator's call goes on to the replicators of the regions left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from geodyne.cli.administration import Administration
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.topology import Topology


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"regions": [those that have forgotten it], "parted": whether the lost region was told instead} of {"table",
    "lost"}: each is asked first whether it may, so that not some forget the region and others go on with it. A region
    that all others have forgotten and that is back is told so: its table becomes its own. Raises CommandError."""
    administration = Administration(topology, children, token)
    table, lost = request.get("table"), str(request.get("lost"))
    administration.regions(lost)

    async def ask(regions: list[str], operation: str) -> dict[str, dict[str, Any]]:
        call = {"operation": operation, "table": table, "lost": lost}
        specs = [topology.regions[name] for name in regions]
        replies = await asyncio.gather(*(administration.ask_replicator(spec, "forget", call) for spec in specs))
        return dict(zip(regions, replies, strict=True))

    checked = await ask([name for name in topology.regions if name != lost], "check")
    if errors := [str(reply["error"]) for reply in checked.values() if "error" in reply]:
        raise CommandError(f"nothing is changed: {errors[0]}")
    having = [name for name, reply in checked.items() if lost in reply["result"]["replicas"]]
    if not having:
        reply = (await ask([lost], "part"))[lost]
        if "error" in reply:
            raise CommandError(f"no region that is left has a table {table} with a replica in {lost}; {reply['error']}")
        return {"regions": [lost], "parted": True}
    if reached := [name for name, reply in checked.items() if reply["result"].get("connected")]:
        remedy = "remove its replica with UpdateTable or DeleteTable"
        raise CommandError(f"nothing is changed: {lost} answers {', '.join(reached)}: {remedy}")
    forgotten = await ask(having, "forget")
    if errors := [str(reply["error"]) for reply in forgotten.values() if "error" in reply]:
        raise CommandError(f"not all regions have forgotten it, repeat the command: {'; '.join(errors)}")
    return {"regions": having, "parted": False}
