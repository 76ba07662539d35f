"""The supervisor's part of `geodyne forget`: the operator's call goes on to the replicators of the regions left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from geodyne.cli import probe
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.topology import Topology

ANSWER_SECONDS_MAX: Final = 12.0  # more than the metadata group is given for a control operation


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"regions": [those that have forgotten it]} of {"table", "lost"}: each is asked first whether it may, so that not
    some forget the region and others go on with it. Raises CommandError."""
    lost = request.get("lost")
    if lost not in topology.regions:
        raise CommandError(f"there is no region {lost}; there are {', '.join(topology.regions)}")
    left = [name for name in topology.regions if name != lost]
    having = []
    for name, answer in zip(left, await _ask_all(topology, children, left, request, "check", token), strict=True):
        if "result" in answer:
            having += [name] if lost in answer["result"]["replicas"] else []
        elif "has no table" not in str(answer["error"]):
            raise CommandError(f"nothing is changed: {answer['error']}")
    if not having:
        raise CommandError(f"no region that is left has a table {request.get('table')} with a replica in {lost}")
    answers = await _ask_all(topology, children, having, request, "forget", token)
    if errors := [str(answer["error"]) for answer in answers if "result" not in answer]:
        raise CommandError(f"not all regions have forgotten it, repeat the command: {'; '.join(errors)}")
    return {"regions": having}


async def _ask_all(
    topology: Topology,
    children: Mapping[str, Child],
    regions: list[str],
    request: Mapping[str, Any],
    operation: str,
    token: str,
) -> list[dict[str, Any]]:
    call = {"operation": operation, "table": request.get("table"), "lost": request.get("lost")}
    return await asyncio.gather(*(_ask(topology, children, name, call, token) for name in regions))


async def _ask(
    topology: Topology, children: Mapping[str, Child], region: str, call: dict[str, Any], token: str
) -> dict[str, Any]:
    for process in topology.regions[region].replicators[:1]:
        if not children[process.id].ready.is_set():
            return {"error": f"{process.id} is not ready"}
        answer = await probe.administer(process.metrics, "forget", call, token, ANSWER_SECONDS_MAX)
        reply = answer.json() if answer is not None else {}
        return dict(reply) if "result" in reply or "error" in reply else {"error": f"{process.id} does not answer"}
    return {"error": f"{region} has no replicator"}
