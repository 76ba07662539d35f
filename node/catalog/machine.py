"""The catalog as a replicated state: records by text key, each with the revision that last changed it.

Control operations are evaluated by the leader of the metadata group (`evaluate`, pure) into changed records; those
are logged and applied on every replica (`Catalog.apply`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from geodyne import overrides
from geodyne.catalog import (
    FUNCTION_PREFIX,
    HASH_SPACE,
    MAPPING_PREFIX,
    MEMBER_PREFIX,
    METADATA_KEY,
    REPLICA_HOLDING,
    SYSTEM_PREFIX,
    TABLE_PREFIX,
    ControlOperation,
    MemberRecord,
    MemberState,
    PartitionRecord,
    TableRecord,
    TableStatus,
    TtlStatus,
    merged_members,
)
from geodyne.errors import ApiError
from geodyne.healthcheck import HEALTH_PARTITIONS, HEALTH_SCHEMA, HEALTH_TABLE
from geodyne.ledger import LEDGER_SCHEMA, LEDGER_TABLE
from geodyne.limits import TABLES_MAX, TAGS_MAX
from geodyne.messages import METADATA_PARTITION
from geodyne.model.keys import KeySchema
from geodyne.writemodes import WRITES
from node.catalog import (
    indexes,
    kinesis,
    leaving,
    members,
    moves,
    news,
    replicas,
    streams,
    tablesettings,
    triggers,
    ttl,
    writemodes,
)
from node.catalog.placement import Placement

COUNTER = "counter/partition"
PARTITIONS_OF_A_TABLE = 4
REMOVED_KEPT_MAX = 10_000
Record = dict[str, Any]
Changes = list[tuple[str, Record | None]]


class Catalog:
    """Records at a revision. A revision is the catalog's own count of applied changes of state."""

    def __init__(self) -> None:
        self.revision = 0
        self.tables: dict[str, TableRecord] = {}
        self.members: dict[str, MemberRecord] = {}
        self.mappings: dict[str, Record] = {}  # event source mappings, by UUID
        self.functions: dict[str, Record] = {}  # by name
        self.metadata: PartitionRecord | None = None  # its own group's replicas; None: as the launch file has them
        self._records: dict[str, tuple[int, Record | None]] = {}
        self._floor = 0  # a reader older than this cannot be told what was removed

    def restore(self, revision: int, records: Mapping[str, tuple[int, Record]]) -> None:
        """Take over stored records; what was removed before is forgotten."""
        self.revision = self._floor = revision
        self._records = dict(records)
        self.tables, self.members, self.metadata = {}, {}, None
        self.mappings, self.functions = {}, {}
        for key, (_, record) in records.items():
            self._read(key, record)

    def apply(self, revision: int, changes: Changes) -> None:
        self.revision = revision
        for key, record in changes:
            self._records[key] = (revision, record)
            self._read(key, record)
        removed = [key for key, (_, record) in self._records.items() if record is None]
        if len(removed) > REMOVED_KEPT_MAX:
            self._floor = revision
            for key in removed:
                del self._records[key]

    def _read(self, key: str, record: Record | None) -> None:
        if key.startswith(TABLE_PREFIX):
            name = key.removeprefix(TABLE_PREFIX)
            if record is None:
                self.tables.pop(name, None)
            else:
                self.tables[name] = TableRecord.from_json(record)
        elif key.startswith(MEMBER_PREFIX) and record is not None:  # they are never taken away
            node = key.removeprefix(MEMBER_PREFIX)
            self.members[node] = MemberRecord.from_json(node, record)
        elif key == METADATA_KEY and record is not None:
            self.metadata = PartitionRecord.from_json(record)
        elif key.startswith(MAPPING_PREFIX):
            _keep(self.mappings, key.removeprefix(MAPPING_PREFIX), record)
        elif key.startswith(FUNCTION_PREFIX):
            _keep(self.functions, key.removeprefix(FUNCTION_PREFIX), record)

    def since(self, revision: int) -> tuple[bool, tuple[tuple[str, Record | None], ...]]:
        """(full, records) that bring a copy at `revision` up to date."""
        if revision < self._floor:
            return True, tuple((key, record) for key, (_, record) in self._records.items() if record is not None)
        return False, tuple((key, record) for key, (at, record) in self._records.items() if at > revision)

    def record(self, key: str) -> Record | None:
        stored = self._records.get(key)
        return stored[1] if stored is not None else None

    def partitions(self) -> dict[int, TableRecord]:
        """Those of global indexes too."""
        return {partition.id: table for table in self.tables.values() for partition in table.all_partitions}

    def replicated(self) -> list[PartitionRecord]:
        """The partitions that nodes are to hold, the metadata group's among them."""
        live = [table for table in self.tables.values() if table.status is not TableStatus.DELETING]
        records = [partition for table in live for partition in indexes.live_partitions(table)]
        return records if self.metadata is None else [self.metadata, *records]


