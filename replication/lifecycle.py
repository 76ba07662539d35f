"""What has to be done so that a table's replicas become what its record says: a pure planner.

Each region works from its own record. `replicas` maps every member to a status, as this region sees it:

    CREATING         this region has not finished filling that replica
    CREATION_FAILED  its region has another table of that name: nothing to do until it is to go
    ACTIVE           nothing to do
    DELETING         that replica is to go

The plan is made anew from the record and from what the peers said, after every change of either; every action is
idempotent; all of it may be forgotten by a restart. So there is no state to recover: whatever a crash interrupted
is planned again.

Adding B at A (A's record says B: CREATING):
  1. B makes the table (ENSURE); every other member learns of B, sees B as CREATING itself and ships its own rows.
  2. Once A's partitions have all logged the marker (table ACTIVE) and B's table is ACTIVE, A scans all rows to B.
  3. B is told that it is ACTIVE. 4. A's own record says B: ACTIVE - last, so that ACTIVE here implies all before.

Removing B at A (B: DELETING): every other member forgets B; then B deletes its table; then A's record drops B. The
members forget first, so that none of them can make B's table again.

Leaving, at A (A's own record says so: node.catalog.leaving): once what A waits for has arrived, in every region and
here, A's record says that there is no way back; once another region has all that A may still send, it forgets A, and
then A's record drops it. With the last one A's table is its own, or is deleted, if that was asked.

What changes here of indexes, settings or Time to Live is told to every other region, one change after the other. Each
region fills a new index from its own rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from geodyne.catalog import (
    REPLICA_ADDED,
    REPLICA_HOLDING,
    REPLICA_PROGRESS,
    REPLICA_TROUBLES,
    SETTINGS_CHANGED,
    SHARED_EXTRA,
    Leaving,
    LeavingStage,
    ReplicaStatus,
    TableRecord,
    TableStatus,
)
from geodyne.writemodes import WRITES, write_mode
from replication.writes import WritesAction, unsettled


class Peer(NamedTuple):
    """What a peer said last of its table. `status` is empty when it is not there; `error` when it refused."""

    present: bool
    status: str = ""
    members: Mapping[str, str] = {}
    error: str = ""


class ScanState(Enum):
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Ensure:
    """Tell `at` to have the table with (at least) these members, in the status that `at` should see."""

    at: str
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StartScan:
    """Ship rows to `to`: all of them, or only those that this region wrote."""

    to: str
    everything: bool


@dataclass(frozen=True, slots=True)
class MarkActive:
    """In the own catalog: `region` has all that it needs."""

    region: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Tell `at` to take `region` off its list of members."""

    at: str
    region: str


