"""A whole region in one thread: three real nodes on simulated machines, and real clients, driven by one seed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from prometheus_client import CollectorRegistry

from geodyne.catalog import TableRecord, TableStatus
from geodyne.messages import METADATA_PARTITION, Answer, Call, Control, ControlDone, Hello, Request, WriteId
from geodyne.rpc.catalogview import CatalogView
from geodyne.rpc.pending import PendingCall
from geodyne.rpc.region import NodeAddress, RegionClient
from geodyne.sim.localindexes import check_local_indexes, held
from geodyne.sim.loop import SimClock, SimLoop
from geodyne.sim.network import Ledger, Pipe, SimConnector, SimPeers, Violation, World, connect_peers
from geodyne.sim.storage import DurableStates, InlineConnection, SimDisk, copy_directory, simulated_storage
from node import handover, maintenance, service, transfer
from node.compose import Node, NodePlace, open_node
from node.group import Group

REGION = "us-east-1"
ZONES = ("a", "b", "c")
MEMBERS = {f"{REGION}/node-{zone}": zone for zone in ZONES}
CHECK_EVERY_S = 0.25
CLOCK_RATE = 0.004  # lease clocks run this much too fast or too slow
CLOCK_SKEW_US = 200_000


class SimNode:
    """One node's machine: it dies and starts again on the same data."""

    def __init__(self, region: Region, node_id: str, zone: str) -> None:
        self.id = node_id
        self.zone = zone
        self.life = 0
        self.alive = False
        self.peer_pipes: dict[str, Pipe] = {}
        self._region = region
        random = region.random
        self.clock = SimClock(
            region.loop,
            rate=1 + random.uniform(-CLOCK_RATE, CLOCK_RATE),
            lease_offset_ms=random.randrange(10_000_000),
            skew_us=random.randint(-CLOCK_SKEW_US, CLOCK_SKEW_US),
        )
        self.node: Node | None = None
        self.disk: SimDisk | None = None
        self.fatal = ""

    @property
    def handler(self) -> Any:
        assert self.node is not None
        return self.node.service

    def hello(self) -> Hello:
        assert self.node is not None
        return Hello("sim", REGION, self.id, self.node.incarnation, 1)

    def _directory(self, life: int) -> Path:
        return self._region.path / f"{self.zone}-{life}"

    def start(self) -> None:
        assert not self.alive
        self.life += 1
        self._registry = CollectorRegistry()
        self.disk = SimDisk(Random(self._region.random.getrandbits(64)))
        place = NodePlace("sim", REGION, self.id, MEMBERS, self._directory(self.life))
        self.node = open_node(
            place,
            clock=self.clock,
            random=Random(self._region.random.getrandbits(64)),
            registry=self._registry,
            fatal=self._on_fatal,
            disk=self.disk,
        )
        self.alive = True
        self._check_indexes()
        connector = SimConnector(self._region.world, self._region.ledger, self.id, self._region.nodes_by_id)
        self.node.start(SimPeers(self), connector)

    def _check_indexes(self) -> None:
        """What was recovered is whole: rows and entries are of one transaction."""
        assert self.node is not None
        groups = self.node.service.groups
        for partition in self.node._store._groups:
            state = groups.stored_state(partition)
            if state is not None:
                check_local_indexes(self.id, self.node._store, partition, state.definition)

    def _on_fatal(self, reason: str) -> None:
        self.fatal = reason
        self._region.problems.append(f"{self.id} stopped itself: {reason}")

    def ask(self, call: Call, write_id: WriteId | None = None) -> list[Answer]:
        """Hand this node a call outside of any stream; its answer will be in the list."""
        answers: list[Answer] = []
        request = Request(1, call, write_id, 10_000)
        self.handler.on_requests((request,), lambda response: answers.append(response.answer))
        return answers

    def count(self, metric: str, **labels: str) -> float:
        """A metric of this life."""
        return self._registry.get_sample_value(metric, labels) or 0.0

    async def kill(self, power_loss: bool = False) -> None:
        """End the process now; with `power_loss` what was not durable may be gone too."""
        assert self.node is not None
        assert self.disk is not None
        self.alive = False
        old, new = self._directory(self.life), self._directory(self.life + 1)
        copy_directory(old, new)
        if power_loss:
            self.disk.lose_power(new, old)
            self._region.durable.lose_power(old / "state.db", new / "state.db", self._region.random)
        self.node.service.stop()
        await self.node.service.indexes.wait_closed()
        await self.node.region_link.close()
        task = self.node._task
        assert task is not None
        task.cancel()
        self.disk.close_all()
        self.peer_pipes.clear()
        self._region.world.cut(self.id, reason="the process died")
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.01)
        self._drop()

    def lose_disk(self) -> None:
        """After its death: the next start finds nothing."""
        assert not self.alive
        shutil.rmtree(self._directory(self.life + 1))

    async def stop(self) -> None:
        """An orderly stop."""
        assert self.node is not None
        assert self.disk is not None
        await self.node.hand_over()
        self._region.world.cut(self.id, reason="the node stops")
        self.alive = False
        await self.node.stop()
        copy_directory(self._directory(self.life), self._directory(self.life + 1))
        self._drop()

    def _drop(self) -> None:
        assert self.node is not None
        assert self.disk is not None
        self.disk.close_all()
        old = self._directory(self.life)
        for connection in [c for c in InlineConnection.opened if old in c.path.parents]:
            connection.close_now()
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed already by an orderly stop
            self.node._store._reader.close()
        self.node._store._db.close()
        self.node._directory.close()
        shutil.rmtree(old)
        self.node = None

    def close(self) -> None:
        if self.node is not None:
            self.node.service.stop()
            if self.node._task is not None:
                self.node._task.cancel()
            self.alive = False
            self._drop()