def _keep(records: dict[str, Record], name: str, record: Record | None) -> None:
    if record is None:
        records.pop(name, None)
    else:
        records[name] = record


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What evaluation needs beyond the catalog; everything random or clock-like is passed in."""

    region: str
    now_ms: int
    placement: Placement
    new_id: Callable[[], str]
    stream_label: Callable[[int], str]
    streams_known: bool = True  # by every node of the region
    writes_known: bool = True  # likewise: write modes


class _Draft:
    """The changes one operation makes, on top of the catalog."""

    def __init__(self, catalog: Catalog, around: Surroundings) -> None:
        self.catalog = catalog
        self.around = around
        self.changes: Changes = []
        self.revision = catalog.revision + 1
        self._next_partition = int((catalog.record(COUNTER) or {"next": 1})["next"])

    def table(self, name: str) -> TableRecord:
        table = self.catalog.tables.get(name)
        if table is None:
            raise ApiError("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found")
        return table

    def put(self, table: TableRecord) -> TableRecord:
        self.changes.append((TABLE_PREFIX + table.name, table.to_json()))
        return table

    def changed(self, before: TableRecord, after: TableRecord) -> Record:
        """The answer with the table as it is now. One that stays as it was is no change of the catalog."""
        return {"table": (before if after == before else self.put(after)).to_json()}

    def put_member(self, member: MemberRecord) -> Record:
        """Returns what is told of it."""
        if self.catalog.members.get(member.node) != member:
            self.changes.append((MEMBER_PREFIX + member.node, member.to_json()))
        return {"member": members.described(member, self.catalog.replicated())}

    def put_partition(self, partition: PartitionRecord) -> None:
        """It has other replicas."""
        if partition.id == METADATA_PARTITION:
            self.changes.append((METADATA_KEY, partition.to_json()))
        else:
            self.put(self.catalog.partitions()[partition.id].with_partition(partition))

    def put_function(self, name: str, function: Record | None) -> None:
        self.changes.append((FUNCTION_PREFIX + name, function))

    def put_mapping(self, uuid: str, mapping: Record | None) -> None:
        self.changes.append((MAPPING_PREFIX + uuid, mapping))

    def remove(self, name: str) -> None:
        self.changes.append((TABLE_PREFIX + name, None))

    def new_partitions(self, count: int) -> tuple[PartitionRecord, ...]:
        first = self._next_partition
        self._next_partition = first + count
        self.changes.append((COUNTER, {"next": self._next_partition}))
        bounds = [HASH_SPACE * number // count for number in range(count + 1)]
        voters = self.around.placement.voters
        return tuple(
            PartitionRecord(first + number, 1, bounds[number], bounds[number + 1], voters(first + number))
            for number in range(count)
        )


Handler = Callable[[_Draft, Record], Record]


def evaluate(catalog: Catalog, operation: str, body: Record, around: Surroundings) -> tuple[Changes, Record]:
    """Decide a control operation: (changed records, answer). Raises ApiError when it is refused."""
    handler = _HANDLERS.get(operation)
    if handler is None:
        raise ApiError("UnknownOperationException", f"no control operation {operation!r}")
    draft = _Draft(catalog, around)
    answer = handler(draft, body)
    return draft.changes, answer


def _create_table(draft: _Draft, body: Record) -> Record:
    definition = body["definition"]
    name = definition["name"]
    if name in draft.catalog.tables:
        raise ApiError("ResourceInUseException", f"Table already exists: {name}")
    if sum(not table.startswith(SYSTEM_PREFIX) for table in draft.catalog.tables) >= TABLES_MAX:
        raise ApiError(
            "LimitExceededException",
            f"Subscriber limit exceeded: There is a limit of {TABLES_MAX} tables per subscriber",
        )
    table = _new_table(draft, definition, draft.around.new_id(), {})
    if definition.get("stream_view"):
        table = streams.enabled(table, definition["stream_view"], *_stream_surroundings(draft))
    return {"table": draft.put(table).to_json()}


def _new_table(
    draft: _Draft,
    definition: Record,
    table_id: str,
    group: dict[str, str],
    partitions: int = PARTITIONS_OF_A_TABLE,
) -> TableRecord:
    return TableRecord(
        name=definition["name"],
        id=table_id,
        status=TableStatus.CREATING,
        revision=draft.revision,
        created_ms=draft.around.now_ms,
        hash_key=definition["hash_key"],
        hash_type=definition["hash_type"],
        range_key=definition.get("range_key"),
        range_type=definition.get("range_type"),
        billing_mode=definition.get("billing_mode", "PROVISIONED"),
        read_units=definition.get("read_units", 0),
        write_units=definition.get("write_units", 0),
        partitions=draft.new_partitions(partitions),
        replicas=group,
        deletion_protection=definition.get("deletion_protection", False),
        table_class=definition.get("table_class", "STANDARD"),
        tags=definition.get("tags", {}),
        extra=definition.get("extra", {}),
        ttl_attribute=definition.get("ttl_attribute"),
        ttl_status=TtlStatus.ENABLING if definition.get("ttl_attribute") else TtlStatus.DISABLED,
        ttl_changed_ms=definition.get("ttl_changed_ms", 0),
        indexes=indexes.made(definition.get("indexes", ()), draft.revision, draft.new_partitions),
    )


_PLAIN_SETTINGS = ("billing_mode", "read_units", "write_units", "deletion_protection", "table_class")


def _update_table(draft: _Draft, body: Record) -> Record:
    before = table = _same_table(draft, body)
    if table.status is not TableStatus.ACTIVE:
        raise _busy(table)
    if not body.get("as_replica", False):
        table = overrides.effective(table, draft.around.region)  # what a client sees and edits
    settings = {name: body[name] for name in _PLAIN_SETTINGS if name in body}
    table = replace(table, **settings)
    if "stream" in body:
        table = _change_stream(draft, table, body["stream"])
    if "replicas_add" in body or "replicas_remove" in body:
        table = replicas.changed(table, body, draft.around.region, draft.around.now_ms)
        if table.stream_view is None:  # replication rides on the stream, as on DynamoDB
            table = streams.wanted(table, "NEW_AND_OLD_IMAGES", *_stream_surroundings(draft))
    if "extra" in body:
        table = replace(table, extra=indexes.merged(table.extra, body["extra"]))
    if body.get("leave", False):
        table = leaving.begun(table, draft.around.region, draft.around.now_ms)
    table = overrides.pruned(_change_indexes(draft, before, table, body))
    # Whatever changed: ACTIVE again once every partition has applied the marker of this revision.
    table = replace(table, status=TableStatus.UPDATING, revision=draft.revision)
    return {"table": draft.put(table).to_json()}


def _change_indexes(draft: _Draft, before: TableRecord, table: TableRecord, body: Record) -> TableRecord:
    if "index_update" in body:
        table = indexes.updated(table, body["index_update"])
    if "index_remove" in body:
        table = indexes.removed(table, body["index_remove"])
    if "index_add" in body:
        table = indexes.added(table, body["index_add"], draft.revision, draft.new_partitions)
    if body.get("as_replica", False):
        return tablesettings.taken_over(table, body.get("settings"))
    table = overrides.asked(overrides.settled(before, table, draft.around.region), body.get("overrides", {}))
    table, settings = tablesettings.edited(table, body, draft.around.now_ms)
    return news.announced(table, {**body, **settings}, draft.revision, _other_members(draft, table))


def _other_members(draft: _Draft, table: TableRecord) -> list[str]:
    """The regions that are to take over what this one changes of a global table."""
    members = [region for region, status in table.replicas.items() if status in REPLICA_HOLDING]
    return [region for region in members if region != draft.around.region]


def _change_stream(draft: _Draft, table: TableRecord, view: str | None) -> TableRecord:
    if view is None:
        return streams.disabled(table, draft.around.now_ms)
    return streams.enabled(table, view, *_stream_surroundings(draft))


def _stream_surroundings(draft: _Draft) -> tuple[Callable[[int], str], int, bool]:
    return draft.around.stream_label, draft.around.now_ms, draft.around.streams_known


_DOING = {TableStatus.CREATING: "created", TableStatus.UPDATING: "updated", TableStatus.DELETING: "deleted"}


def _busy(table: TableRecord) -> ApiError:
    return ApiError(
        "ResourceInUseException",
        f"Attempt to change a resource which is still in use: Table is being {_DOING[table.status]}: {table.name}",
    )


def _delete_table(draft: _Draft, body: Record) -> Record:
    table = _same_table(draft, body)
    if table.status is not TableStatus.ACTIVE:
        raise _busy(table)
    around, as_replica = draft.around, body.get("as_replica", False)
    table = leaving.deleted(table, around.region, around.now_ms, as_replica=as_replica)
    return {"table": draft.put(replace(table, revision=draft.revision)).to_json()}


def _ensure_replica(draft: _Draft, body: Record) -> Record:
    """Another region says that this one replicates a table: make it, or take over the new list of members."""
    definition, members = body["definition"], dict(body["members"])
    table = draft.catalog.tables.get(definition["name"])
    if table is None:
        replicas.check_offered(definition["name"], body["table_id"])
        if definition.get("ttl_attribute"):
            ttl.check_known(draft.around.streams_known)
        if WRITES in definition.get("extra", {}):
            writemodes.check_known(draft.around.writes_known)
        created = _new_table(draft, definition, body["table_id"], members)
        if definition.get("stream_view"):
            created = streams.wanted(created, definition["stream_view"], *_stream_surroundings(draft))
        return {"table": draft.put(created).to_json()}
    if table.id != body["table_id"]:
        raise replicas.name_taken(table)
    leaving.check_admissible(table)
    members = merged_members(draft.around.region, table.replicas, members)
    if table.replicas == members or table.status is TableStatus.DELETING:
        return {"table": table.to_json()}
    if table.status is TableStatus.UPDATING and members.keys() - table.replicas.keys():
        raise _busy(table)  # partitions that have not logged that a replica went would keep marks of it that comes back
    status = TableStatus.UPDATING if table.status is TableStatus.ACTIVE else table.status
    changed = replicas.joined(table, members, definition.get("added", {}))
    return {"table": draft.put(replace(changed, status=status, revision=draft.revision)).to_json()}


def _set_replica(draft: _Draft, body: Record) -> Record:
    table = _same_table(draft, body)
    return draft.changed(table, replicas.reported(table, body, draft.revision))


def _ensure_own(name: str, schema: KeySchema, partitions: int) -> Handler:
    """A table of the region's own, made if there is none."""

    def ensure(draft: _Draft, body: Record) -> Record:
        table = draft.catalog.tables.get(name)
        if table is None:
            keys = {"hash_key": schema.hash_name, "hash_type": schema.hash_type}
            definition = {"name": name, **keys, "billing_mode": "PAY_PER_REQUEST"}
            table = draft.put(_new_table(draft, definition, draft.around.new_id(), {}, partitions))
        return {"table": table.to_json()}

    return ensure


