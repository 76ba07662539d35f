"""The node's copy of the catalog, and its duties: replicas to hold, markers to log, tables to activate."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from geodyne.catalog import TABLE_PREFIX, PartitionRecord, TableRecord
from geodyne.errors import ApiError
from geodyne.messages import METADATA_PARTITION, Control, ControlDone, Count, NotLeader, Refused, Watch, Watched
from geodyne.peermessages import Leads
from geodyne.ports import Clock
from geodyne.writemodes import write_mode
from node.catalog import streams, writemodes
from node.catalog.controller import plan
from node.catalog.counts import Counts
from node.catalog.machine import COUNTER, Catalog, Changes, Surroundings, evaluate
from node.catalog.moves import Move, MovePlan
from node.catalog.placement import Placement
from node.group import Asker, Group
from node.state import Definition, definition_of, index_definition
from node.storage.sqlite import StateStore

logger = logging.getLogger("geodyne.node.catalog")

CONTROLS_WAITING_MAX = 1_000
CATALOG_RECORDS_MAX = 100_000


class Replicas(Protocol):
    """What the keeper needs of the node: to hold exactly the replicas that the catalog assigns to it."""

    def hold(
        self, partition: int, epoch: int, voters: tuple[str, ...], learners: tuple[str, ...] = (), *, original: bool
    ) -> None: ...

    def drop_all_but(
        self, held: Container[int], records: Mapping[int, PartitionRecord], next_partition: int
    ) -> None: ...

    def get(self, partition: int) -> Group | None: ...

    def __iter__(self) -> Iterable[Group]: ...


class CatalogKeeper:
    """Follows the metadata group on this node; on its leader, also evaluates control operations one at a time."""

    def __init__(
        self, *, node_id: str, region: str, clock: Clock, placement: Placement, submit: Callable[[Control], None]
    ) -> None:
        self.catalog = Catalog()
        self.counts = Counts()
        self._node_id = node_id
        self._region = region
        self._clock = clock
        self._placement = placement
        self._submit = submit
        self._replicas: Replicas | None = None
        self._leads = Leads(1, ())
        self._in_flight = (0, 0)  # term and index of the newest catalog entry of this node's own
        self._waiting: deque[tuple[Control, Asker]] = deque()
        self._planned: set[str] = set()
        self._move_plan = MovePlan()
        self._records: dict[int, PartitionRecord] = {}  # as of the last change

    def attach(self, replicas: Replicas) -> None:
        self._replicas = replicas

    @property
    def revision(self) -> int:
        return self.catalog.revision

    def knows(self, partition: int) -> bool:
        """Whether this copy is new enough to say what became of a partition: ids are given out in order."""
        return partition < self.next_partition()

    def next_partition(self) -> int:
        counter = self.catalog.record(COUNTER) or {"next": 1}
        return int(counter["next"])

    def assigned(self, partition: int) -> PartitionRecord | None:
        """Where the catalog has a partition that nodes are to hold; None for one that it does not have."""
        return self._records.get(partition)

    def elsewhere(self, partition: int, epoch: int) -> NotLeader | None:
        """What is answered for a partition that this node does not hold and others do: the very call may be sent to
        them, a write under its id. None when there is no such partition any more."""
        record = self._records.get(partition)
        return NotLeader(partition, "") if record is not None and record.epoch == epoch else None

    def watched(self, call: Watch, late: bool) -> Watched | None:
        """What a client is told; None when there is nothing new for it. A client may be ahead of this node, so only
        what is newer is news; the version of `leads` begins anew at each start."""
        leads = self._leads
        counted = call.counts_version < 0 or self.counts.version == call.counts_version
        if not late and self.revision <= call.revision and leads.version == call.leads_version and counted:
            return None
        full, records = self.catalog.since(call.revision)
        led = tuple((partition, term) for partition, term, _ in leads.leads)
        counts: tuple[Count, ...] = ()
        if call.counts_version >= 0:
            counts = self.counts.since(call.counts_version, (partition for partition, _ in led))
        return Watched(self.revision, full, records, leads.version, led, self.counts.version, counts)

    def restore(self, revision: int, records: Mapping[str, tuple[int, dict[str, Any]]]) -> None:
        self.catalog.restore(revision, records)

    def apply(self, revision: int, changes: Changes) -> None:
        """A committed entry. Each was evaluated against what the one before it had made."""
        assert revision == self.catalog.revision + 1, (revision, self.catalog.revision)
        self.catalog.apply(revision, changes)

    # --- duties of every node ----------------------------------------------------------------------------

    def changed(self) -> list[Group]:
        """The catalog has moved on: hold what it assigns, drop what is gone, log the markers that are due.

        Returns the groups that have proposed a marker: nothing else would make their driver look at them.
        """
        replicas = self._replicas
        assert replicas is not None
        own = self._node_id
        records = self._records = {record.id: record for record in self.catalog.replicated()}
        held = {record.id for record in records.values() if own in record.holders}
        for number in sorted(held - {METADATA_PARTITION}):
            record = records[number]
            original = own in record.voters and record.configuration == 0
            replicas.hold(number, record.epoch, record.voters, original=original)
        replicas.drop_all_but(held, records, self.next_partition())
        wall_us = self._clock.wall_us()
        marked: list[Group] = []
        for table in self.catalog.tables.values():
            for definition, partitions in self._definitions(table):
                for partition in partitions:
                    group = replicas.get(partition.id)
                    if group is not None and group.define(definition, wall_us):
                        marked.append(group)
        return marked

    def define(self, group: Group, wall_us: int) -> None:
        """A group has a new leader here: its marker may be due."""
        table = self.catalog.partitions().get(group.partition)
        if table is not None:
            for definition, partitions in self._definitions(table):
                if any(partition.id == group.partition for partition in partitions):
                    group.define(definition, wall_us)

    def _definitions(self, table: TableRecord) -> tuple[tuple[Definition, tuple[PartitionRecord, ...]], ...]:
        """What the partitions of the table, and those of its global indexes, must do."""
        own = definition_of(table, self._region), table.partitions
        if not table.indexes:
            return (own,)
        return own, (index_definition(table), tuple(p for index in table.indexes for p in index.partitions))

    # --- who leads what ----------------------------------------------------------------------------------

    def leads(self) -> Leads:
        return self._leads

    def refresh_leads(self, groups: Iterable[Group]) -> Leads:
        led = tuple(sorted((g.partition, g.raft.term, told_revision(g)) for g in groups if g.serving))
        if led != self._leads.leads:
            self._leads = Leads(self._leads.version + 1, led)
        return self._leads

    # --- duties of the metadata leader -------------------------------------------------------------------

    def lead(self, led: Mapping[int, int]) -> None:
        """This node has become the metadata leader."""
        self._planned.clear()
        self.plan(led)

    def plan(self, led: Mapping[int, int]) -> None:
        """Submit the operations that are due, each once per state of its table."""
        group = self._metadata()
        if group is None or not group.serving:
            return
        for operation, body in plan(self.catalog, led, self._clock.wall_us() // 1000):
            mark = f"{self.catalog.revision}/{operation}/{body['name']}"
            if mark not in self._planned:
                self._planned.add(mark)
                self._submit(Control(operation, body))
        if len(self._planned) > CONTROLS_WAITING_MAX:
            self._planned.clear()

    def control(self, group: Group, call: Control, asker: Asker, wall_us: int) -> None:
        """Evaluate a control operation, or queue it behind the one whose record is not applied yet: each must see
        the catalog as the one before left it."""
        term, index = self._in_flight
        if term == group.raft.term and group.state.applied_index < index:
            if len(self._waiting) >= CONTROLS_WAITING_MAX:
                asker.answer(Refused("LimitExceededException", "Too many control-plane operations at once"))
            else:
                self._waiting.append((call, asker))
            return
        around = Surroundings(
            region=self._region,
            now_ms=wall_us // 1000,
            placement=self._placement_now(),
            new_id=lambda: str(uuid.uuid4()),
            stream_label=_stream_label,
            streams_known=streams.known(self.catalog.members),
            writes_known=writemodes.known(self.catalog.members),
        )
        try:
            changes, answer = evaluate(self.catalog, call.operation, call.body, around)
            self._check_readable(changes)
        except ApiError as error:
            group.answer_read(asker, Refused(error.kind.code, error.message or ""))
            return
        if not changes:
            group.answer_read(asker, ControlDone(self.catalog.revision, answer))
            return
        revision = self.catalog.revision + 1
        logger.info("control", extra={"operation": call.operation, "revision": revision})
        index = group.change_catalog(revision, changes, wall_us)
        self._in_flight = (group.raft.term, index)
        group.wait_for(index, asker, ControlDone(revision, answer))

    def _check_readable(self, changes: Changes) -> None:
        """Every node reads a record for as long as it is logged: one that cannot be read would end them all, again and
        again. Parts of one may come from another region. Raises what reading it raises."""
        for key, record in changes:
            if key.startswith(TABLE_PREFIX) and record is not None:
                table = TableRecord.from_json(orjson.loads(orjson.dumps(record)))
                for definition, _ in self._definitions(table):
                    definition.to_wire().SerializeToString()

    def _placement_now(self) -> Placement:
        members = self.catalog.members
        return self._move_plan.placement(members) if members else self._placement

    @property
    def awaits_time(self) -> bool:
        """Something is due at a time, whether or not anything changes until then."""
        return any(write_mode(table).moving for table in self.catalog.tables.values() if table.is_global)

    def moves_due(self) -> list[Move]:
        """The moves that the metadata leader is to begin."""
        return self._move_plan.due(self.catalog.members, self.catalog.replicated())

    def next_controls(self) -> list[tuple[Control, Asker]]:
        """What was queued and may be tried again."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _metadata(self) -> Group | None:
        assert self._replicas is not None
        return self._replicas.get(METADATA_PARTITION)


def told_revision(group: Group) -> int:
    """Of the definition that a leader has applied. One that forbids all writes is told once no transaction from before
    it is prepared: of this region's writes nothing is to come then, whoever leads next."""
    definition, prepared = group.state.definition, group.window.transactions.prepared
    if definition.writes is None or not definition.writes.closed or not prepared:
        return definition.revision
    return 0 if any(item.written for part in prepared.values() for item in part.items) else definition.revision


def _stream_label(now_ms: int) -> str:
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now_ms % 1000:03d}"


def catalog_records(store: StateStore) -> dict[str, tuple[int, dict[str, Any]]]:
    """The catalog as stored: the rows of the metadata group."""
    rows = store.range(METADATA_PARTITION, b"", b"\xff", False, CATALOG_RECORDS_MAX)
    return {
        key.decode(): (int.from_bytes(row.version, "big"), orjson.loads(row.value))
        for key, row in rows
        if row.value is not None
    }
