"""Building a node from its parts, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from geodyne.catalog import PartitionRecord, TableRecord
from geodyne.limits import ITEM_COLLECTION_BYTES_MAX
from geodyne.messages import METADATA_PARTITION
from geodyne.peermessages import PeerMessage
from geodyne.ports import ClientConnector, Clock, PeerNetwork
from geodyne.settings import CLOCK_OFFSET_MS_MAX
from node.catalog.keeper import CatalogKeeper, catalog_records
from node.catalog.placement import REPLICAS, rings_by_zone
from node.conflictlog import ConflictLog
from node.failing import unusable
from node.feed.retention import FeedSettings
from node.formatmark import FormatMark
from node.group import Group
from node.groups import Groups
from node.handover import HandOver
from node.maintenance import Maintenance
from node.membership import REBUILD_AFTER_S
from node.metrics import NodeMetrics
from node.raft.liveness import Liveness
from node.raft.settings import Settings as RaftSettings
from node.regionlink import RegionLink
from node.service import NodeService
from node.space import SpaceGuard
from node.storage.condemned import put_aside
from node.storage.directory import DataDirectory, open_directory
from node.storage.disk import PosixDisk
from node.storage.port import (
    Disk,
    DiskUnusable,
    GroupDamaged,
    Recovered,
    StateDamaged,
    StateFailed,
    StorageError,
    StoredGroup,
    WalCorrupt,
)
from node.storage.sqlite import StateStore
from node.storage.wal import Wal, WalSettings
from node.ttl import TtlSettings

logger = logging.getLogger("geodyne.node")

HAND_OVER_S = 0.3  # how long an orderly stop waits for other nodes to lead
HAND_OVER_STEPS = 30
NO_ADDRESSES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Who a node is and who else is in its region. `members`: node id -> zone, itself included.

    `founders`: likewise, the nodes with which the region began, whether they are still there or not; None: the members.
    A node that came later is never among the first voters of the catalog, so it cannot begin a region of its own."""

    cluster_id: str
    region: str
    node_id: str
    members: Mapping[str, str]
    data_dir: Path
    founders: Mapping[str, str] | None = None

    def peers(self) -> tuple[str, ...]:
        return tuple(node for node in sorted(self.members) if node != self.node_id)

    def catalog_voters(self) -> tuple[str, ...]:
        """With which the catalog's group began: one node a zone, in up to three zones, the first by name. Since then
        its own log says who votes."""
        first: dict[str, str] = {}
        for node, zone in sorted(self._founders().items()):
            first.setdefault(zone, node)
        return tuple(first[zone] for zone in sorted(first)[:REPLICAS])

    def catalog_learners(self) -> tuple[str, ...]:
        """The other nodes with which the region began: all of them follow the catalog."""
        voters = self.catalog_voters()
        return tuple(node for node in sorted(self._founders()) if node not in voters)

    def _founders(self) -> Mapping[str, str]:
        return self.members if self.founders is None else self.founders


