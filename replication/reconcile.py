"""Performs what `replication.lifecycle` plans, for every global table of this region, until there is nothing to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from geodyne.catalog import ControlOperation, ReplicaStatus, TableRecord
from geodyne.errors import ApiError
from geodyne.ports import Clock
from replication.backfill import EveryRegion, ScanGate, ScanMovedError, ScanProgress, ScanStats, scan_table
from replication.lifecycle import (
    Action,
    Delete,
    Drop,
    Ensure,
    Exchanged,
    Forget,
    LeaveResult,
    MarkActive,
    Peer,
    ScanState,
    StartScan,
    TellIndexes,
    TellProgress,
    definition_of,
    in_transition,
    plan,
    progress_news,
)
from replication.link import DestinationLink, LinkDownError
from replication.ports import Region
from replication.steps import control
from replication.values import Operation, Result

log = logging.getLogger(__name__)

POLL_MS = 250  # between two looks at the same unfinished step
RETRY_MS_MAX = 8_000
HELP_UNSEEN_MS_MAX = 30_000


@dataclass(slots=True)
class _Attempts:
    """Of one action: when it may be tried again."""

    failures: int = 0
    not_before_ms: int = 0


@dataclass(slots=True)
class _Help:
    """Another region creates a member that this one helps to fill."""

    creator: str
    until_ms: int  # to be forgotten then, if this copy of the catalog never showed the member as CREATING
    seen: bool = False


class _TableWork:
    """What is known of one table in transition; forgotten when it is over."""

    __slots__ = ("attempts", "errors", "gates", "progress", "said", "scans", "tasks")

    def __init__(self) -> None:
        self.said: dict[str, Peer] = {}
        self.scans: dict[str, ScanState] = {}
        self.gates: dict[str, ScanGate] = {}  # of the scans that run, by region
        self.progress: dict[str, ScanProgress] = {}  # likewise
        self.tasks: dict[Action, asyncio.Task[None]] = {}  # bounded by what one plan can hold
        self.attempts: dict[Action, _Attempts] = {}
        self.errors: dict[str, str] = {}  # by region, for people


class Reconciler:
    """Brings replicas into being and to their end. Call `step` often: it is cheap when nothing is in transition."""

    def __init__(
        self,
        own: str,
        region: Region,
        links: Mapping[str, DestinationLink],
        scan_stats: Mapping[str, ScanStats],
        clock: Clock,
        *,
        on_progress: Callable[[], None],
        exchanged: Callable[[TableRecord], Mapping[str, Exchanged]] = lambda _table: {},
    ) -> None:
        """`on_progress` asks for another `step`, because something was achieved; `exchanged(table)` tells how far the
        exchange with each other region has come, for a replica that leaves."""
        self._exchanged = exchanged
        self._on_progress = on_progress
        self._own = own
        self._region = region
        self._links = links
        self._scan_stats = scan_stats
        self._clock = clock
        self._work: dict[str, _TableWork] = {}  # by table id
        self._helps: dict[tuple[str, str], _Help] = {}  # by table id and new member
        self._paused: Callable[[str, str], bool] = _never_paused

    def on_helping(self, table_id: str, member: str, creator: str) -> None:
        """Another region creates `member`, and this one was told to learn of it."""
        self._helps[table_id, member] = _Help(creator, self._clock.lease_ms() + HELP_UNSEEN_MS_MAX)

    def set_paused(self, paused: Callable[[str, str], bool]) -> None:
        """`paused(table, region)` says which scans rest from now on, those that run included."""
        self._paused = paused
        for table in self._region.catalog.tables.values():
            work = self._work.get(table.id)
            for region, gate in work.gates.items() if work is not None else ():
                gate.set_paused(paused(table.name, region))

    def on_link_down(self, region: str) -> None:
        """What that peer said may be out of date when its stream is up again."""
        for work in self._work.values():
            work.said.pop(region, None)

    def step(self) -> None:
        """Start whatever can be done now."""
        tables = [table for table in self._region.catalog.tables.values() if in_transition(table, self._own)]
        for table_id in self._work.keys() - {table.id for table in tables}:
            for task in self._work.pop(table_id).tasks.values():
                task.cancel()
        self._prune_helps(tables)
        for table in tables:
            self._step_table(table, self._work.setdefault(table.id, _TableWork()))

    async def close(self) -> None:
        tasks = [task for work in self._work.values() for task in work.tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> list[dict[str, object]]:
        """What is under way, for people."""
        names = {table.id: table.name for table in self._region.catalog.tables.values()}
        return [
            {
                "table": names.get(table_id, table_id),
                "steps": [str(action) for action in work.tasks],
                "scans": {region: state.value for region, state in work.scans.items()},
                "errors": dict(work.errors),
            }
            for table_id, work in self._work.items()
        ]

    def _prune_helps(self, tables: list[TableRecord]) -> None:
        """A help ends when its member is no longer CREATING: the next time, this region may be the one that creates."""
        now_ms = self._clock.lease_ms()
        creating = {(t.id, r) for t in tables for r, status in t.replicas.items() if status == ReplicaStatus.CREATING}
        for key, help_ in list(self._helps.items()):
            if key in creating:
                help_.seen = True
            elif help_.seen or now_ms > help_.until_ms:
                del self._helps[key]

    def _step_table(self, table: TableRecord, work: _TableWork) -> None:
        now_ms = self._clock.lease_ms()
        self._drop_stale(table, work)
        helps = {member: h.creator for (table_id, member), h in self._helps.items() if table_id == table.id}
        exchanged = self._exchanged(table) if table.leaving is not None else {}
        wall_ms = self._clock.wall_us() // 1000
        actions = plan(self._own, table, work.said, work.scans, helps, exchanged, wall_ms)
        actions += progress_news(table, {region: scan.percent for region, scan in work.progress.items()})
        for stale in work.attempts.keys() - set(actions):
            del work.attempts[stale]
        for action in actions:
            attempts = work.attempts.setdefault(action, _Attempts())
            if action not in work.tasks and now_ms >= attempts.not_before_ms:
                task = asyncio.get_running_loop().create_task(self._perform(table, work, action, attempts))
                work.tasks[action] = task

    def _drop_stale(self, table: TableRecord, work: _TableWork) -> None:
        """Forget scans of members that are no longer being created: should one come back, it is to be filled anew."""
        creating = {region for region, status in table.replicas.items() if status == ReplicaStatus.CREATING}
        for region in work.scans.keys() - creating:
            task = work.tasks.get(StartScan(region, everything=True)) or work.tasks.get(
                StartScan(region, everything=False)
            )
            if task is not None:
                task.cancel()
            del work.scans[region]
        for region in work.errors.keys() - table.replicas.keys():
            del work.errors[region]

    async def _perform(self, table: TableRecord, work: _TableWork, action: Action, attempts: _Attempts) -> None:
        where = (
            action.to if isinstance(action, StartScan) else getattr(action, "at", "") or getattr(action, "region", "")
        )
        try:
            await self._act(table, work, action)
        except (LinkDownError, ApiError, ScanMovedError) as error:
            reason = (error.message or error.kind.code) if isinstance(error, ApiError) else str(error)
            if work.errors.get(where) != reason:
                log.warning("replica step failed", extra={"table": table.name, "region": where, "reason": reason})
            work.errors[where] = reason
            attempts.failures += 1
        else:
            work.errors.pop(where, None)
            attempts.failures = 0
            self._on_progress()
        finally:
            work.tasks.pop(action, None)
            delay_ms = min(POLL_MS << min(attempts.failures, 8), RETRY_MS_MAX)
            attempts.not_before_ms = self._clock.lease_ms() + delay_ms

    async def _act(self, table: TableRecord, work: _TableWork, action: Action) -> None:
        match action:
            case Ensure(at, members):
                result = await self._link(at).command(
                    Operation.ENSURE, table.name, table.id, definition=definition_of(table), members=dict(members)
                )
                self._note(work, at, result)
            case Forget(at, region):
                self._note(
                    work, at, await self._link(at).command(Operation.FORGET, table.name, table.id, region=region)
                )
            case Delete(at):
                self._note(work, at, await self._link(at).command(Operation.DELETE, table.name, table.id))
            case StartScan(to, everything):
                await self._scan(table, work, to, everything=everything)
            case MarkActive(region):
                log.info("replica active", extra={"table": table.name, "region": region})
                body = {
                    "name": table.name,
                    "region": region,
                    "status": ReplicaStatus.ACTIVE.value,
                    "expected": ReplicaStatus.CREATING.value,  # not if it was asked to go meanwhile
                }
                await control(self._region, ControlOperation.SET_REPLICA.value, body)
            case TellIndexes(at, revision):
                await self._tell_indexes(table, work, at, revision)
            case TellProgress(region, percent):
                status = ReplicaStatus.CREATING.value
                said = {"name": table.name, "table_id": table.id, "region": region, "progress": percent}
                await control(
                    self._region, ControlOperation.SET_REPLICA.value, {**said, "status": status, "expected": status}
                )
            case LeaveResult(through_us, arrived):
                log.info("replica leaves" if arrived else "replica gave up leaving", extra={"table": table.name})
                over = {"name": table.name, "table_id": table.id, "through_us": through_us, "arrived": arrived}
                await control(self._region, ControlOperation.LEAVE_RESULT.value, over)
            case Drop(region):
                log.info("replica removed", extra={"table": table.name, "region": region})
                body = {"name": table.name, "region": region, "table_id": table.id}
                await control(self._region, ControlOperation.DROP_REPLICA.value, body)

    async def _tell_indexes(self, table: TableRecord, work: _TableWork, at: str, revision: int) -> None:
        change = next(news.change for news in table.index_news if news.revision == revision)
        link = self._link(at)
        if "settings" in change and link.connected and not link.takes_settings:
            raise LinkDownError(f"{at} is of a version that takes no settings: they wait until it is upgraded")
        result = await link.command(Operation.INDEX, table.name, table.id, definition=change)
        self._note(work, at, result)
        if not result.present:
            raise ApiError("ServiceUnavailable", f"{at} does not have the table")
        body = {"name": table.name, "table_id": table.id, "region": at, "revision": revision}
        await control(self._region, ControlOperation.INDEX_TOLD.value, body)

    async def _scan(self, table: TableRecord, work: _TableWork, to: str, *, everything: bool) -> None:
        work.scans[to] = ScanState.RUNNING
        # What the new member wrote before it was removed may have reached this region alone: nobody else would send it.
        origins: Container[str] = EveryRegion() if everything else frozenset((self._own, to))
        log.info("backfill started", extra={"table": table.name, "region": to, "everything": everything})
        gate = work.gates[to] = ScanGate(self._paused(table.name, to))
        progress = work.progress[to] = ScanProgress(table.partitions)
        link, stats = self._link(to), self._scan_stats[to]
        try:
            await scan_table(table, origins, region=self._region, link=link, stats=stats, gate=gate, progress=progress)
            work.scans[to] = ScanState.DONE
            log.info("backfill finished", extra={"table": table.name, "region": to})
        finally:
            if work.gates.get(to) is gate:
                del work.gates[to], work.progress[to]
            if work.scans.get(to) is ScanState.RUNNING:
                del work.scans[to]  # it failed; the next plan starts another

    def _link(self, region: str) -> DestinationLink:
        link = self._links.get(region)
        if link is None:
            raise LinkDownError(f"{region} is not a region of this cluster")
        return link

    def _note(self, work: _TableWork, region: str, result: Result) -> None:
        work.said[region] = Peer(result.present, result.status, result.members, result.error_code)
        if result.error_code:
            raise ApiError("ServiceUnavailable", f"{region}: {result.error_code}: {result.error_message}")


def _never_paused(_table: str, _region: str) -> bool:
    return False