def _same_table(draft: _Draft, body: Record) -> TableRecord:
    """The table of that name, unless the body says by id that it means another one, since deleted."""
    table = draft.table(body["name"])
    if body.get("table_id", table.id) != table.id:
        raise ApiError("ResourceNotFoundException", f"Requested resource not found: Table: {table.name} not found")
    return table


def _drop_replica(draft: _Draft, body: Record) -> Record:
    table = _same_table(draft, body)
    if body.get("as_replica", False):
        writemodes.check_removable(table, body["region"])  # it may have become active since the other region looked
    return draft.changed(table, leaving.dropped(table, body["region"], draft.around.region, draft.revision))


def _leave_result(draft: _Draft, body: Record) -> Record:
    table, now_ms = _same_table(draft, body), draft.around.now_ms
    arrived = body["arrived"] and not writemodes.depends_on(table, draft.around.region)
    revision = draft.revision
    changed = leaving.concluded(table, body["through_us"], arrived=arrived, now_ms=now_ms, revision=revision)
    return draft.changed(table, changed)


def _set_ttl(draft: _Draft, body: Record) -> Record:
    table = _same_table(draft, body)
    if table.status in (TableStatus.CREATING, TableStatus.DELETING):
        raise _busy(table)
    ttl.check_known(draft.around.streams_known)
    if body.get("as_replica", False):
        changed = ttl.taken_over(table, body, draft.revision)
    else:
        changed = ttl.asked(table, body, draft.around.now_ms, draft.revision)
        changed = news.announced(changed, ttl.news(changed), draft.revision, _other_members(draft, changed))
    return draft.changed(table, changed)