class Node:
    """A node without its network: `service` handles the streams. Built by `open_node`."""

    def __init__(
        self,
        place: NodePlace,
        directory: DataDirectory,
        service: NodeService,
        maintenance: Maintenance,
        handover: HandOver,
        log: Wal,
        store: StateStore,
        region_link: RegionLink,
    ) -> None:
        self.place = place
        self.incarnation = directory.incarnation
        self.service = service
        self.region_link = region_link
        self._directory = directory
        self._maintenance = maintenance
        self._handover = handover
        self._log = log
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def start(
        self,
        network: PeerNetwork,
        connector: ClientConnector | None = None,
        addresses: Mapping[str, str] = NO_ADDRESSES,
    ) -> None:
        """Take part. The network may still be closed: messages to peers are then dropped. `connector` and `addresses`
        (node id -> host:port) lead to the client port of the other nodes; a lone node needs neither."""
        self.region_link.attach(self.service, connector, addresses)
        self.service.network = network
        self.service.transfers.network = network
        voters, learners = self.place.catalog_voters(), self.place.catalog_learners()
        founder = self.place.node_id in (*voters, *learners)
        self.service.groups.hold(METADATA_PARTITION, 1, voters, learners, original=founder)
        self.service.start()
        self._task = asyncio.get_running_loop().create_task(self._maintenance.run())
        self._task.add_done_callback(self._maintenance_ended)

    def _maintenance_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not self.service.failure.reason:
            error = task.exception()
            logger.error("maintenance failed", exc_info=error)
            if isinstance(error, StateFailed | OSError):
                self.service.failure.happened("the state", error)
            else:
                self.service.fail("checkpointing failed; see the log")

    async def hand_over(self) -> None:
        """Before a stop, while the network is up: have other nodes lead. Bounded by HAND_OVER_S, done or not.

        That this node leads no more is not enough: it has voted for its successor then, but the vote waits for an
        fsync, and where another voter votes for nobody yet, nobody is elected without it."""
        given: set[Group] = set()
        for _ in range(HAND_OVER_STEPS):
            given.update(self._handover.offer_all())
            if not any(group.leading or not group.raft.leader for group in given):
                return
            await asyncio.sleep(HAND_OVER_S / HAND_OVER_STEPS)

    async def stop(self) -> None:
        """Stop deciding, then make log and state durable, then let go of the files."""
        self.service.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.service.indexes.wait_closed()
        await self.service.membership.wait_closed()
        await self.region_link.close()
        await self.service.transfers.wait_closed()
        if self.service.conflicts is not None:
            await self.service.conflicts.close()
        self._log.close()  # its last callbacks still write to the state
        await self._store.close()
        self._directory.close()

    def members_changed(self, members: Mapping[str, str]) -> None:
        """The launch file names other nodes (node id -> zone), this one included. The network, and whoever opens
        streams to peers, must know them already."""
        self._handover.members_changed(tuple(node for node in sorted(members) if node != self.place.node_id))
        self.service.members_changed(members)

    def status(self) -> dict[str, Any]:
        """For `geodyne status`: the replicas of tables on this node; `leader` is named where it is this node. `behind`:
        in how many groups that this node leads a voter lacks what the others have; `apart`: nodes without a stream to
        here; `members` as in NODE_LIST; `moves` and `short`: the partitions led here whose replicas are on their way,
        or that run on fewer than they should."""
        partitions = self.service.catalog.catalog.partitions()
        replicas = []
        for group in self.service.groups:
            table = partitions.get(group.partition)
            if table is None:
                continue
            index, record = _place_of(table, group.partition)
            replicas.append(
                {
                    "table": table.name,
                    "index": index,
                    "id": group.partition,
                    "leader": self.place.node_id if group.serving else "",
                    "term": group.raft.term,
                    "replicas": list(record.voters),
                    "newcomer": group.raft.newcomer,
                    "items": group.state.items,
                    "bytes": group.state.bytes,
                    "feed": {
                        "head": group.state.feed_head,
                        "floor": group.state.feed_floor,
                        "cursors": dict(group.state.cursors),
                    },
                }
            )
        metadata = self.service.groups.get(METADATA_PARTITION)
        membership = self.service.membership
        return {
            "partitions": replicas,
            "catalog": {
                "revision": self.service.catalog.revision,
                "leader": metadata.raft.leader if metadata is not None else "",
            },
            "replicas": len(self.service.groups),
            "members": membership.members(),
            "moves": membership.moves(),
            "short": membership.short(),
            "newcomers": sum(group.raft.newcomer for group in self.service.groups),
            "behind": dict(Counter(peer for group in self.service.groups for peer in group.raft.behind())),
            "clock": {"node": self.place.node_id, **self.service.clocks.status()},
            "apart": [peer for peer in self.service.peers if not self.service.network.connected(peer)],
        }

    def health(self) -> dict[str, Any]:
        """Healthy once the catalog has a leader: everything else follows from it."""
        metadata = self.service.groups.get(METADATA_PARTITION)
        leader = metadata.raft.leader if metadata is not None else ""
        health: dict[str, Any] = {"healthy": bool(leader), "catalog_leader": leader}
        if self.service.failure.reason:
            return {**health, "healthy": False, "storage": self.service.failure.reason}
        if self.service.space is not None and self.service.space.low:
            health["storage"] = f"disk nearly full: {self.service.space.space.free_bytes} bytes are free"
        return health


def _place_of(table: TableRecord, partition: int) -> tuple[str, PartitionRecord]:
    """The global index that a partition belongs to ("" for one of the table itself), and the partition's record."""
    owners = [("", table.partitions), *((index.name, index.partitions) for index in table.indexes)]
    return next((name, record) for name, partitions in owners for record in partitions if record.id == partition)


class NoPeers:
    """The peer network of a region that is one node."""

    def send(self, peer: str, message: PeerMessage) -> None:
        raise AssertionError(f"a lone node sends to {peer}")

    def connected(self, peer: str) -> bool:
        return False


