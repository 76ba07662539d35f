"""Performs what `replication.lifecycle` plans, for every global table of this region, until there is nothing to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from geodyne.catalog import REPLICA_ADDED, ControlOperation, ReplicaStatus, TableRecord
from geodyne.errors import ApiError, replica_exists
from geodyne.ports import Clock
from geodyne.writemodes import EVERYWHERE, WRITES, Rank, WriteMode, write_mode
from replication.backfill import EveryRegion, ScanGate, ScanMovedError, ScanProgress, ScanStats, scan_table
from replication.lifecycle import (
    UNDER_WAY,
    Action,
    Delete,
    Drop,
    Ensure,
    Exchanged,
    Forget,
    LeaveResult,
    Look,
    MarkActive,
    MarkFailed,
    Peer,
    ScanState,
    StartScan,
    TellNews,
    TellProgress,
    TellTrouble,
    definition_of,
    in_transition,
    plan,
    progress_news,
    trouble_news,
)
from replication.link import DestinationLink, LinkDownError
from replication.ports import Region
from replication.steps import control
from replication.values import Operation, Result
from replication.writes import HandWrites, TellWrites, WritesSpread, in_force, plan_writes, unsettled

log = logging.getLogger(__name__)

POLL_MS = 250  # between two looks at the same unfinished step
RETRY_MS_MAX = 8_000
HELP_UNSEEN_MS_MAX = 30_000
TROUBLE_TOLD_MS = 5_000  # once it has lasted so long: each is a change of the catalog


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


class _Trouble(NamedTuple):
    text: str  # the same for as long as the reason is
    since_ms: int


class _TableWork:
    """What is known of one table in transition; forgotten when it is over."""

    __slots__ = ("attempts", "errors", "gates", "progress", "said", "scans", "tasks", "troubles", "writes_heard")

    def __init__(self) -> None:
        self.said: dict[str, Peer] = {}
        self.scans: dict[str, ScanState] = {}
        self.gates: dict[str, ScanGate] = {}  # of the scans that run, by region
        self.progress: dict[str, ScanProgress] = {}  # likewise
        self.tasks: dict[Action, asyncio.Task[None]] = {}  # bounded by what one plan can hold
        self.attempts: dict[Action, _Attempts] = {}
        self.errors: dict[str, str] = {}  # by region, for people
        self.troubles: dict[str, _Trouble] = {}  # by the replica that is not made, or not gone, for it
        self.writes_heard: dict[str, Rank] = {}  # by region: of the write mode that it has in force


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
        writes_unsettled = unsettled(table)
        exchanged = self._exchanged(table) if table.leaving is not None or writes_unsettled else {}
        wall_ms = self._clock.wall_us() // 1000
        actions = plan(self._own, table, work.said, work.scans, helps, exchanged, wall_ms)
        actions += progress_news(table, {region: scan.percent for region, scan in work.progress.items()})
        lasting = {r: trouble for r, trouble in work.troubles.items() if now_ms - trouble.since_ms >= TROUBLE_TOLD_MS}
        actions += trouble_news(table, {region: trouble.text for region, trouble in lasting.items()})
        if writes_unsettled:
            passed = {region: each.revision for region, each in exchanged.items()}
            actions += plan_writes(self._own, table, work.writes_heard, passed)
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
        for region in work.troubles.keys() - {r for r, status in table.replicas.items() if status in UNDER_WAY}:
            del work.troubles[region]

    async def _perform(self, table: TableRecord, work: _TableWork, action: Action, attempts: _Attempts) -> None:
        try:
            await self._act(table, work, action)
        except (LinkDownError, ApiError, ScanMovedError) as error:
            self._failed(table, work, action, error)
            attempts.failures += 1
        else:
            if not isinstance(action, TellTrouble | TellProgress):  # which say nothing of the region itself
                work.errors.pop(_where(action), None)
                work.troubles.pop(_about(action), None)
            attempts.failures = 0
            self._on_progress()
        finally:
            work.tasks.pop(action, None)
            delay_ms = min(POLL_MS << min(attempts.failures, 8), RETRY_MS_MAX)
            attempts.not_before_ms = self._clock.lease_ms() + delay_ms

    def _failed(self, table: TableRecord, work: _TableWork, action: Action, error: Exception) -> None:
        """Keep why for people; the catalog is told of what lasts."""
        where, reason = _where(action), error.reason if isinstance(error, ApiError) else str(error)
        if work.errors.get(where) != reason:
            log.warning("replica step failed", extra={"table": table.name, "region": where, "reason": reason})
        work.errors[where] = reason
        if isinstance(action, TellTrouble | TellProgress):
            return
        text = f"Region {where} cannot be reached" if isinstance(error, LinkDownError) else reason
        known = work.troubles.get(_about(action))
        if known is None or known.text != text:
            work.troubles[_about(action)] = _Trouble(text, self._clock.lease_ms())

    async def _act(self, table: TableRecord, work: _TableWork, action: Action) -> None:
        match action:
            case Ensure(at, members):
                self._check_obeys(table, at)
                result = await self._link(at).command(
                    Operation.ENSURE, table.name, table.id, definition=definition_of(table), members=dict(members)
                )
                self._note(work, at, result)
            case Forget(at, region):
                self._note(
                    work, at, await self._link(at).command(Operation.FORGET, table.name, table.id, region=region)
                )
            case Look(at):  # no member has that name: nothing changes
                self._note(work, at, await self._link(at).command(Operation.FORGET, table.name, table.id, region=""))
            case Delete(at):
                added = {"added": table.extra.get(REPLICA_ADDED, {})}
                self._note(
                    work, at, await self._link(at).command(Operation.DELETE, table.name, table.id, definition=added)
                )
            case StartScan(to, everything):
                await self._scan(table, work, to, everything=everything)
            case MarkActive(region):
                log.info("replica active", extra={"table": table.name, "region": region})
                await self._set_replica(table, region, ReplicaStatus.ACTIVE)
            case MarkFailed(region):
                log.warning("replica cannot be made", extra={"table": table.name, "region": region})
                trouble = replica_exists(table.name)
                await self._set_replica(table, region, ReplicaStatus.CREATION_FAILED, trouble=trouble)
            case TellTrouble(region, text):
                await self._set_replica(table, region, ReplicaStatus(table.replicas[region]), trouble=text)
            case TellNews(at, revision):
                await self._tell_news(table, work, at, revision)
            case TellWrites(at):
                await self._tell_writes(table, work, at)
            case WritesSpread(number):
                await self._writes_result(table, {"spread": number})
            case HandWrites(attempt):
                log.info("writes are handed over", extra={"table": table.name, "region": write_mode(table).to})
                await self._writes_result(table, {"handed": attempt})
            case TellProgress(region, percent):
                await self._set_replica(table, region, ReplicaStatus.CREATING, progress=percent)
            case LeaveResult(through_us, arrived):
                log.info("replica leaves" if arrived else "replica gave up leaving", extra={"table": table.name})
                over = {"name": table.name, "table_id": table.id, "through_us": through_us, "arrived": arrived}
                await control(self._region, ControlOperation.LEAVE_RESULT.value, over)
            case Drop(region):
                log.info("replica removed", extra={"table": table.name, "region": region})
                body = {"name": table.name, "region": region, "table_id": table.id}
                await control(self._region, ControlOperation.DROP_REPLICA.value, body)

    async def _set_replica(self, table: TableRecord, region: str, status: ReplicaStatus, **news: object) -> None:
        """Of the replica as this table's record had it, else it changes nothing: it may have been asked to go."""
        body = {"name": table.name, "table_id": table.id, "region": region, "status": status.value, **news}
        await control(self._region, ControlOperation.SET_REPLICA.value, {**body, "expected": table.replicas[region]})

    async def _tell_news(self, table: TableRecord, work: _TableWork, at: str, revision: int) -> None:
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

    async def _tell_writes(self, table: TableRecord, work: _TableWork, at: str) -> None:
        self._check_obeys(table, at)
        own, link = write_mode(table), self._link(at)
        change = {WRITES: own.anew().to_json()}
        result = await link.command(Operation.INDEX, table.name, table.id, definition=change)
        self._note(work, at, result)
        theirs = WriteMode.from_json(result.body[WRITES]) if WRITES in result.body else EVERYWHERE
        if theirs.rank > own.rank:
            body = {"name": table.name, "table_id": table.id, "as_replica": True, "mode_record": theirs.to_json()}
            await control(self._region, ControlOperation.SET_WRITES.value, body)
        elif theirs.rank == own.rank and in_force(theirs):
            work.writes_heard[at] = theirs.rank

    def _check_obeys(self, table: TableRecord, at: str) -> None:
        """Raises LinkDownError for a region whose version would take writes that it must not."""
        link = self._link(at)
        if WRITES in table.extra and link.connected and not link.takes_settings:
            raise LinkDownError(f"{at} is of a version that has no write modes: it waits until that is upgraded")

    async def _writes_result(self, table: TableRecord, result: dict[str, int]) -> None:
        body = {"name": table.name, "table_id": table.id, **result}
        await control(self._region, ControlOperation.WRITES_RESULT.value, body)

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


def _where(action: Action) -> str:
    """The region that is asked, or that the own catalog is told of; "" where it is of the table alone."""
    match action:
        case Ensure(at) | Forget(at) | Look(at) | Delete(at) | TellNews(at) | TellWrites(at):
            return at
        case StartScan(to):
            return to
        case MarkActive(region) | MarkFailed(region) | Drop(region) | TellTrouble(region) | TellProgress(region):
            return region
        case LeaveResult() | WritesSpread() | HandWrites():
            return ""


def _about(action: Action) -> str:
    """The region whose replica it brings into being or to its end."""
    return action.region if isinstance(action, Forget) else _where(action)


def _never_paused(_table: str, _region: str) -> bool:
    return False