def _settled(change: Callable[[TableRecord], TableRecord]) -> Handler:
    """Internal: every partition has applied the definition of `revision`."""

    def handle(draft: _Draft, body: Record) -> Record:
        table = draft.table(body["name"])
        return draft.changed(table, change(table) if table.revision == body["revision"] else table)

    return handle


def _of_table(change: Callable[[TableRecord, Record], TableRecord]) -> Handler:
    def handle(draft: _Draft, body: Record) -> Record:
        table = _same_table(draft, body)
        return draft.changed(table, change(table, body))

    return handle


def _set_writes(change: Callable[[TableRecord, Record, writemodes.Around], TableRecord]) -> Handler:
    def handle(draft: _Draft, body: Record) -> Record:
        region, now_ms, known = draft.around.region, draft.around.now_ms, draft.around.writes_known
        around = writemodes.Around(region, now_ms, draft.revision, known)
        return _of_table(lambda table, body: change(table, body, around))(draft, body)

    return handle


def _set_kinesis(change: Callable[[TableRecord, Record, kinesis.Around], TableRecord]) -> Handler:
    def handle(draft: _Draft, body: Record) -> Record:
        table = _same_table(draft, body)
        if table.status in (TableStatus.CREATING, TableStatus.DELETING):
            raise _busy(table)
        now_ms, new_id, known = draft.around.now_ms, draft.around.new_id, draft.around.streams_known
        around = kinesis.Around(now_ms, draft.revision, new_id, known)
        return draft.changed(table, change(table, body, around))

    return handle


