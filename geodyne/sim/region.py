"""A whole region in one thread: three real nodes on simulated machines, and real clients, driven by one seed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from prometheus_client import CollectorRegistry

from geodyne.catalog import TableRecord, TableStatus
from geodyne.messages import METADATA_PARTITION, Answer, Call, Control, ControlDone, Request, WriteId
from geodyne.peermessages import Hello
from geodyne.rpc.catalogview import CatalogView
from geodyne.rpc.codec import STREAM_FORMAT
from geodyne.rpc.pending import PendingCall
from geodyne.rpc.region import NodeAddress, RegionClient
from geodyne.sim.checks import PROBLEMS_MAX, Checks
from geodyne.sim.expiries import check_expiries
from geodyne.sim.localindexes import check_local_indexes, held
from geodyne.sim.loop import PROCESS, SimClock, SimLoop
from geodyne.sim.network import NEUTRAL, Ledger, Pipe, SimConnector, SimPeers, Violation, World, connect_peers
from geodyne.sim.reads import watched_reads
from geodyne.sim.storage import (
    DiskTrouble,
    DurableStates,
    InlineConnection,
    ProcessDied,
    SimDisk,
    copy_directory,
    simulated_storage,
)
from node import handover, maintenance, service, transfer
from node.compose import Node, NodePlace, open_node
from node.feed.retention import FeedSettings
from node.group import Group
from node.membership import REBUILD_AFTER_S
from node.storage.condemned import ASIDE
from node.storage.port import GroupDamaged, StateDamaged, StorageError, WalCorrupt

REGION = "us-east-1"
ZONES = ("a", "b", "c")
MEMBERS = {f"{REGION}/node-{zone}": zone for zone in ZONES}
CHECK_EVERY_S = 0.25
CLOCK_RATE = 0.004  # lease clocks run this much too fast or too slow
CLOCK_SKEW_US = 200_000
RESTART_S = 0.5  # until a supervisor starts a process again that has ended by itself
BURIAL_S = 0.01
FEED = FeedSettings(shard_life_s=5.0)


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
        self.trouble = DiskTrouble()
        self.rotten = False  # its data were damaged, and it has not been rebuilt yet
        self._newest = 0  # incarnation of all its lives
        self._durable: dict[Path, int] = {}  # of the log, when the process before died
        self._failures = 0  # of the disk, before this life
        self._burial: asyncio.Task[None] | None = None

    @property
    def handler(self) -> Any:
        assert self.node is not None
        return self.node.service

    def hello(self) -> Hello:
        assert self.node is not None
        return Hello("sim", self._region.name, self.id, self.node.incarnation, STREAM_FORMAT)

    def _directory(self, life: int) -> Path:
        return self._region.path / f"{self.id.rpartition('/')[2]}-{life}"

    @property
    def data(self) -> Path:
        """Where its data lie now; those of a dead one are what the next life begins with."""
        return self._directory(self.life if self.alive else self.life + 1)

    def start(self) -> None:
        """Begin a life. Raises what `open_node` raises, the data are then as they were, and what `Node.start` raises:
        the process has died of it."""
        assert not self.alive
        self.life += 1
        context = Context()
        context.run(PROCESS.set, self.id)
        self._region.world.contexts[self.id] = context
        self._open_in(context)
        try:
            context.copy().run(self._begin)
        except BaseException:
            if self.alive:  # unless it died in the middle of a write
                self.crash()
            raise

    def _open_in(self, context: Context) -> None:
        try:
            context.copy().run(self._open)
        except BaseException:
            self._close_files()
            old, new = self._directory(self.life), self._directory(self.life + 1)
            if old.exists():
                os.rename(old, new)
            if self.disk is not None:
                self._durable = self.disk.durable_sizes(new, old)
            raise

    def _open(self) -> None:
        region = self._region
        self._registry = CollectorRegistry()
        self._failures = self.trouble.failures
        self.disk = SimDisk(Random(region.random.getrandbits(64)), self.trouble, self._durable, region.world.saw)
        region.durable.troubles[self._directory(self.life)] = self.trouble
        aside = self._directory(self.life) / ("log" + ASIDE)
        shutil.rmtree(aside, ignore_errors=True)
        place = NodePlace(
            "sim", region.name, self.id, dict(region.members), self._directory(self.life), region.founders
        )
        node = open_node(
            place,
            clock=self.clock,
            random=Random(region.random.getrandbits(64)),
            registry=self._registry,
            fatal=partial(self._on_fatal, self.life),
            disk=self.disk,
            rebuild_after_s=region.rebuild_after_s,
            feed=region.feed,
        )
        self.node = node
        self._newest = max(self._newest, node.incarnation)
        if aside.exists():  # it has noticed that its log is damaged: nothing in it was promised by this directory
            region.checks.disk_lost(self.id)

    def _begin(self) -> None:
        assert self.node is not None
        region = self._region
        self.alive = True
        self._check_indexes()
        connector = SimConnector(region.world, region.ledger, self.id, region.nodes_by_id)
        self.node.start(region.checks.watch(self, SimPeers(self)), connector)

    def state_is_durable(self) -> bool:
        """All of what its state database has committed."""
        return self._region.durable.covers(self._directory(self.life) / "state.db")

    async def revive(self, after_s: float) -> None:
        """Start again, as a supervisor does: until the disk lets it. Data that cannot be used are moved away."""
        await asyncio.sleep(after_s)
        while not self.alive:
            await self.buried()
            if self.alive:  # somebody else was as patient
                return
            try:
                self.start()
            except (WalCorrupt, StateDamaged):
                if not self.rotten:
                    raise
                self.lose_disk()
            except StorageError:
                if not self.trouble.failing:
                    raise
                await asyncio.sleep(RESTART_S)
            except ProcessDied:
                await asyncio.sleep(RESTART_S)

    def _check_indexes(self) -> None:
        """What was recovered is whole: rows and entries are of one transaction. The start goes on: a start that fails
        is a fault, and this is a finding."""
        assert self.node is not None
        groups = self.node.service.groups
        for partition in self.node._store._groups:
            state = groups.stored_state(partition)
            if state is None:
                continue
            try:
                check_local_indexes(self.id, self.node._store, partition, state.definition)
                check_expiries(self.id, self.node._store, partition, state.definition)
            except Violation as violation:
                self._region.problem(f"{self.id} starts, {violation}")
            except GroupDamaged as damage:
                if not self.rotten:
                    self._region.problem(f"{self.id} starts, {damage}")

    def _on_fatal(self, life: int, reason: str) -> None:
        if not self.alive or self.life != life:  # what a dead process still had to say
            return
        self.fatal = reason
        # It lost its disk after its clock was set back.
        outdated = self.node is not None and self.node.incarnation < self._newest
        if self.rotten or outdated or self.trouble.failures > self._failures:
            self._region.loop.call_soon(self._end, life, context=NEUTRAL)
        else:
            self._region.problem(f"{self.id} stopped itself: {reason}")

    def _end(self, life: int) -> None:
        """The process has ended itself, and its supervisor notices."""
        if self.alive and self.life == life:
            self.crash()
            self._region.revive_soon(self, RESTART_S)

    def ask(self, call: Call, write_id: WriteId | None = None) -> list[Answer]:
        """Hand this node a call outside of any stream; its answer will be in the list."""
        answers: list[Answer] = []
        request = Request(1, call, write_id, 10_000)
        self.handler.on_requests((request,), lambda response: answers.append(response.answer))
        return answers

    def reads_well(self, partition: int) -> bool:
        """All rows of a replica match their checksums."""
        assert self.node is not None
        try:
            self.node._store.range(partition, b"", b"\xff" * 64, False, 100_000, tombstones=True)
        except GroupDamaged:
            return False
        return True

    def count(self, metric: str, **labels: str) -> float:
        """A metric of this life."""
        return self._registry.get_sample_value(metric, labels) or 0.0

    async def kill(self, power_loss: bool = False) -> None:
        """End the process now; with `power_loss` what was not durable may be gone too."""
        self.crash(power_loss)
        await self.buried()

    def crash(self, power_loss: bool = False) -> None:
        """The same without waiting: for any moment between two callbacks, or in the middle of a write."""
        assert self.node is not None
        assert self.disk is not None
        region = self._region
        self.alive = False
        region.checks.died(self.id)
        old, new = self._directory(self.life), self._directory(self.life + 1)
        copy_directory(old, new)
        self._durable = self.disk.durable_sizes(new, old)
        if power_loss:
            self.disk.lose_power(new, old)
            self._durable = {}
            region.durable.lose_power(old / "state.db", new / "state.db", region.random)
        self.node.service.stop()
        if self.node._task is not None:
            self.node._task.cancel()  # at once: its next step would meet closed files
        self.disk.close_all()
        self.peer_pipes.clear()
        region.world.cut(self.id, reason="the process died")
        region.loop.continue_process(self.id)  # its callbacks find it dead
        self._burial = region.loop.create_task(self._bury(), context=NEUTRAL.copy())

    async def _bury(self) -> None:
        assert self.node is not None
        task = self.node._task
        await self.node.service.indexes.wait_closed()
        await self.node.region_link.close()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(BURIAL_S)
        self._drop()

    async def buried(self) -> None:
        """Nothing of the last life runs any more."""
        if self._burial is not None:
            await self._burial
            self._burial = None

    def lose_disk(self) -> None:
        """After its death: the next start finds nothing."""
        assert not self.alive
        shutil.rmtree(self._directory(self.life + 1))
        self._region.checks.disk_lost(self.id)

    async def stop(self) -> bool:
        """An orderly stop; False when somebody else killed the process meanwhile."""
        assert self.node is not None
        life = self.life
        await self.node.hand_over()
        if not self.alive or self.life != life:
            return False
        self._region.world.cut(self.id, reason="the node stops")
        self.alive = False
        self._region.checks.died(self.id)
        try:
            await self.node.stop()
        except ProcessDied:
            self.crash()
            return True
        copy_directory(self._directory(self.life), self._directory(self.life + 1))
        self._durable = {}
        self._drop()
        return True

    def _drop(self) -> None:
        assert self.node is not None
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed already by an orderly stop
            self.node._store._reader.close()
        self.node._store._db.close()
        self.node._directory.close()
        self._close_files()
        shutil.rmtree(self._directory(self.life), ignore_errors=True)  # it may not have come to make one
        self.node = None

    def _close_files(self) -> None:
        if self.disk is not None:
            self.disk.close_all()
        old = self._directory(self.life)
        for connection in [c for c in InlineConnection.opened if old in c.path.parents]:
            connection.close_now()

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
        self.id = f"client-{number}" if region.name == REGION else f"{region.name}/client-{number}"
        self.connector = SimConnector(region.world, region.ledger, self.id, region.nodes_by_id)
        zones = sorted(set(region.founders.values()))
        self.region = RegionClient(
            region.name,
            zones[number % len(zones)],
            region.node_addresses(),
            self.connector,
            router_incarnation=region.random.getrandbits(63),
        )


class Region:
    def __init__(
        self,
        seed: int,
        path: Path,
        loop: SimLoop,
        durable: DurableStates,
        clients: int,
        *,
        name: str = REGION,
        founders: Mapping[str, str] = MEMBERS,
        world: World | None = None,
        feed: FeedSettings | None = None,
    ) -> None:
        """`founders`: nodes and their zones. `world`: the network that it shares with other regions."""
        self.seed = seed
        self.name = name
        self.founders = dict(founders)
        self.feed = feed or FEED
        self.path = path
        self.loop = loop
        self.durable = durable
        self.random = Random(seed)
        self.problems: list[str] = []
        self.checks = Checks(self.problems, loop.time)
        self.world = world or World(loop, self.random)
        self.ledger = Ledger(loop)
        self.members = dict(founders)  # what the launch files say; geodyne.sim.growth changes it
        self.rebuild_after_s = REBUILD_AFTER_S
        self.nodes = [SimNode(self, node_id, zone) for node_id, zone in founders.items()]
        self.nodes_by_id = {node.id: node for node in self.nodes}
        self.clients = [SimClient(self, number) for number in range(clients)]
        self._revivals: set[asyncio.Task[None]] = set()
        loop.set_exception_handler(self._on_exception)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, ProcessDied):
            return
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        self.problem(f"{context.get('message')}: {trace}")

    def problem(self, what: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(what)

    def revive_soon(self, node: SimNode, after_s: float) -> None:
        """Start a dead node again by and by."""
        self._revivals.add(self.loop.create_task(node.revive(after_s), context=NEUTRAL.copy()))

    async def revived(self) -> None:
        """Every node is up; raises what kept one from it."""
        while self._revivals:
            revivals, self._revivals = self._revivals, set()
            await asyncio.gather(*revivals)

    @property
    def client(self) -> RegionClient:
        return self.clients[0].region

    def node_addresses(self) -> list[NodeAddress]:
        return [NodeAddress(node.id, node.zone, "") for node in self.nodes]

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
            self.loop.continue_process(node.id)
            if node._burial is not None:
                await node.buried()
            node.close()
        for task in self._revivals:
            task.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)
        await asyncio.sleep(0.1)

    def check(self) -> None:
        """What must hold at any time. Raises Violation."""
        if self.problems:
            raise Violation("; ".join(self.problems))
        self.ledger.check()
        self.world.keepalive()
        for group in self.checks.stepped_since():
            group.raft.check_invariants()
        for node in self.nodes:
            if node.alive and node.node is not None:
                for group in node.node.service.groups:
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
                groups = [self.group(node, partition) for node in self.holders(partition)]
                if not groups or any(group is None for group in groups) or self.leader(partition) is None:
                    return False
                if len({(g.state.applied_index, g.raft.commit_index, g.raft.log.last_index) for g in groups if g}) != 1:
                    return False
                if any(g.state.applied_index != g.raft.log.last_index for g in groups if g):
                    return False
            return True

        await self.until(settled, "all replicas are equal and a leader serves", timeout_s)
        for partition in partitions:
            dumps = [self.dump(node, partition) for node in self.holders(partition)]
            if any(dump != dumps[0] for dump in dumps[1:]):
                raise Violation(f"replicas of partition {partition} differ: {_difference(dumps)}")

    def holders(self, partition: int) -> list[SimNode]:
        """The nodes that have a replica; of the catalog all have one. None while replicas move, or nobody knows."""
        leader = self.leader(METADATA_PARTITION)
        if partition == METADATA_PARTITION or leader is None:
            return self.nodes if leader is not None else []
        records = {record.id: record for record in leader.handler.catalog.catalog.replicated()}
        record = records.get(partition)
        if record is None or record.target or record.incoming:
            return []
        return [self.nodes_by_id[voter] for voter in record.voters]

    def dump(self, node: SimNode, partition: int) -> dict[str, Any]:
        """All replicated state of one replica."""
        assert node.node is not None
        store = node.node._store
        group = self.group(node, partition)
        assert group is not None
        check_local_indexes(node.id, store, partition, group.state.definition)
        check_expiries(node.id, store, partition, group.state.definition)
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
def _patched(small: bool, random: Random) -> Iterator[None]:
    """Sets iterate by hash: make that the same in every run, and what is drawn from the system. Small bounds, so that
    every path is taken. And no logs."""
    patches: list[Any] = [
        patch.object(os, "urandom", random.randbytes),  # identities, of tables among others
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
    with simulated_storage(random) as durable, _patched(small, random):
        here = Region(seed, path, loop, durable, clients)
        try:
            with watched_reads(here.checks.committed_term, here.checks.problem):
                await here.start()
                yield here
                here.check()
        finally:
            await here.close()
