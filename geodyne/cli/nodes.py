"""Adding and removing nodes of a running cluster, as the supervisor does it.

What a node is for is decided in its region's catalog (the control operations NODE_... of geodyne.catalog), asked for
over a process of the region that has links to all nodes. Here is the rest: the process, its files, telling the others.

Must hold:
- cluster.json says first that a node is a member: whatever happens then, the next `geodyne up` starts it and names it
  to all others. It is forgotten there only once the catalog has let it go.
- Every process of the region that runs learns of each change. Those that do not answer are told again and again.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from geodyne.catalog import ControlOperation
from geodyne.cli import launch, localports, probe
from geodyne.cli.child import Child
from geodyne.cli.datadir import ClusterDirectory
from geodyne.cli.errors import CommandError
from geodyne.topology import (
    NODES_PER_ZONE_MAX,
    ROLE_GLOBAL,
    ROLE_NODE,
    ProcessSpec,
    RegionSpec,
    Topology,
)

CONTROL_SECONDS_MAX: Final = 6.0  # more than the asked process allows the nodes
TELL_AGAIN_SECONDS: Final = 0.5
TOLD_SECONDS_MAX: Final = 10.0  # how long a command waits for all processes to know; they are told until they do
NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_DIRECTED: Final = {
    "node_drain": ControlOperation.NODE_DRAIN,
    "node_activate": ControlOperation.NODE_ACTIVATE,
}


class Processes(Protocol):
    """What the supervisor lets its nodes be changed by."""

    topology: Topology
    children: dict[str, Child]

    def take_on(self, spec: ProcessSpec) -> None:
        """Begin to keep one more process running."""

    async def let_go(self, child: Child) -> None:
        """Stop a process for good and forget it."""

    async def while_nothing_restarts(self, region: str, change: Callable[[], Awaitable[None]]) -> None:
        """Do it while no process of the region is being replaced. Raises CommandError when one is."""


class Nodes:
    """The commands on nodes. One change at a time."""

    def __init__(
        self,
        processes: Processes,
        directory: ClusterDirectory,
        options: launch.ClusterOptions,
        say: Callable[[str], None],
    ) -> None:
        self._processes = processes
        self._directory = directory
        self._options = options
        self._say = say
        self._changing = asyncio.Lock()
        self._edition = 0  # of the launch files
        self._told: dict[str, tuple[int, int]] = {}  # process -> (pid, edition) of its last confirmation
        self._telling: asyncio.Task[None] | None = None

    async def on_command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request whose command begins with "node_". Raises CommandError."""
        match request:
            case {"command": "node_list"}:
                return await self.listed()
            case {"command": "node_add", "region": region, "zone": str(zone), "name": name}:
                return await self._alone(self._add(self._region(region), zone, name))
            case {"command": "node_remove", "node": str(node), "force": bool(force)}:
                return await self._alone(self._remove(self._node(node), force))
            case {"command": "node_drain" | "node_activate" as command, "node": str(node), "force": bool(force)}:
                spec = self._node(node)
                return await self._control(spec.region, _DIRECTED[command], {"node": node, "force": force})
        raise CommandError("the running supervisor does not know this command; is it another version?")

    async def listed(self) -> dict[str, Any]:
        """{"regions": {name: answer of NODE_LIST, or {"error"}}}, and the state of each node's process."""
        names = list(self._processes.topology.regions)
        answers = await asyncio.gather(*(self._listed_by(name) for name in names))
        return {
            "regions": dict(zip(names, answers, strict=True)),
            "processes": {
                id_: {"zone": child.spec.zone, "region": child.spec.region, "pid": child.pid, "state": str(child.state)}
                for id_, child in self._processes.children.items()
                if child.spec.role == ROLE_NODE
            },
        }

    async def _listed_by(self, region: str) -> dict[str, Any]:
        try:
            return await self._control(region, ControlOperation.NODE_LIST, {})
        except CommandError as error:
            return {"error": str(error), "members": [], "moves": 0}

    def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()

    async def _alone(self, change: Any) -> dict[str, Any]:
        if self._changing.locked():
            change.close()
            raise CommandError("another node is being added or removed; try again when that is done")
        async with self._changing:
            return dict(await change)

    # --- adding -----------------------------------------------------------------------------------------------

    async def _add(self, region: RegionSpec, zone: str, name: str | None) -> dict[str, Any]:
        if zone not in region.zones:
            raise CommandError(f"there is no zone {zone} in {region.name}; its zones are {', '.join(region.zones)}")
        if sum(node.zone == zone for node in region.nodes) >= NODES_PER_ZONE_MAX:
            raise CommandError(f"zone {zone} of {region.name} has {NODES_PER_ZONE_MAX} nodes, which is the most")
        node = self._new_id(region, zone, name)
        ports = self._ports(node)
        try:
            self._directory.write_ports({**self._directory.read_ports(), **ports})
            members = {**region.members(), node: zone}
            self._directory.write_members(region.name, members)
        except OSError as error:
            raise CommandError(f"{node} is not added: {self._directory.path}: {error.strerror}") from None
        self._change(region, members, ports)
        await self._told_everyone()
        spec = self._processes.topology.process(node)
        self._processes.take_on(spec)
        self._say(f"{node} is added on request")
        return {"node": node, "zone": zone, "region": region.name, "data_dir": str(self._directory.node_data(node))}

    def _new_id(self, region: RegionSpec, zone: str, name: str | None) -> str:
        """The id of a node that never was: its data would be taken for the other one's."""
        former = self._directory.former_nodes()
        known = {process.id for process in region.processes()}
        if name is None:
            numbered = (f"{region.name}/node-{zone}" + (f"-{n}" if n > 1 else "") for n in range(1, 10_000))
            found = (id_ for id_ in numbered if id_ not in known and id_ not in former and not self._has_data(id_))
            return next(found)
        if not NAME.fullmatch(name):
            raise CommandError(
                f"a node's name is a letter and up to 31 more letters, digits and hyphens, all lower-case, not {name!r}"
            )
        node = f"{region.name}/{name}"
        if node in known:
            raise CommandError(f"there is a process {node} already; choose another --name, or leave it out")
        if node in former or self._has_data(node):
            raise CommandError(
                f"{node} was the name of a node that was removed; choose another --name, or leave it out"
            )
        return node

    def _has_data(self, node: str) -> bool:
        return self._directory.node_data(node).exists()

    def _ports(self, node: str) -> dict[str, int]:
        """Free ports for the process and its metrics page. Raises CommandError."""
        used = [spec.address for spec in self._processes.topology.processes()]
        used += [spec.metrics for spec in self._processes.topology.processes()]
        return localports.allocate(
            [node, f"{node}/metrics"],
            {},
            taken=[launch.endpoint(address).port for address in used],
            start=secrets.randbelow(len(localports.INTERNAL_PORTS)),
        )

    # --- removing ---------------------------------------------------------------------------------------------

    async def _remove(self, spec: ProcessSpec, force: bool) -> dict[str, Any]:
        region = self._processes.topology.regions[spec.region]
        if len(region.nodes) == 1:
            raise CommandError(f"{spec.id} is the only node of {region.name}; `geodyne down` stops the cluster")
        await self._control(region.name, ControlOperation.NODE_REMOVE, {"node": spec.id, "force": force})

        async def leave() -> None:
            child = self._processes.children.get(spec.id)
            if child is not None:  # else an earlier attempt got that far
                await self._processes.let_go(child)

        await self._processes.while_nothing_restarts(region.name, leave)
        members = {id_: zone for id_, zone in region.members().items() if id_ != spec.id}
        try:
            self._directory.write_members(region.name, members)
            self._directory.launch_file(spec.id).unlink(missing_ok=True)
            kept = (spec.id, f"{spec.id}/metrics")
            ports = {name: port for name, port in self._directory.read_ports().items() if name not in kept}
            self._directory.write_ports(ports)
        except OSError as error:
            raise CommandError(
                f"{spec.id} has left and is stopped, but {self._directory.path} cannot be written "
                f"({error.strerror}): make room and remove it again after `geodyne up`"
            ) from None
        self._change(region, members, {})
        await self._told_everyone()
        self._say(f"{spec.id} is removed on request; its data stays in {self._directory.node_data(spec.id)}")
        return {"node": spec.id, "region": region.name, "data_dir": str(self._directory.node_data(spec.id))}

    # --- the region's word ------------------------------------------------------------------------------------

    async def _control(self, region: str, operation: ControlOperation, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have a router, or else a replicator, ask the leader of the region's catalog. Raises CommandError."""
        spec = self._processes.topology.regions[region]
        request, token = {"operation": str(operation), "body": dict(body)}, self._options.admin_token
        for process in (*spec.routers, *spec.replicators):
            if not self._processes.children[process.id].ready.is_set():
                continue
            answer = await probe.administer(process.metrics, "members", request, token, CONTROL_SECONDS_MAX)
            reply = answer.json() if answer is not None else {}
            if "error" in reply:
                raise CommandError(str(reply["error"]))
            if isinstance(reply.get("result"), dict):
                return dict(reply["result"])
        raise CommandError(f"no router or replicator of {region} answers; `geodyne status` shows its processes")

    # --- the others -------------------------------------------------------------------------------------------

    def _change(self, region: RegionSpec, members: Mapping[str, str], ports: Mapping[str, int]) -> None:
        """Write every launch file for a region with these nodes; `ports` of those that are new."""
        topology = self._processes.topology.with_region(region.with_members(members, region.founded()))
        known = {process.id: process for process in self._processes.topology.processes()}

        def at(process: ProcessSpec, purpose: str, before: str) -> str:
            return before or f"{localports.LOOPBACK}:{ports[purpose]}"

        processes = list(topology.processes())
        topology = topology.resolved(
            {p.id: at(p, p.id, p.address) for p in processes},
            {p.id: at(p, f"{p.id}/metrics", p.metrics) for p in processes},
        )
        self._processes.topology = topology
        self._edition += 1
        try:
            # A new node's own file comes first: without it it could not start.
            for spec in sorted(topology.processes(), key=lambda process: process.id in known):
                launch.write_launch_file(spec, topology, self._options, self._directory)
        except OSError as error:
            raise CommandError(
                f"the nodes are changed, but {self._directory.path} cannot be written ({error.strerror}): "
                "make room, then `geodyne down` and `geodyne up`"
            ) from None

    async def _told_everyone(self) -> None:
        """Have all processes that follow the nodes read their launch files again; wait for them, but not for ever."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell(), name="tell of nodes")
        done, _ = await asyncio.wait((self._telling,), timeout=TOLD_SECONDS_MAX)
        if not done:
            self._say(f"{', '.join(self._untold())} do not answer; they learn of the nodes once they do")

    async def _tell(self) -> None:
        while untold := self._untold():
            await asyncio.gather(*(self._tell_one(self._processes.children[id_]) for id_ in untold))
            if self._untold():
                await asyncio.sleep(TELL_AGAIN_SECONDS)

    def _untold(self) -> list[str]:
        """Processes that run with what an earlier edition of their launch files said, or may do so: also a successor
        that began with it and cannot be told before it has taken over."""
        return [
            id_
            for id_, child in self._processes.children.items()
            if child.spec.role != ROLE_GLOBAL
            and child.pid is not None
            and (child.successor is not None or self._told.get(id_) != (child.pid, self._edition))
        ]

    async def _tell_one(self, child: Child) -> None:
        pid, edition = child.pid, self._edition
        answer = await probe.administer(child.spec.metrics, "reload", {}, self._options.admin_token)
        if pid is None or answer is None or answer.status != 200:
            return
        if error := answer.json().get("error"):
            self._say(f"{child.spec.id} does not take over its launch file: {error}")
        self._told[child.spec.id] = pid, edition

    # --- what is meant ----------------------------------------------------------------------------------------

    def _region(self, name: Any) -> RegionSpec:
        regions = self._processes.topology.regions
        if name is None and len(regions) == 1:
            return next(iter(regions.values()))
        if name is None:
            raise CommandError(f"which region? --region takes one of {', '.join(regions)}")
        if name not in regions:
            raise CommandError(f"there is no region {name}; there are {', '.join(regions)}")
        return regions[name]

    def _node(self, node: str) -> ProcessSpec:
        nodes = {spec.id: spec for region in self._processes.topology.regions.values() for spec in region.nodes}
        if node not in nodes:
            raise CommandError(f"there is no node {node}; there are {', '.join(nodes)}")
        return nodes[node]