def _tag_table(draft: _Draft, body: Record) -> Record:
    table = _same_table(draft, body)
    if table.status is TableStatus.DELETING:
        raise _busy(table)
    removed = set(body.get("remove", ()))
    tags = {key: value for key, value in table.tags.items() if key not in removed} | body.get("add", {})
    if len(tags) > TAGS_MAX:
        raise ApiError("ValidationException", "Number of Tags exceed the current limit for the provided ResourceArn")
    return draft.changed(table, replace(table, tags=tags))


def _index_filled(table: TableRecord, body: Record) -> TableRecord:
    return indexes.filled(table, body["index"], body["revision"], body["partition"])


def _news_told(table: TableRecord, body: Record) -> TableRecord:
    return news.told(table, body["region"], body["revision"])


def _activate(draft: _Draft, body: Record) -> Record:
    """Internal: every partition has applied the definition of `revision`."""
    table = draft.table(body["name"])
    changing = table.status in (TableStatus.CREATING, TableStatus.UPDATING) and table.leaving is None
    if table.revision == body["revision"] and changing:
        table = draft.put(replace(table, status=TableStatus.ACTIVE, indexes=indexes.activated(table)))
    return {"table": table.to_json()}


def _forget(draft: _Draft, body: Record) -> Record:
    """Internal: the partitions of a table being deleted are gone."""
    table = draft.table(body["name"])
    if table.status is TableStatus.DELETING and table.id == body["id"]:
        draft.remove(table.name)
    return {}


def _begin_stream(draft: _Draft, body: Record) -> Record:
    """Internal: every node of the region knows streams by now."""
    table = draft.table(body["name"])
    changed = streams.begun(table, draft.around.now_ms, draft.revision) if draft.around.streams_known else table
    return draft.changed(table, changed)


def _forget_streams(draft: _Draft, body: Record) -> Record:
    """Internal: streams of the table ended long ago."""
    table = draft.table(body["name"])
    return draft.changed(table, streams.forgotten(table, draft.around.now_ms, draft.revision))