def open_node(
    place: NodePlace,
    *,
    clock: Clock,
    random: Random,
    registry: CollectorRegistry,
    fatal: Callable[[str], None],
    inline_sync: bool = False,
    disk: Disk | None = None,
    collection_bytes_max: int = ITEM_COLLECTION_BYTES_MAX,
    rebuild_after_s: float = REBUILD_AFTER_S,
    ttl: TtlSettings | None = None,
    feed: FeedSettings | None = None,
    clock_offset_ms_max: float = CLOCK_OFFSET_MS_MAX,
) -> Node:
    """Open the data directory and recover. `disk` is the log's, the machine's own unless given.
    `collection_bytes_max` bounds what one partition key may have in a table with local indexes. The replicas of a node
    that has been silent for `rebuild_after_s` are rebuilt on other nodes of its zone. It does not lead while its clock
    is off the region's by more than `clock_offset_ms_max`.

    Raises node.storage.port.StorageError for data that cannot be used."""
    with _told_to_the_operator(place):
        directory = open_directory(place.data_dir, place.cluster_id, place.node_id, incarnation_min=clock.wall_us())
        try:
            return _open(
                place,
                directory,
                clock,
                random,
                registry,
                fatal,
                inline_sync,
                disk,
                collection_bytes_max,
                rebuild_after_s,
                ttl or TtlSettings(),
                feed or FeedSettings(),
                clock_offset_ms_max,
            )
        except BaseException:
            directory.close()
            raise


@contextmanager
def _told_to_the_operator(place: NodePlace) -> Iterator[None]:
    """Errors of opening name the directory and say what can be done."""
    try:
        yield
    except (WalCorrupt, StateDamaged) as error:
        if place.peers():
            way_out = "this node is then rebuilt from the others, and votes again once it is"
            raise type(error)(f"{error}. Move {place.data_dir} away: {way_out}.") from error
        raise type(error)(f"{error}. Restore {place.data_dir} from a backup.") from error
    except OSError as error:
        kind = DiskUnusable if unusable(error) else StorageError
        raise kind(f"data directory {place.data_dir} cannot be used: {error.strerror or error}") from error


def _open(
    place: NodePlace,
    directory: DataDirectory,
    clock: Clock,
    random: Random,
    registry: CollectorRegistry,
    fatal: Callable[[str], None],
    inline_sync: bool,
    disk: Disk | None,
    collection_bytes_max: int,
    rebuild_after_s: float,
    ttl: TtlSettings,
    feed: FeedSettings,
    clock_offset_ms_max: float,
) -> Node:
    settings = RaftSettings()
    metrics = NodeMetrics(registry)
    log, recovered, store = _open_storage(
        place,
        directory,
        WalSettings(place.cluster_id, place.node_id, inline=inline_sync),
        disk,
        lambda error: service.failure.happened(f"the log in {directory.log_path}", error),
        metrics,
    )
    liveness = Liveness(settings, place.peers(), directory.incarnation, started_ms=clock.lease_ms())
    groups = Groups(
        node_id=place.node_id,
        region=place.region,
        clock=clock,
        random=random,
        log=log,
        store=store,
        liveness=liveness,
        settings=settings,
        roster=directory.roster,
        collection_bytes_max=collection_bytes_max,
    )
    groups.recover(recovered.groups, _sound_groups(place, store, metrics))
    keeper = CatalogKeeper(
        node_id=place.node_id,
        region=place.region,
        clock=clock,
        placement=rings_by_zone(place.members),
        submit=lambda control: service.control_internally(control),  # noqa: PLW0108 - `service` comes later
    )
    keeper.attach(groups)
    region_link = RegionLink(place.region, place.node_id, place.members, random)
    service = NodeService(
        node_id=place.node_id,
        clock=clock,
        random=random,
        log=log,
        store=store,
        liveness=liveness,
        settings=settings,
        groups=groups,
        roster=directory.roster,
        catalog=keeper,
        network=NoPeers(),
        peers=place.peers(),
        metrics=metrics,
        region_link=region_link,
        fatal=fatal,
        members=place.members,
        rebuild_after_s=rebuild_after_s,
        ttl=ttl,
        feed=feed,
    )
    _connect(service, groups, directory)
    stored = groups.stored_state(METADATA_PARTITION)
    if stored is not None:
        keeper.restore(stored.catalog_revision, catalog_records(store))
    handover = HandOver(service, place.peers())
    service.clocks.watch.bound_us = round(clock_offset_ms_max * 1_000)
    service.clocks.give_away = partial(handover.offer_all, right_clocks_only=True)
    space = service.space = SpaceGuard(disk or PosixDisk(), directory.path, metrics, handover.offer_all)
    conflicts = service.conflicts = ConflictLog(
        directory.path / "conflicts", place.node_id, metrics, lambda: keeper.catalog
    )
    conflicts.suspended = lambda: space.low
    maintenance = Maintenance(
        groups, log, store, metrics, space, handover.balance, service.publish_counts, service.look_after
    )
    return Node(place, directory, service, maintenance, handover, log, store, region_link)


