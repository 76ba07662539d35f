"""The supervisor's part of `geodyne routes`: the operator's call goes on to the global endpoint, and what only a region
knows of a table is asked of a router there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from geodyne.cli import probe
from geodyne.cli.child import Child
from geodyne.cli.devcontrol import answered
from geodyne.cli.errors import CommandError
from geodyne.topology import Topology

ANSWER_SECONDS_MAX: Final = 10.0
ARGUMENTS: Final = ("operation", "table", "policy", "from", "address", "access_key_id")


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"result"} or {"refused"} of an operation of the global endpoint (router.routeadmin). Raises CommandError for no
    answer."""
    process = topology.global_router
    arguments = {name: request[name] for name in ARGUMENTS if request.get(name) is not None}
    answer = await probe.administer(process.metrics, "routes", arguments, token, ANSWER_SECONDS_MAX)
    reply = answer.json() if answer is not None else {}
    if "result" in reply and arguments.get("operation") == "find" and "table" in arguments:
        reply["result"]["replicas"] = await _replicas(topology, children, reply["result"])
    if "error" in reply or "result" in reply:
        return answered(dict(reply))
    raise CommandError(f"{process.id} does not answer; `geodyne status` shows its state")


async def _replicas(
    topology: Topology, children: Mapping[str, Child], found: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The table's replicas, nearest first, as the catalog of the nearest region that answers and has it knows them."""
    origin = str(found["origin"])
    query = urlencode({"table": found["table"], "from": origin})
    for region in sorted(topology.regions, key=lambda name: topology.region_round_trip_ms(origin, name)):
        for process in topology.regions[region].routers:
            if not children[process.id].ready.is_set():
                continue
            answer = await probe.get(process.metrics, f"/nearest?{query}")
            if answer is not None and answer.status == 200:
                return list(answer.json().get("replicas", []))
    return []