def _put_function(draft: _Draft, body: Record) -> Record:
    function = triggers.function_put(draft.catalog.functions, body["function"], draft.around.now_ms)
    draft.put_function(function["name"], function)
    return {"function": function}


def _delete_function(draft: _Draft, body: Record) -> Record:
    catalog, name = draft.catalog, body["name"]
    function = triggers.function_deleted(catalog.functions, catalog.mappings, name, body.get("force", False))
    draft.put_function(name, None)
    return {"function": function}


def _function_list(draft: _Draft, body: Record) -> Record:
    return {"functions": sorted(draft.catalog.functions.values(), key=lambda function: str(function["name"]))}


def _create_mapping(draft: _Draft, body: Record) -> Record:
    catalog, around, asked = draft.catalog, draft.around, body["mapping"]
    known = catalog.mappings, catalog.functions, catalog.tables.get(asked["table"])
    mapping, table = triggers.created(*known, asked, around.new_id(), around.now_ms, draft.revision)
    draft.put_mapping(mapping["uuid"], mapping)
    draft.put(table)
    return {"mapping": mapping}


def _update_mapping(draft: _Draft, body: Record) -> Record:
    known = draft.catalog.mappings, draft.catalog.functions
    mapping = triggers.updated(*known, body["uuid"], body["mapping"], draft.around.now_ms, draft.revision)
    draft.put_mapping(body["uuid"], mapping)
    return {"mapping": mapping}


def _delete_mapping(draft: _Draft, body: Record) -> Record:
    known = draft.catalog.mappings, draft.catalog.tables
    mapping, table = triggers.deleted(*known, body["uuid"], draft.around.now_ms, draft.revision)
    draft.put_mapping(body["uuid"], mapping)
    if table is not None:
        draft.put(table)
    return {"mapping": mapping}


def _mapping_result(draft: _Draft, body: Record) -> Record:
    mapping = triggers.reported(draft.catalog.mappings, body["uuid"], body["result"])
    if mapping is not None:
        draft.put_mapping(body["uuid"], mapping)
    return {}


def _mapping_settled(draft: _Draft, body: Record) -> Record:
    """Internal: the change of a mapping at `revision` has taken effect."""
    before = draft.catalog.mappings.get(body["name"])
    if before is not None:
        mapping = triggers.settled(before, body["revision"], draft.around.now_ms)
        if mapping is not before:
            draft.put_mapping(body["name"], mapping)
    return {}


def _node_list(draft: _Draft, body: Record) -> Record:
    partitions = draft.catalog.replicated()
    return {
        "members": members.listed(draft.catalog.members, partitions),
        "moves": sum(bool(partition.target) for partition in partitions),
    }


def _node_drain(draft: _Draft, body: Record) -> Record:
    return draft.put_member(members.drained(draft.catalog.members, body["node"], body.get("force", False)))


def _node_activate(draft: _Draft, body: Record) -> Record:
    return draft.put_member(members.activated(draft.catalog.members, body["node"]))


def _node_remove(draft: _Draft, body: Record) -> Record:
    catalog = draft.catalog
    member = members.removed(catalog.members, body["node"], body.get("force", False), catalog.replicated())
    return draft.put_member(member)


def _nodes_seen(draft: _Draft, body: Record) -> Record:
    """Internal: the launch file names these nodes; the metadata group has these voters."""
    for member in members.seen(draft.catalog.members, body["members"], body["formats"]):
        draft.put_member(member)
    if draft.catalog.metadata is None:
        draft.put_partition(PartitionRecord(METADATA_PARTITION, 1, 0, HASH_SPACE, tuple(body["voters"])))
    return {}


def _node_state(draft: _Draft, body: Record) -> Record:
    """Internal: a node went silent for long, or is back."""
    member = draft.catalog.members.get(body["node"])
    if member is not None and member.state == body["expected"]:
        draft.put_member(replace(member, state=MemberState(body["state"])))
    return {}


def _move_begin(draft: _Draft, body: Record) -> Record:
    """Internal: a partition shall have other voters."""
    record = _partition(draft, body)
    if record is not None:
        changed = moves.begun(record, tuple(body["voters"]), tuple(body["target"]), draft.revision)
        if changed != record:
            draft.put_partition(changed)
    return {}


