"""The supervisor's part of `geodyne trigger`: the operator's call goes on to a router of the region meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from geodyne.cli import probe
from geodyne.cli.child import Child
from geodyne.cli.devcontrol import LIST_REGIONS, answered
from geodyne.cli.errors import CommandError
from geodyne.topology import RegionSpec, Topology

ANSWER_SECONDS_MAX: Final = 30.0  # more than a router allows the nodes


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"result"} or {"refused", "code"} of {"region", "operation", "body"}. Raises CommandError for no answer."""
    if request.get("operation") == LIST_REGIONS:
        return {"result": {"regions": list(topology.regions)}}
    region = _region(topology, request.get("region"))
    call = {"operation": request.get("operation"), "body": request.get("body", {})}
    for process in region.routers:
        if not children[process.id].ready.is_set():
            continue
        answer = await probe.administer(process.metrics, "triggers", call, token, ANSWER_SECONDS_MAX)
        reply = answer.json() if answer is not None else {}
        if "error" in reply or "result" in reply:
            return answered(dict(reply))
    raise CommandError(f"no router of {region.name} answers; `geodyne status` shows its processes")


def _region(topology: Topology, name: Any) -> RegionSpec:
    regions = topology.regions
    if name is None and len(regions) == 1:
        return next(iter(regions.values()))
    if name is None:
        raise CommandError(f"which region? --region takes one of {', '.join(regions)}")
    if name not in regions:
        raise CommandError(f"there is no region {name}; there are {', '.join(regions)}")
    return regions[name]