class SimClient:
    """One router: its own incarnation, and its own place in the network."""

    def __init__(self, region: Region, number: int) -> None:
        self.id = f"client-{number}"
        self.connector = SimConnector(region.world, region.ledger, self.id, region.nodes_by_id)
        self.region = RegionClient(
            REGION,
            ZONES[number % len(ZONES)],
            [NodeAddress(node.id, node.zone, "") for node in region.nodes],
            self.connector,
            router_incarnation=region.random.getrandbits(63),
        )


class Region:
    def __init__(self, seed: int, path: Path, loop: SimLoop, durable: DurableStates, clients: int) -> None:
        self.seed = seed
        self.path = path
        self.loop = loop
        self.durable = durable
        self.random = Random(seed)
        self.problems: list[str] = []
        self.world = World(loop, self.random)
        self.ledger = Ledger(loop)
        self.nodes = [SimNode(self, node_id, zone) for node_id, zone in MEMBERS.items()]
        self.nodes_by_id = {node.id: node for node in self.nodes}
        self.clients = [SimClient(self, number) for number in range(clients)]
        self._tables = 0
        loop.set_exception_handler(self._on_exception)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        self.problems.append(f"{context.get('message')}: {trace}")

    @property
    def client(self) -> RegionClient:
        return self.clients[0].region

    async def start(self) -> None:
        for node in self.nodes:
            node.start()
        for number, one in enumerate(self.nodes):
            for two in self.nodes[number + 1 :]:
                connect_peers(self.world, one, two)
        for client in self.clients:
            client.region.start()
            await asyncio.wait_for(client.region.wait_ready(), 30)

    async def close(self) -> None:
        for client in self.clients:
            await client.region.close()
        for node in self.nodes:
            node.close()
        await asyncio.sleep(0.1)

    def check(self) -> None:
        """What must hold at any time. Raises Violation."""
        if self.problems:
            raise Violation("; ".join(self.problems))
        self.ledger.check()
        self.world.keepalive()
        for node in self.nodes:
            if node.alive and node.node is not None:
                for group in node.node.service.groups:
                    group.raft.check_invariants()
                    if group.state.applied_index > group.raft.log.persisted_index:
                        raise Violation(f"{node.id}: the state of partition {group.partition} is ahead of its log")

    async def run_for(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(min(CHECK_EVERY_S, max(0.001, until - self.loop.time())))
            self.check()

    async def until(self, what: Callable[[], object], why: str, timeout_s: float = 30.0, step_s: float = 0.01) -> None:
        until = self.loop.time() + timeout_s
        check_at = self.loop.time()
        while not what():
            now = self.loop.time()
            if now > until:
                raise Violation(f"not within {timeout_s} s: {why}")
            if now >= check_at:
                self.check()
                check_at = now + CHECK_EVERY_S
            await asyncio.sleep(step_s)

    # --- looking inside ---------------------------------------------------------------------------------

    def group(self, node: SimNode, partition: int) -> Group | None:
        return node.node.service.groups.get(partition) if node.node is not None and node.alive else None

    def leader(self, partition: int) -> SimNode | None:
        """The serving leader of the highest term."""
        found: tuple[int, SimNode] | None = None
        for node in self.nodes:
            group = self.group(node, partition)
            if group is not None and group.serving and (found is None or group.raft.term > found[0]):
                found = (group.raft.term, node)
        return found[1] if found is not None else None

    def others(self, node: SimNode) -> list[SimNode]:
        return [other for other in self.nodes if other is not node]

    def isolate(self, node: SimNode, *, from_clients: bool) -> None:
        """Cut a node off from its peers, and from the clients too if asked."""
        parties = [other.id for other in self.nodes]
        if from_clients:
            parties += [client.id for client in self.clients]
        self.world.isolate(node.id, parties)

    def lead_by(self, partition: int, wanted: SimNode) -> Callable[[], bool]:
        """For `until`: have `wanted` lead the partition."""

        def done() -> bool:
            leader = self.leader(partition)
            group = self.group(leader, partition) if leader is not None else None
            if leader is None or group is None or leader is wanted:
                return leader is wanted
            now_ms = leader.clock.lease_ms()
            if not group.handing_over and group.raft.can_take_over(wanted.id, now_ms):
                group.hand_over(wanted.id, now_ms)
                leader.handler.touch(group)
            return False

        return done

    # --- tables -----------------------------------------------------------------------------------------

    async def control(self, operation: str, body: dict[str, Any], client: RegionClient | None = None) -> Any:
        client = client or self.client
        answer = await client.call(Control(operation, body), timeout_ms=15_000)
        if isinstance(answer, ControlDone):
            await client.wait_revision(answer.revision, 10_000)
        return answer

    async def create_table(self, name: str = "T", **extra: Any) -> TableRecord:
        definition = {"name": name, "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None, **extra}
        answer = await self.control("create_table", {"definition": definition})
        if not isinstance(answer, ControlDone):
            raise Violation(f"create_table: {answer}")
        return await self.active(name)

    async def active(self, name: str = "T") -> TableRecord:

        def is_active(catalog: CatalogView) -> bool:
            return name in catalog.tables and catalog.tables[name].status is TableStatus.ACTIVE

        await self.until(
            lambda: all(is_active(client.region.catalog) for client in self.clients), f"table {name} is active"
        )
        return self.client.catalog.tables[name]

    async def settle(self, partitions: list[int], timeout_s: float = 40.0) -> None:
        """No faults any more: until every replica has applied the same, and then compare them."""

        def settled() -> bool:
            for partition in [METADATA_PARTITION, *partitions]:
                groups = [self.group(node, partition) for node in self.nodes]
                if any(group is None for group in groups) or self.leader(partition) is None:
                    return False
                if len({(g.state.applied_index, g.raft.commit_index, g.raft.log.last_index) for g in groups if g}) != 1:
                    return False
                if any(g.state.applied_index != g.raft.log.last_index for g in groups if g):
                    return False
            return True

        await self.until(settled, "all replicas are equal and a leader serves", timeout_s)
        for partition in partitions:
            dumps = [self.dump(node, partition) for node in self.nodes]
            if any(dump != dumps[0] for dump in dumps[1:]):
                raise Violation(f"replicas of partition {partition} differ: {_difference(dumps)}")

    def dump(self, node: SimNode, partition: int) -> dict[str, Any]:
        """All replicated state of one replica."""
        assert node.node is not None
        store = node.node._store
        group = self.group(node, partition)
        assert group is not None
        check_local_indexes(node.id, store, partition, group.state.definition)
        return {
            "indexes": held(store, partition, group.state.definition),
            "state": group.state.to_bytes(),
            "window": group.window.to_bytes(),
            "rows": store.range(partition, b"", b"\xff" * 64, False, 100_000, tombstones=True),
            "feed": store.read_feed(partition, group.state.feed_floor, 1 << 30, 100_000),
        }


def _difference(dumps: list[dict[str, Any]]) -> str:
    names = [name for name in dumps[0] if any(dump[name] != dumps[0][name] for dump in dumps)]
    return ", ".join(f"{name}: {[dump[name] for dump in dumps]}" for name in names)[:4000]


@contextmanager
def _patched(small: bool) -> Iterator[None]:
    """Sets iterate by hash: make that the same in every run. Small bounds, so that every path is taken. And no logs."""
    patches: list[Any] = [
        patch.object(Group, "__hash__", lambda group: group.partition),
        patch.object(PendingCall, "__hash__", lambda call: call.partition),
    ]
    if small:
        patches += [
            patch.object(maintenance, "CHECKPOINT_LOG_BYTES", 4_000),
            patch.object(maintenance, "CHECKPOINT_INTERVAL_S", 2.0),
            patch.object(maintenance, "INTERVAL_S", 0.3),
            patch.object(maintenance, "TAIL_BYTES", 300),
            patch.object(handover, "STEADY_MS", 1_000),
            patch.object(transfer, "CHUNK_BYTES", 1_000),
            patch.object(service, "APPLY_TURN_EFFECTS_MAX", 4),
        ]
    logger = logging.getLogger("geodyne")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()
        logger.setLevel(level)


@asynccontextmanager
async def region(seed: int, path: Path, *, clients: int = 2, small: bool = True) -> AsyncIterator[Region]:
    """A started region without tables; checked and closed at the end."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    random = Random(seed ^ 0x5EED)
    with simulated_storage(random) as durable, _patched(small):
        here = Region(seed, path, loop, durable, clients)
        try:
            await here.start()
            yield here
            here.check()
        finally:
            await here.close()