def _move_done(draft: _Draft, body: Record) -> Record:
    """Internal: the voters that a partition's log has put in force, from its leader."""
    record = _partition(draft, body)
    if record is not None:
        changed = moves.concluded(record, tuple(body["voters"]), body["configuration"], body.get("term", 0))
        if changed != record:
            draft.put_partition(changed)
    return {}


def _partition(draft: _Draft, body: Record) -> PartitionRecord | None:
    held = draft.catalog.replicated()
    return next((record for record in held if record.id == body["partition"]), None)


ACTIVATE = "activate"
NODES_SEEN = "nodes_seen"
NODE_STATE = "node_state"
MOVE_BEGIN = "move_begin"
MOVE_DONE = "move_done"
FORGET = "forget"
BEGIN_STREAM = "begin_stream"
FORGET_STREAMS = "forget_streams"
TTL_SETTLED = "ttl_settled"
KINESIS_SETTLED = "kinesis_settled"
WRITES_APPLIED = "writes_applied"
WRITES_GIVEN_UP = "writes_given_up"
MAPPING_SETTLED = "mapping_settled"
_HANDLERS: dict[str, Handler] = {
    ControlOperation.CREATE_TABLE: _create_table,
    ControlOperation.UPDATE_TABLE: _update_table,
    ControlOperation.SET_TTL: _set_ttl,
    ControlOperation.TAG_TABLE: _tag_table,
    ControlOperation.INDEX_FILLED: _of_table(_index_filled),
    ControlOperation.INDEX_TOLD: _of_table(_news_told),
    ControlOperation.DELETE_TABLE: _delete_table,
    ControlOperation.ENSURE_REPLICA: _ensure_replica,
    ControlOperation.SET_REPLICA: _set_replica,
    ControlOperation.DROP_REPLICA: _drop_replica,
    ControlOperation.LEAVE_RESULT: _leave_result,
    ControlOperation.SET_WRITES: _set_writes(writemodes.changed),
    ControlOperation.WRITES_RESULT: _set_writes(writemodes.reported),
    WRITES_APPLIED: _set_writes(writemodes.applied),
    WRITES_GIVEN_UP: _set_writes(writemodes.given_up),
    ControlOperation.ENSURE_LEDGER: _ensure_own(LEDGER_TABLE, LEDGER_SCHEMA, PARTITIONS_OF_A_TABLE),
    ControlOperation.ENSURE_HEALTH: _ensure_own(HEALTH_TABLE, HEALTH_SCHEMA, HEALTH_PARTITIONS),
    ControlOperation.NODE_LIST: _node_list,
    ControlOperation.NODE_DRAIN: _node_drain,
    ControlOperation.NODE_ACTIVATE: _node_activate,
    ControlOperation.NODE_REMOVE: _node_remove,
    NODES_SEEN: _nodes_seen,
    NODE_STATE: _node_state,
    MOVE_BEGIN: _move_begin,
    MOVE_DONE: _move_done,
    ACTIVATE: _activate,
    FORGET: _forget,
    BEGIN_STREAM: _begin_stream,
    FORGET_STREAMS: _forget_streams,
    TTL_SETTLED: _settled(ttl.settled),
    ControlOperation.ENABLE_KINESIS: _set_kinesis(kinesis.enabled),
    ControlOperation.DISABLE_KINESIS: _set_kinesis(kinesis.disabled),
    ControlOperation.UPDATE_KINESIS: _set_kinesis(kinesis.updated),
    ControlOperation.KINESIS_RESULT: _set_kinesis(kinesis.reported),
    KINESIS_SETTLED: _settled(kinesis.settled),
    ControlOperation.PUT_FUNCTION: _put_function,
    ControlOperation.DELETE_FUNCTION: _delete_function,
    ControlOperation.FUNCTION_LIST: _function_list,
    ControlOperation.CREATE_MAPPING: _create_mapping,
    ControlOperation.UPDATE_MAPPING: _update_mapping,
    ControlOperation.DELETE_MAPPING: _delete_mapping,
    ControlOperation.MAPPING_RESULT: _mapping_result,
    MAPPING_SETTLED: _mapping_settled,
}
