"""The nodes of a process's own region: how it dials them, and how it learns that there are others now.

The launch file names them. Whoever adds or removes a node writes the launch files anew and has each process read its
own again (`POST /admin/reload` on its metrics page). Only the nodes of the region are taken over then; everything
else of the file waits for the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from geodyne.catalog import ControlOperation
from geodyne.errors import ApiError
from geodyne.messages import Answer, Control, ControlDone, Refused
from geodyne.rpc.delay import DelayedLinks
from geodyne.rpc.drive import Reply
from geodyne.rpc.nodelink import NodeAddress
from geodyne.settings import ProcessConfig, SettingsError, load

_log = logging.getLogger("geodyne.members")

MEMBER_OPERATIONS: Final = frozenset(
    {
        ControlOperation.NODE_LIST,
        ControlOperation.NODE_DRAIN,
        ControlOperation.NODE_ACTIVATE,
        ControlOperation.NODE_REMOVE,
    }
)
CONTROL_TIMEOUT_MS: Final = 5_000

AdminCall = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
OnMembers = Callable[[Sequence[NodeAddress]], Awaitable[None]]


class Members:
    """The nodes of the region as the launch file names them, this process included if it is one."""

    def __init__(self, config: ProcessConfig, links: DelayedLinks) -> None:
        self._config = config
        self._links = links
        self._reloading = asyncio.Lock()

    async def addresses(self) -> list[NodeAddress]:
        """All nodes of the region, each with the address to dial from here; "" for this process itself."""
        return await self._addresses(self._config)

    async def _addresses(self, config: ProcessConfig) -> list[NodeAddress]:
        topology = config.topology
        found = []
        for node in topology.regions[config.region].nodes:
            own = node.id == config.process_id
            address = "" if own else await self._links.via(node.address, topology.one_way_ms(config.spec, node))
            found.append(NodeAddress(node.id, node.zone, address))
        return found

    def admin(self, on_members: OnMembers) -> dict[str, AdminCall]:
        """For the metrics page: `reload`, which tells `on_members` all nodes when they are others than before."""

        async def reload(_arguments: dict[str, Any]) -> dict[str, Any]:
            async with self._reloading:
                fresh = self._read()
                if isinstance(fresh, str):
                    _log.error("the launch file is not taken over", extra={"reason": fresh})
                    return {"error": fresh}
                nodes = await self._addresses(fresh)
                if fresh.topology.regions[fresh.region].nodes != self._config.topology.regions[fresh.region].nodes:
                    _log.info("the nodes of the region have changed", extra={"nodes": [node.id for node in nodes]})
                    await on_members(nodes)
                self._config = fresh  # only now: what failed half-way is done again
            return {"nodes": {node.id: node.zone for node in nodes}}

        return {"reload": reload}

    def _read(self) -> ProcessConfig | str:
        """The launch settings with the file's topology, or why it cannot be taken over."""
        own = self._config
        try:
            fresh = load(Path(own.launch_file))
        except SettingsError as error:
            return str(error)
        if (fresh.cluster_id, fresh.process_id, fresh.region) != (own.cluster_id, own.process_id, own.region):
            return f"{own.launch_file} is the launch file of another process"
        return replace(own, topology=fresh.topology)


class RegionCalls(Protocol):
    """What the administration of nodes needs of a RegionClient."""

    def call(self, call: Control, *, timeout_ms: int) -> Reply[Answer]: ...


def member_administration(region: RegionCalls) -> dict[str, AdminCall]:
    """For the metrics page of a process with links to all nodes: `members`, one control operation on those nodes.

    It takes {"operation", "body"} and answers {"result"} or {"error"}, the latter a sentence for the operator.
    """

    async def members(arguments: dict[str, Any]) -> dict[str, Any]:
        operation, body = arguments.get("operation"), arguments.get("body", {})
        if operation not in MEMBER_OPERATIONS or not isinstance(body, Mapping):
            return {"error": f"operation must be one of {', '.join(sorted(MEMBER_OPERATIONS))}, body an object"}
        try:
            answer = await region.call(Control(str(operation), dict(body)), timeout_ms=CONTROL_TIMEOUT_MS)
        except ApiError as error:
            return {"error": f"the nodes of the region did not answer: {error.message}"}
        if isinstance(answer, ControlDone):
            return {"result": answer.body}
        return {"error": answer.message if isinstance(answer, Refused) else "the region gave no answer; try again"}

    return {"members": members}
