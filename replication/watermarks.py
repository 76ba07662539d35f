"""What other regions said has arrived: per source and table, a time up to which everything that was written is here.

Pure. A watermark is a statement about the past, so it stays true however long its source is silent; it is dropped only
with what it speaks of: the table's replica here, or the source's. After a restart nothing is known until it is heard
again. Times are those of versions, in microseconds; 0 stands for "not known".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from geodyne.catalog import TO_COMPARE, ReplicaStatus, TableRecord, TableStatus
from replication.values import Watermark


class _Heard(NamedTuple):
    us: int
    arrived_us: int


_NOTHING = _Heard(0, 0)


class Watermarks:
    """Of one region. Bounded by its global tables and their replicas, as of the last `keep`."""

    def __init__(self, own_region: str) -> None:
        self._own = own_region
        self._heard: dict[tuple[str, str], _Heard] = {}  # by table id and source

    def hear(self, source: str, said: Watermark) -> None:
        """A source's newest word; `us` 0 takes back the earlier ones: the replica here is being filled anew."""
        known = self._heard.get((said.table_id, source), _NOTHING)
        self._heard[said.table_id, source] = _Heard(max(known.us, said.us) if said.us else 0, said.arrived_us)

    def keep(self, tables: Iterable[TableRecord]) -> None:
        """Forget what is of no replica that is here and complete."""
        wanted = {(table.id, source) for table in tables for source in sources_of(table, self._own)}
        self._heard = {key: heard for key, heard in self._heard.items() if key in wanted}

    def us(self, table_id: str, source: str) -> int:
        """All that `source` wrote in the table up to then is applied here."""
        return self._heard.get((table_id, source), _NOTHING).us

    def arrived_us(self, table_id: str, sources: Collection[str]) -> int:
        """All that any of them wrote up to then is applied here."""
        return min((self.us(table_id, source) for source in sources), default=0)

    def stable_us(self, table_id: str, sources: Collection[str]) -> int:
        """All that was written in any region up to then is applied in every region."""
        heard = [self._heard.get((table_id, source), _NOTHING) for source in sources]
        return min((min(each) for each in heard), default=0)


def sources_of(table: TableRecord, own_region: str) -> tuple[str, ...]:
    """The other regions of a table whose replica, as this region sees it, is complete; none of a table that goes, nor
    while the replica here is being filled: of a row that several regions wrote, only who fills it sends the newest."""
    if table.status is TableStatus.DELETING or table.replicas.get(own_region) == ReplicaStatus.CREATING:
        return ()
    return tuple(
        name for name, status in table.replicas.items() if name != own_region and status == ReplicaStatus.ACTIVE
    )


def settled(table: TableRecord) -> bool:
    """No replica is being added or removed, as this region sees it, and none was of which the others may have taken
    over different changes: a deletion that one of them alone had must be known until it is in all."""
    complete = all(status == ReplicaStatus.ACTIVE for status in table.replicas.values())
    return complete and TO_COMPARE not in table.extra and table.status is not TableStatus.DELETING


def told(
    table: TableRecord, own_region: str, destination: str, shipped: Mapping[int, int], arrived_us: int
) -> Watermark | None:
    """What there is to tell a destination. `shipped`: by partition, up to where the source's changes are there. None: a
    partition has not been heard of yet, and what was told before stays true. A region that is being filled says nothing
    of its own: it may be sent what it wrote before it was removed."""
    statuses = table.replicas.get(own_region), table.replicas.get(destination)
    if statuses != (ReplicaStatus.ACTIVE, ReplicaStatus.ACTIVE):
        return Watermark(table.name, table.id, 0, 0)
    us = min((shipped.get(partition.id, 0) for partition in table.partitions), default=0)
    return Watermark(table.name, table.id, us, arrived_us) if us else None