@dataclass(frozen=True, slots=True)
class Look:
    """Ask `at` for its table."""

    at: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Tell `at` to delete its replica."""

    at: str


@dataclass(frozen=True, slots=True)
class Drop:
    """In the own catalog: take `region` off the list of members."""

    region: str


@dataclass(frozen=True, slots=True)
class TellNews:
    """Tell `at` what this region changed of the table at `revision` (geodyne.catalog.News)."""

    at: str
    revision: int


@dataclass(frozen=True, slots=True)
class LeaveResult:
    """In the own catalog: what this region waited for, to leave, has arrived everywhere, or is waited for no longer."""

    through_us: int
    arrived: bool


@dataclass(frozen=True, slots=True)
class MarkFailed:
    """In the own catalog: `region` cannot be made."""

    region: str


@dataclass(frozen=True, slots=True)
class TellTrouble:
    """In the own catalog: why a region is not made, or not gone, yet; "" when nothing is known that stops it."""

    region: str
    text: str


@dataclass(frozen=True, slots=True)
class TellProgress:
    """In the own catalog: so much of the table, in percent, has been shipped to a region that is being filled."""

    region: str
    percent: int


_Asked = Ensure | Forget | Look | Delete
_OfReplicas = _Asked | StartScan | MarkActive | MarkFailed | Drop | LeaveResult | TellProgress | TellTrouble
UNDER_WAY = (ReplicaStatus.CREATING, ReplicaStatus.DELETING)
NAME_TAKEN = "TableAlreadyExistsException"  # a region's answer to Ensure, for good
Action = _OfReplicas | TellNews | WritesAction
PROGRESS_STEP_PERCENT = 10  # so few changes of the catalog a replica


class Exchanged(NamedTuple):
    """Of a table and another region: up to when all that this region wrote is there, and all that it wrote is here.
    Times of versions in microseconds, 0 when not known."""

    sent_us: int
    arrived_us: int
    revision: int = 0  # all that this region wrote before its partitions had that definition is there, too


def in_transition(table: TableRecord, own: str) -> bool:
    """Whether the record asks for anything at all."""
    return table.status is not TableStatus.DELETING and (
        bool(table.index_news)
        or unsettled(table)
        or table.leaving is not None
        or any(status in UNDER_WAY for region, status in table.replicas.items() if region != own)
    )


def plan(
    own: str,
    table: TableRecord,
    said: Mapping[str, Peer],
    scans: Mapping[str, ScanState],
    helps: Mapping[str, str],
    exchanged: Mapping[str, Exchanged] | None = None,
    now_ms: int = 0,
) -> list[Action]:
    """The actions that can be taken now, in no particular order.

    `said` holds what each peer answered since its stream came up; `scans` the state of scans by destination.
    `helps` names, for a new member, the region that creates it, when that is known to be another one: then this region
    ships only the rows that it wrote. (When that knowledge is lost, shipping all rows is merely more.)
    """
    if not in_transition(table, own):
        return []
    if table.leaving is not None:
        return _leave(own, table, table.leaving, said, exchanged or {}, now_ms)
    actions: list[Action] = []
    for region, status in table.replicas.items():
        if region == own:
            continue
        if status == ReplicaStatus.CREATING:
            actions += _create(own, table, region, said, scans.get(region), helping=region in helps)
        elif status == ReplicaStatus.DELETING:
            actions += _remove(own, table, region, said)
    return list(dict.fromkeys([*actions, *_tell(table)]))


def progress_news(table: TableRecord, percents: Mapping[str, float]) -> list[Action]:
    """What the catalog does not know yet of the scans that run. `percents`: by region."""
    told = table.extra.get(REPLICA_PROGRESS, {})
    news: list[Action] = []
    for region, percent in percents.items():
        step = int(percent) // PROGRESS_STEP_PERCENT * PROGRESS_STEP_PERCENT
        if table.replicas.get(region) == ReplicaStatus.CREATING and step != told.get(region, 0):
            news.append(TellProgress(region, step))
    return news


def trouble_news(table: TableRecord, troubles: Mapping[str, str]) -> list[Action]:
    """What the catalog does not know yet of why replicas are not made, or not gone. `troubles`: by region."""
    told = table.extra.get(REPLICA_TROUBLES, {})
    waiting = [region for region, status in table.replicas.items() if status in UNDER_WAY]
    news: list[Action] = []
    for region in waiting:
        if troubles.get(region, "") != told.get(region, ""):
            news.append(TellTrouble(region, troubles.get(region, "")))
    return news


def _tell(table: TableRecord) -> list[Action]:
    oldest = {region: news.revision for news in reversed(table.index_news) for region in news.regions}
    return [TellNews(region, revision) for region, revision in oldest.items()]


def _leave(
    own: str,
    table: TableRecord,
    leaving: Leaving,
    said: Mapping[str, Peer],
    exchanged: Mapping[str, Exchanged],
    now_ms: int,
) -> list[Action]:
    others = [region for region in table.replicas if region != own]
    known = {region: exchanged.get(region, Exchanged(0, 0)) for region in others}
    if leaving.stage is LeavingStage.WAITING:
        tell = _tell(table)
        late = [r for r in others if min(known[r].sent_us, known[r].arrived_us) < leaving.through_us]
        late = [region for region in late if not _has_forgotten(said.get(region), own)]
        if not tell and not late:
            return [LeaveResult(leaving.through_us, arrived=True)]
        tell += [Look(region) for region in late]
        return [*tell, LeaveResult(leaving.through_us, arrived=False)] if now_ms >= leaving.give_up_ms else tell
    actions: list[Action] = []
    for region in others:
        if _has_forgotten(said.get(region), own):
            actions.append(Drop(region))
        elif known[region].sent_us >= leaving.through_us:
            actions.append(Forget(region, own))
        else:
            actions.append(Look(region))  # it may have forgotten this one already, and then takes nothing
    return actions


def _has_forgotten(peer: Peer | None, own: str) -> bool:
    """Whether a region has said that it has the table without this one's replica, or not at all."""
    return peer is not None and not peer.error and not (peer.present and own in peer.members)


