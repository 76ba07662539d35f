"""A simulated region that gains, drains and loses nodes: what an operator and the supervisor do to a real one."""

from __future__ import annotations

from typing import Any

from geodyne.catalog import PartitionRecord
from geodyne.messages import METADATA_PARTITION, ControlDone
from geodyne.rpc.region import NodeAddress
from geodyne.sim.network import Violation, connect_peers
from geodyne.sim.region import REGION, Region, SimNode

SETTLE_S = 60.0  # of virtual time, for all that moves
STILL_S = 1.0  # without a move: nothing more is coming
LOOK_S = 0.05


class Growth:
    """Changes of one region's nodes."""

    def __init__(self, here: Region) -> None:
        self.here = here
        self.members = here.members

    async def add(self, name: str, zone: str) -> SimNode:
        """A node more: started, known to the others, reached by the clients."""
        node = SimNode(self.here, f"{REGION}/{name}", zone)
        self.members[node.id] = zone
        others = list(self.here.nodes)
        self.here.nodes.append(node)
        self.here.nodes_by_id[node.id] = node
        node.start()
        for other in others:
            connect_peers(self.here.world, other, node)
        await self.tell()
        return node

    async def leave(self, node: SimNode) -> None:
        """A removed node is stopped, and the others forget it."""
        del self.members[node.id]
        await node.stop()
        await self.tell()

    def rebuild_after(self, seconds: float) -> None:
        self.here.rebuild_after_s = seconds
        for node in self.here.nodes:
            if node.alive:
                node.handler.membership._rebuild_after_ms = int(seconds * 1000)

    async def tell(self) -> None:
        """All processes have read the launch file again."""
        addresses = [NodeAddress(node, zone, "") for node, zone in self.members.items()]
        for node in self.here.nodes:
            if node.node is not None and node.alive:
                node.node.members_changed(self.members)
                await node.node.region_link.members_changed(self.members, {})
        for client in self.here.clients:
            await client.region.members_changed(addresses)

    async def control(self, operation: str, **body: Any) -> Any:
        """The answer's body. Raises Violation for any other answer."""
        answer = await self.here.control(operation, body)
        if not isinstance(answer, ControlDone):
            raise Violation(f"{operation} {body}: {answer}")
        return answer.body

    def records(self) -> dict[int, PartitionRecord]:
        """Where replicas are, as the metadata leader has it."""
        leader = self.here.leader(METADATA_PARTITION)
        if leader is None:
            return {}
        return {record.id: record for record in leader.handler.catalog.catalog.replicated()}

    def holders(self, node: SimNode) -> set[int]:
        """The partitions of which a node has a replica, the catalog's aside."""
        assert node.node is not None
        return {group.partition for group in node.node.service.groups} - {METADATA_PARTITION}

    def still(self) -> bool:
        """Nothing moves, and everybody holds what the catalog says and nothing else."""
        records = self.records()
        if not records or any(record.target or record.incoming for record in records.values()):
            return False
        for node in self.here.nodes:
            if not node.alive:
                continue
            wanted = {record.id for record in records.values() if node.id in record.voters} - {METADATA_PARTITION}
            if self.holders(node) != wanted:
                return False
        for record in records.values():
            leader = self.here.leader(record.id)
            group = self.here.group(leader, record.id) if leader is not None else None
            if group is None or group.raft.voters != record.voters or group.raft.configuration.joint:
                return False
        return True

    async def settled(self, timeout_s: float = SETTLE_S) -> None:
        stable = 0

        def still() -> bool:
            nonlocal stable
            stable = stable + 1 if self.still() else 0
            return stable * LOOK_S > STILL_S

        await self.here.until(still, "all replicas are where they belong", timeout_s, LOOK_S)
        self.check()

    async def equal(self) -> None:
        """Once nothing is written any more: all replicas of a partition have the same state. Raises Violation."""

        def applied() -> bool:
            for record in self.records().values():
                groups = [self.here.group(self.here.nodes_by_id[voter], record.id) for voter in record.voters]
                if len({(group.state.applied_index, group.raft.log.last_index) for group in groups if group}) != 1:
                    return False
            return bool(self.records())

        await self.here.until(applied, "all replicas have applied the same")
        for record in self.records().values():
            nodes = [self.here.nodes_by_id[voter] for voter in record.voters]
            dumps = [self.here.dump(node, record.id) for node in nodes if self.here.group(node, record.id)]
            if any(dump != dumps[0] for dump in dumps[1:]):
                raise Violation(f"replicas of partition {record.id} differ: {record}")

    def check(self) -> None:
        """Never two voters in a zone. Raises Violation."""
        for record in self.records().values():
            zones = [self.members[voter] for voter in record.voters]
            if len(set(zones)) < len(zones):
                raise Violation(f"two voters in one zone: {record}")
