"""What a region's replicator does for the write modes of tables (geodyne.writemodes): a pure planner, in the manner of
`replication.lifecycle`.

Each region whose record is not SPREAD tells it to every other one, until each was heard to have it in force. An answer
is the other's own record: a newer one is taken over here. So a record reaches every region from any that has it,
whoever was away meanwhile.

In the region that stops, the last step of a move: once all that its partitions logged before they had the last
definition is applied in the other region, its own record says that the other is active. That other one is told after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geodyne.catalog import REPLICA_HOLDING, TableRecord, TableStatus
from geodyne.writemodes import Rank, Stage, WriteMode, write_mode


@dataclass(frozen=True, slots=True)
class TellWrites:
    """Tell `at` of the mode of that rank, and hear which one it has."""

    at: str
    rank: Rank


@dataclass(frozen=True, slots=True)
class WritesSpread:
    """In the own catalog: every region has the mode of that number in force."""

    number: int


@dataclass(frozen=True, slots=True)
class HandWrites:
    """In the own catalog: all that this region wrote is in the region that is to take writes next."""

    attempt: int


WritesAction = TellWrites | WritesSpread | HandWrites


def unsettled(table: TableRecord) -> bool:
    """Whether anything is left to be done for a table's write mode."""
    return table.is_global and table.status is not TableStatus.DELETING and not write_mode(table).settled


def plan_writes(
    own: str, table: TableRecord, heard: Mapping[str, Rank], passed: Mapping[str, int]
) -> list[WritesAction]:
    """The actions that can be taken now. `heard`: by region, the rank of what it has in force. `passed`: by region, the
    revision of the definition before which all that this region wrote, in any partition, is applied there (0: not
    known)."""
    mode = write_mode(table)
    if mode.settled or mode.stage is Stage.STOPPING:
        return []
    if mode.stage is Stage.STOPPED:
        return [HandWrites(mode.attempt)] if passed.get(mode.to, 0) >= mode.stopped else []
    others = [name for name, status in table.replicas.items() if name != own and status in REPLICA_HOLDING]
    unaware = [name for name in others if heard.get(name) != mode.rank]
    if not unaware and mode.stage is Stage.IN_FORCE:
        return [WritesSpread(mode.number)]
    return [TellWrites(name, mode.rank) for name in unaware]


def in_force(mode: WriteMode) -> bool:
    """Whether no partition of the region that has this record obeys an older one."""
    return mode.stage is not Stage.APPLYING