def _create(
    own: str, table: TableRecord, new: str, said: Mapping[str, Peer], scan: ScanState | None, *, helping: bool
) -> list[Action]:
    actions: list[Action] = []
    members = [region for region, status in table.replicas.items() if status in REPLICA_HOLDING]
    peer = said.get(new)
    if peer is not None and peer.error == NAME_TAKEN:
        return [MarkFailed(new)]
    ready = peer is not None and peer.present and not peer.error and set(members) <= set(peer.members)
    created = ready and peer is not None and peer.status in (TableStatus.ACTIVE, TableStatus.UPDATING)
    if not created:
        actions.append(Ensure(new, _members(members, new)))
    unaware = [
        region
        for region in members
        if region not in (own, new)
        and table.replicas[region] == ReplicaStatus.ACTIVE
        and not (region in said and new in said[region].members)
    ]
    actions += [Ensure(region, _members(members, new)) for region in unaware]
    if not created or peer is None:
        return actions
    if scan is None:
        if table.status is TableStatus.ACTIVE:  # else some partition may not have logged the marker yet
            actions.append(StartScan(new, everything=not helping))
    elif scan is ScanState.DONE:
        if not helping and peer.members.get(new) != ReplicaStatus.ACTIVE:
            actions.append(Ensure(new, _members(members, "")))
        elif not unaware:
            actions.append(MarkActive(new))
    return actions


def _remove(own: str, table: TableRecord, gone: str, said: Mapping[str, Peer]) -> list[Action]:
    others = [
        region
        for region, status in table.replicas.items()
        if region not in (own, gone) and status != ReplicaStatus.DELETING
    ]
    unaware = [region for region in others if region not in said or gone in said[region].members]
    if unaware:
        return [Forget(region, gone) for region in unaware]
    peer = said.get(gone)
    if peer is None or peer.present or peer.error:
        return [Delete(gone)]
    return [Drop(gone)]


def _members(members: list[str], creating: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (region, ReplicaStatus.CREATING.value if region == creating else ReplicaStatus.ACTIVE.value)
        for region in members
    )


def definition_of(table: TableRecord) -> dict[str, Any]:
    """What of a table is the same in every region, as ENSURE_REPLICA takes it.

    Tags and deletion protection are each region's own (AWS developer guide, "Global tables: settings that are
    synchronised").
    """
    return {
        "name": table.name,
        "hash_key": table.hash_key,
        "hash_type": table.hash_type,
        "range_key": table.range_key,
        "range_type": table.range_type,
        "billing_mode": table.billing_mode,
        "read_units": table.read_units,
        "write_units": table.write_units,
        "table_class": table.table_class,
        "stream_view": table.stream_view,
        "indexes": table.index_definitions(),
        "ttl_attribute": table.expires_by or None,
        "ttl_changed_ms": table.ttl_changed_ms,
        "added": table.extra.get(REPLICA_ADDED, {}),
        "extra": {name: table.extra[name] for name in _ENSURED_EXTRA if name in table.extra} | _writes(table),
    }


_ENSURED_EXTRA = (*SHARED_EXTRA, SETTINGS_CHANGED)


def _writes(table: TableRecord) -> dict[str, Any]:
    return {WRITES: write_mode(table).anew().to_json()} if WRITES in table.extra else {}
