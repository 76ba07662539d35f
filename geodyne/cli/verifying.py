"""The supervisor's part of `geodyne verify`: the operator's call goes on to the replicator of a region that has the
table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from geodyne.cli.administration import Administration
from geodyne.cli.child import Child
from geodyne.cli.errors import CommandError
from geodyne.topology import Topology

ANSWER_SECONDS_MAX: Final = 5.0  # of one replicator, which answers from memory


async def administer(
    topology: Topology, children: Mapping[str, Child], request: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """{"region", "running", "comparisons"} of {"operation", "table", "repair", "region"} (replication.comparing).
    Raises CommandError when no replicator can do it."""
    administration = Administration(topology, children, token)
    call = {name: request.get(name) for name in ("operation", "table", "repair")}
    reasons = []
    for region in administration.regions(request.get("region")):
        reply = await administration.ask_replicator(region, "verify", call, ANSWER_SECONDS_MAX)
        if "result" in reply:
            return dict(reply["result"])
        reasons.append(str(reply["error"]))
    raise CommandError("; ".join(reasons))
