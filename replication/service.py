"""The replicator of a region: one link to each other region, one tail for each partition and destination, the
server for what the others ship, and the loop that keeps all this in step with the region's catalog.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, NamedTuple

from geodyne.catalog import REPLICA_HOLDING, LeavingStage, PartitionRecord, ReplicaStatus, TableRecord, TableStatus
from geodyne.network import Pause
from geodyne.peermessages import Hello
from geodyne.ports import Clock
from replication.apply import Applier
from replication.backfill import ScanStats
from replication.collecting import Collecting
from replication.comparing import Comparing
from replication.conflictswitch import ConflictSwitch
from replication.digests import OwnItems
from replication.forgetting import Forgetting
from replication.lifecycle import Exchanged
from replication.link import DestinationLink
from replication.metrics import AppliedFigures, ArrivalFigures, DestinationFigures
from replication.ports import Region
from replication.progress import ProgressSettings
from replication.reconcile import Reconciler
from replication.server import ReplicationServer
from replication.steps import ReplicaSteps
from replication.tail import Shipped, Tail
from replication.values import COMPARING, Command, Result, Ship, Watermark
from replication.watermarks import Watermarks, sources_of, told
from replication.writing import Writing

log = logging.getLogger(__name__)

LOOK_S = 0.25  # between two looks at the catalog that nobody asked for; each costs microseconds when nothing changed
HELD_LOG_EVERY_MS = 10_000
HELD_TABLES_LOGGED_MAX = 1_000


class PeerReplicator(NamedTuple):
    """The replicator of another region. `address` is what to dial, the network's delay included."""

    region: str
    process_id: str
    address: str


class _TailKey(NamedTuple):
    table_id: str
    partition: int
    epoch: int
    destination: str


