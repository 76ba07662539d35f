"""The supervisor's part of `geodyne verify`: the operator's call goes on to the replicator of a region that has the
table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from geodyne.cli import probe
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.topology import Topology

ANSWER_SECONDS_MAX: Final = 5.0


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"region", "running", "comparisons"} of {"operation", "table", "repair", "region"} (replication.comparing).
    Raises CommandError when no replicator can do it."""
    asked = request.get("region")
    if asked is not None and asked not in topology.regions:
        raise CommandError(f"there is no region {asked}; there are {', '.join(topology.regions)}")
    call = {name: request.get(name) for name in ("operation", "table", "repair")}
    reasons = []
    for name in [asked] if asked is not None else topology.regions:
        for process in topology.regions[str(name)].replicators[:1]:
            if not children[process.id].ready.is_set():
                reasons.append(f"{process.id} is not ready")
                continue
            answer = await probe.administer(process.metrics, "verify", call, token, ANSWER_SECONDS_MAX)
            reply = answer.json() if answer is not None else {}
            if "result" in reply:
                return dict(reply["result"])
            reasons.append(str(reply.get("error", f"{process.id} does not answer")))
    raise CommandError("; ".join(reasons) or "the cluster has one region: there is nothing to compare")
