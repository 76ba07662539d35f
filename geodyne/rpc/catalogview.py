"""A client's copy of a region's catalog, and of who leads what. Pure: fed with Watched answers.

Both grow from the answers of all nodes.  For the catalog the newest revision wins.  For leadership each node tells for
which partitions it leads in which term; of several claims the highest term wins.  A NotLeader hint overrides the claims
until a claim of a higher term arrives, because a hint comes from the present and a claim may be the past.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geodyne.catalog import FUNCTION_PREFIX, MAPPING_PREFIX, TABLE_PREFIX, PartitionRecord, TableRecord
from geodyne.messages import Count, Watched

Records = Mapping[str, dict[str, Any]]
NO_REVISION = -1  # what a Watch asks with before anything is known: any catalog is newer


class CatalogView:
    """Tables and partitions, those of global indexes too, at `revision`, how many items they hold, and triggers.

    Read-only for all but `apply` and `counted`."""

    def __init__(self) -> None:
        self.revision = NO_REVISION
        self.mappings: Records = {}  # event source mappings by UUID; another object once one has changed
        self.functions: Records = {}  # by name; likewise
        self._tables: dict[str, TableRecord] = {}
        self._counts: dict[tuple[int, int], Count] = {}  # by partition and slot
        self._partitions: dict[int, tuple[TableRecord, PartitionRecord]] = {}

    @property
    def tables(self) -> Mapping[str, TableRecord]:
        """Tables by name."""
        return self._tables

    def partitions(self) -> Iterable[int]:
        """The ids of all partitions."""
        return self._partitions

    def partition(self, partition: int) -> tuple[TableRecord, PartitionRecord] | None:
        """The partition's record and its table's."""
        return self._partitions.get(partition)

    def voters(self, partition: int) -> tuple[str, ...]:
        """The nodes that replicate a partition; empty when it is not known here."""
        known = self._partitions.get(partition)
        return known[1].voters if known is not None else ()

    def apply(self, watched: Watched) -> bool:
        """Take what a node told. True when this copy became newer.

        An answer holds the records changed since the revision that was asked for, which may be older than this copy
        by now: it names the newest state of each, so applying it again does no harm.
        """
        if watched.revision <= self.revision:
            return False
        # A copy, so that whoever iterates over the mapping across an await keeps a consistent one.
        tables = {} if watched.full else dict(self._tables)
        for key, value in watched.records:
            if key.startswith(TABLE_PREFIX):
                name = key[len(TABLE_PREFIX) :]
                if value is None:
                    tables.pop(name, None)
                else:
                    tables[name] = TableRecord.from_json(value)
        self._tables = tables
        self.mappings = _merged(self.mappings, watched, MAPPING_PREFIX)
        self.functions = _merged(self.functions, watched, FUNCTION_PREFIX)
        self._partitions = {p.id: (table, p) for table in tables.values() for p in table.all_partitions}
        self.revision = watched.revision
        newest = max(self._partitions, default=0)  # counts of partitions beyond it may be ahead of this copy
        gone = [place for place in self._counts if place[0] not in self._partitions and place[0] < newest]
        for place in gone:
            del self._counts[place]
        return True

    def counts(self, partition: int, slot: int = 0) -> Count:
        """How many items a partition holds, or (`slot`) entries of a local index, as its leader told a while ago."""
        return self._counts.get((partition, slot)) or Count(partition, slot, 0, 0)

    def counted(self, counts: Sequence[Count]) -> None:
        """A leader told how many items its partitions hold."""
        for count in counts:
            self._counts[count.partition, count.slot] = count


def _merged(known: Records, watched: Watched, prefix: str) -> Records:
    news = {key[len(prefix) :]: value for key, value in watched.records if key.startswith(prefix)}
    if not news and not (watched.full and known):
        return known
    merged = news if watched.full else {**known, **news}
    return {name: value for name, value in merged.items() if value is not None}


class LeaderMap:
    """Partition to leading node, from claims and hints."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[int, int]] = {}  # node -> partition -> term
        self._best: dict[int, tuple[int, str]] = {}  # partition -> (term, node)
        self._hints: dict[int, tuple[int, str]] = {}  # partition -> (best term when the hint came, node)

    def leader(self, partition: int) -> str:
        """The node id; "" when it is not known."""
        hint = self._hints.get(partition)
        if hint is not None:
            return hint[1]
        best = self._best.get(partition)
        return best[1] if best is not None else ""

    def term(self, partition: int) -> int:
        best = self._best.get(partition)
        return best[0] if best is not None else 0

    def claimed(self, node: str, leads: Sequence[tuple[int, int]]) -> set[int]:
        """A node tells all that it leads. Returns the partitions whose leader changed by it."""
        old = self._claims.get(node, {})
        new = dict(leads)
        self._claims[node] = new
        changed = set()
        for partition in {p for p, _ in old.items() ^ new.items()}:
            before = self.leader(partition)
            self._choose(partition)
            if self.leader(partition) != before:
                changed.add(partition)
        return changed

    def hinted(self, partition: int, said_by: str, leader: str) -> None:
        """`said_by` answered that it does not lead, and named whom it holds for the leader ("": nobody)."""
        if self.leader(partition) not in ("", said_by):
            return  # something newer than what the request was sent by is known already
        if leader and leader != said_by:
            self._hints[partition] = (self.term(partition), leader)
        else:
            self._hints.pop(partition, None)

    def forget(self, node: str) -> None:
        """The link to a node is down: what it claimed and what others said of it counts no more."""
        for partition in self._claims.pop(node, {}):
            self._choose(partition)
        for partition in [p for p, (_, hinted) in self._hints.items() if hinted == node]:
            del self._hints[partition]

    def leads(self) -> dict[int, str]:
        """All that is known, for status reports."""
        return {p: self.leader(p) for p in {*self._best, *self._hints}}

    def _choose(self, partition: int) -> None:
        best: tuple[int, str] | None = None
        for node, claims in self._claims.items():
            term = claims.get(partition)
            if term is not None and (best is None or term > best[0]):
                best = (term, node)
        if best is None:
            self._best.pop(partition, None)
            return
        self._best[partition] = best
        hint = self._hints.get(partition)
        if hint is not None and best[0] > hint[0]:
            del self._hints[partition]