class Replicator:
    """Everything of one replicator process but its settings, logs and metrics endpoint."""

    def __init__(
        self,
        hello: Hello,
        listen: str,
        peers: Mapping[str, PeerReplicator],
        *,
        region: Region,
        clock: Clock,
        random: Random,
        settings: ProgressSettings | None = None,
        on_latency: Callable[[str, float], None] = lambda _destination, _seconds: None,
    ) -> None:
        """`hello` introduces this process; `listen` is "host:port"; `on_latency(destination, seconds)` observes how
        long changes took from their write to the receipt."""
        self.own = hello.region
        self._region = region
        self._clock = clock
        self._settings = settings or ProgressSettings()
        self._links = {
            peer.region: DestinationLink(peer.region, peer.address, peer.process_id, hello, random)
            for peer in peers.values()
        }
        self._shipped = {name: Shipped(latency=_bound(on_latency, name)) for name in self._links}
        self._scans = {name: ScanStats() for name in self._links}
        self._tails: dict[_TailKey, Tail] = {}
        self._pauses: tuple[Pause, ...] = ()
        self._closing: set[asyncio.Task[None]] = set()  # of tails that are no longer wanted
        self._applier = Applier(region, clock, self._on_held)
        self._wake = asyncio.Event()
        self._reconciler = Reconciler(
            self.own, region, self._links, self._scans, clock, on_progress=self.wake, exchanged=self._exchanged
        )
        self._steps = ReplicaSteps(self.own, region, self._reconciler.on_helping)
        self._server = ReplicationServer(listen, hello, self._applier, self._on_command, self._on_watermark)
        self.watermarks = Watermarks(self.own)
        own_items = OwnItems(self.own, region, self.watermarks)
        self.comparing = Comparing(self.own, region, own_items, self._links, clock)
        self.forgetting = Forgetting(self.own, region, self._links)
        self.conflicts = ConflictSwitch(self.own, region)
        self.writing = Writing(self.own, region, self.watermarks, clock)
        self._collecting = Collecting(self.own, region, self.watermarks, clock)
        self._told: dict[tuple[str, str], Watermark] = {}  # by table id and destination: on the present streams
        self._held_logged_ms: dict[str, int] = {}
        self._seen_revision: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, dial and follow the catalog; returns the port. Raises geodyne.rpc.server.AddressUnavailable."""
        port = await self._server.start()
        for name, link in self._links.items():
            link.subscribe(_LinkWatch(name, self._on_link_down, self.wake))
            link.start()
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self.comparing.start()
        return port

    async def close(self) -> None:
        """Stop taking before stopping to give: what was shipped here and not answered is shipped again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.comparing.close()
        await self._server.close()
        await self._applier.close()
        await self._collecting.close()
        await self._reconciler.close()
        await asyncio.gather(*(tail.close() for tail in self._tails.values()), *self._closing)
        self._tails.clear()
        await asyncio.gather(*(link.close() for link in self._links.values()))

    def set_pauses(self, pauses: Sequence[Pause]) -> None:
        """These, and no others, rest replication from now on. What is under way arrives."""
        self._pauses = tuple(pauses)
        for key, tail in self._tails.items():
            tail.set_paused(self._paused(tail.table.name, key.destination))
        self._reconciler.set_paused(self._paused)

    def _paused(self, table: str, destination: str) -> bool:
        return any(pause.covers(table, self.own, destination) for pause in self._pauses)

    def wake(self) -> None:
        """Look at the catalog in the next loop turn, because it has changed."""
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            try:
                self._look()
            except Exception:  # a defect in one look must not end replication of all tables
                log.exception("following the catalog failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()

    def _look(self) -> None:
        revision = self._region.catalog.revision
        if revision != self._seen_revision:
            self._seen_revision = revision
            self._match_tails()
            self.watermarks.keep(self._region.catalog.tables.values())
        self._reconciler.step()
        self._tell_watermarks()
        self._collecting.step()

    def _on_link_down(self, destination: str) -> None:
        self._told = {key: said for key, said in self._told.items() if key[1] != destination}
        self._reconciler.on_link_down(destination)

    async def _on_command(self, source: str, command: Command) -> Result:
        if command.operation in COMPARING:
            return await self.comparing.on_command(command)
        return await self._steps.on_command(source, command)

    def _on_watermark(self, source: str, said: Watermark) -> None:
        table = self._region.catalog.tables.get(said.table)
        if table is not None and table.id == said.table_id and source in sources_of(table, self.own):
            self.watermarks.hear(source, said)

    def _tell_watermarks(self) -> None:
        """With each look, at most once in LOOK_S unless the catalog changes: what each destination did not hear yet."""
        shipped = self._shipped_through()
        said: dict[tuple[str, str], Watermark] = {}
        for table in self._region.catalog.tables.values():
            arrived_us = self.watermarks.arrived_us(table.id, sources_of(table, self.own))
            for name in table.replicas:
                if name not in self._links:
                    continue
                key = table.id, name
                known = self._told.get(key)
                news = told(table, self.own, name, shipped.get(key, {}), arrived_us) or known
                if news is not None and (news == known or self._links[name].tell(news)):
                    said[key] = news
        self._told = said

    def _exchanged(self, table: TableRecord) -> dict[str, Exchanged]:
        """By other region: how far the exchange of the table's changes has come."""
        shipped = self._shipped_through()
        exchanged = {}
        for name in sources_of(table, self.own):
            there = shipped.get((table.id, name), {})
            sent_us = min((there.get(partition.id, 0) for partition in table.partitions), default=0)
            arrived_us, revision = self.watermarks.us(table.id, name), self._passed_revision(table, name)
            exchanged[name] = Exchanged(sent_us, arrived_us, revision)
        return exchanged

    def _passed_revision(self, table: TableRecord, destination: str) -> int:
        """All that this region wrote before its partitions had that definition is at the destination; 0: not known."""
        keys = [_TailKey(table.id, partition.id, partition.epoch, destination) for partition in table.partitions]
        tails = [self._tails.get(key) for key in keys]
        return min((tail.progress.passed_revision if tail is not None else 0 for tail in tails), default=0)

    def _shipped_through(self) -> dict[tuple[str, str], dict[int, int]]:
        """By table id and destination, then by partition: up to where this region's changes are applied there."""
        shipped: dict[tuple[str, str], dict[int, int]] = {}
        for key, tail in self._tails.items():
            shipped.setdefault((key.table_id, key.destination), {})[key.partition] = tail.progress.watermark_us
        return shipped

    def _match_tails(self) -> None:
        wanted = self._wanted()
        for key in self._tails.keys() - wanted.keys():
            task = asyncio.get_running_loop().create_task(self._tails.pop(key).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for key, (table, partition) in wanted.items():
            if key not in self._tails:
                tail = self._tails[key] = Tail(
                    table,
                    partition,
                    own_region=self.own,
                    region=self._region,
                    link=self._links[key.destination],
                    clock=self._clock,
                    shipped=self._shipped[key.destination],
                    scans=self._scans[key.destination],
                    settings=self._settings,
                )
                tail.set_paused(self._paused(table.name, key.destination))
                tail.set_fence(_fence_us(table))
                tail.start()
            else:
                self._tails[key].set_fence(_fence_us(table))

    def _wanted(self) -> dict[_TailKey, tuple[TableRecord, PartitionRecord]]:
        wanted: dict[_TailKey, tuple[TableRecord, PartitionRecord]] = {}
        for table in self._region.catalog.tables.values():
            if table.status in (TableStatus.CREATING, TableStatus.DELETING):
                continue
            for name, status in table.replicas.items():
                if name not in self._links or status not in REPLICA_HOLDING:
                    continue
                for partition in table.partitions:
                    key = _TailKey(table.id, partition.id, partition.epoch, name)
                    # A new consumer's feed begins with the marker, which every partition has once the table is ACTIVE.
                    if status == ReplicaStatus.ACTIVE or table.status is TableStatus.ACTIVE or key in self._tails:
                        wanted[key] = (table, partition)
        return wanted

    def _on_held(self, ship: Ship, ahead_ms: int) -> None:
        now_ms = self._clock.lease_ms()
        if now_ms >= self._held_logged_ms.get(ship.table_id, 0):
            if len(self._held_logged_ms) > HELD_TABLES_LOGGED_MAX:
                self._held_logged_ms.clear()
            self._held_logged_ms[ship.table_id] = now_ms + HELD_LOG_EVERY_MS
            log.error("changes from the future are held", extra={"table": ship.table, "ahead_ms": ahead_ms})

    # --- observation

    def figures(self) -> list[DestinationFigures]:
        """One entry a destination."""
        now_us = self._clock.wall_us()
        result = []
        for name, link in self._links.items():
            tails = [tail.progress for key, tail in self._tails.items() if key.destination == name]
            oldest_us = min((p.pending_since_us for p in tails if p.pending_since_us), default=now_us)
            result.append(
                DestinationFigures(
                    source=self.own,
                    destination=name,
                    connected=link.connected,
                    lag_s=max(now_us - oldest_us, 0) / 1e6,
                    pending_records=sum(p.pending_records for p in tails),
                    held_records=sum(p.held_records for p in tails),
                    changes=self._shipped[name].changes,
                    batches=self._shipped[name].batches,
                    backfill_rows=self._scans[name].rows,
                    scans=self._scans[name].running,
                    partitions=len(tails),
                    caught_up=sum(p.caught_up for p in tails),
                    bytes_in_flight=link.bytes_in_flight,
                    encoded_bytes=link.encoded_bytes,
                    sent_bytes=link.sent_bytes,
                )
            )
        return result

    def arrivals(self) -> list[ArrivalFigures]:
        """One entry a source of which this region has a complete table; the table that is least far along counts."""
        oldest_us: dict[str, int] = {}
        for table in self._region.catalog.tables.values():
            for source in sources_of(table, self.own):
                us = self.watermarks.us(table.id, source)
                oldest_us[source] = min(us, oldest_us.get(source, us))
        return [ArrivalFigures(source, self.own, us / 1e6) for source, us in sorted(oldest_us.items())]

    def _watermarks_by_table(self) -> dict[str, dict[str, int]]:
        """By table and source: all that the source wrote up to that time (microseconds) is here; 0: not known."""
        return {
            table.name: {source: self.watermarks.us(table.id, source) for source in sources}
            for table in self._region.catalog.tables.values()
            if (sources := sources_of(table, self.own))
        }

    def applied(self) -> AppliedFigures:
        counts = self._applier.counts
        return AppliedFigures(counts.received, counts.applied, counts.held_batches, counts.failed_batches)

    def status(self) -> dict[str, Any]:
        """For `geodyne status` and people."""
        destinations = {}
        for f in self.figures():
            troubles = {
                f"{tail.table.name}/{key.partition}": tail.progress.trouble
                for key, tail in self._tails.items()
                if key.destination == f.destination and tail.progress.trouble
            }
            entry = {name: value for name, value in f._asdict().items() if name not in ("source", "destination")}
            reason = "" if f.connected else self._links[f.destination].reason
            destinations[f.destination] = {**entry, "reason": reason, "troubles": troubles}
        return {
            "region": self.own,
            "catalog_revision": self._region.catalog.revision,
            "destinations": destinations,
            "sources": sorted(self._server.sources),
            "watermarks": self._watermarks_by_table(),
            "applied": self.applied()._asdict(),
            "transitions": self._reconciler.status(),
            "pauses": [{"table": pause.table, "region": pause.region or None} for pause in self._pauses],
        }


def _fence_us(table: TableRecord) -> int:
    leaving = table.leaving
    return leaving.through_us if leaving is not None and leaving.stage is LeavingStage.FENCED else 0


class _LinkWatch:
    """Passes a link's breaks on."""

    def __init__(self, region: str, on_down: Callable[[str], None], wake: Callable[[], None]) -> None:
        self._region = region
        self._on_down = on_down
        self._wake = wake

    def on_connected(self) -> None:
        self._wake()

    def on_disconnected(self) -> None:
        self._on_down(self._region)

    def on_room(self) -> None:
        """Nothing to ship from here."""


def _bound(on_latency: Callable[[str, float], None], destination: str) -> Callable[[float], None]:
    return lambda seconds: on_latency(destination, seconds)