def _connect(service: NodeService, groups: Groups, directory: DataDirectory) -> None:
    """What these tell each other, without knowing each other."""
    service.mark = FormatMark(directory.format, partial(_grow, directory))
    service.outgrow = directory.outgrow
    groups.adopted = service.adopt
    groups.dropped = service.moved
    groups.freed = service.replicas_freed
    groups.failed = partial(service.failure.happened, "the state")


def _grow(directory: DataDirectory, format: int) -> None:
    """Raises StateFailed."""
    try:
        directory.grow(format)
    except OSError as error:
        raise StateFailed(f"the mark of {directory.path}: {error.strerror or error}") from error


def _open_storage(
    place: NodePlace,
    directory: DataDirectory,
    settings: WalSettings,
    disk: Disk | None,
    on_error: Callable[[OSError], None],
    metrics: NodeMetrics,
) -> tuple[Wal, Recovered, StateStore]:
    """The log, what is in it, and the state; both or none."""
    log, recovered = _open_log(place, directory, settings, disk, on_error, metrics)
    try:
        return log, recovered, _open_state(place, directory, metrics)
    except BaseException:
        log.discard()
        raise


def _open_log(
    place: NodePlace,
    directory: DataDirectory,
    settings: WalSettings,
    disk: Disk | None,
    on_error: Callable[[OSError], None],
    metrics: NodeMetrics,
) -> tuple[Wal, Recovered]:
    """The log. Where the others hold everything, a damaged one is put aside for an empty one: what this node promised
    in it counts no more, so its replicas go on from their states as newcomers (decision 0013)."""
    try:
        return Wal.open(directory.log_path, settings, disk, on_error=on_error)
    except WalCorrupt as error:
        if len(set(place.members.values())) < REPLICAS:
            raise  # a partition has fewer replicas than it takes to go on without one that counts for nothing
        metrics.damage.inc()
        aside = directory.put_log_aside()
        logger.error(
            "the log is damaged; put aside: this node votes again once its replicas are rebuilt",
            extra={"reason": str(error), "path": str(aside)},
        )
        return Wal.open(directory.log_path, settings, disk, on_error=on_error)


def _open_state(place: NodePlace, directory: DataDirectory, metrics: NodeMetrics) -> StateStore:
    """The state database. With other nodes to heal from, a damaged one is put aside for an empty one."""
    try:
        store = StateStore.open(directory.state_path)
        damage = store.structure_damage()
        if damage and place.peers():
            store.discard()
            raise StateDamaged(f"{directory.state_path}: {damage}")
        if damage:
            metrics.damage.inc()
            logger.critical(
                "the state database is damaged: rows may be missing. Restore the data directory from a backup",
                extra={"reason": damage, "path": str(directory.state_path)},
            )
        return store
    except StateDamaged as error:
        if not place.peers():
            raise
        metrics.damage.inc()
        aside = put_aside(directory.state_path)
        logger.error("the state database is damaged; put aside", extra={"reason": str(error), "path": str(aside)})
        return StateStore.open(directory.state_path)


def _sound_groups(place: NodePlace, store: StateStore, metrics: NodeMetrics) -> dict[int, StoredGroup]:
    """What the state database holds, without the groups that must be built anew from the log or by the other nodes.
    Raises StateDamaged when there are no others."""
    stored = store.groups()
    damaged = [partition for partition, group in stored.items() if group.damaged]
    if METADATA_PARTITION in stored and METADATA_PARTITION not in damaged:
        try:
            catalog_records(store)
        except GroupDamaged:
            damaged.append(METADATA_PARTITION)
    if damaged and not place.peers():
        raise StateDamaged(f"{store.path}: the state of partitions {damaged} is damaged")
    for partition in damaged:
        metrics.damage.inc()
        logger.error("replica damaged; it is built anew", extra={"partition": partition})
        store.destroy(partition)
        del stored[partition]
    return stored


def single_node_place(cluster_id: str, region: str, data_dir: Path, zones: Sequence[str] = ("a",)) -> NodePlace:
    """`geodyne dev`: one node in one zone."""
    node_id = f"{region}/node-{zones[0]}"
    return NodePlace(cluster_id, region, node_id, {node_id: zones[0]}, data_dir)
