"""What the metadata group of a region knows, as values: tables, their partitions and their replicas.

Records are stored, shipped and watched as JSON objects under a text key, "table/<name>" for a table.  The leader of
the metadata group evaluates control operations and logs the changed records; every node, router and replicator of the
region holds a copy that follows by revision.  The nodes of a region are records too, "member/<node id>": the launch
files say which there are and where, the catalog what each is for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from geodyne.model.keys import KeySchema

HASH_SPACE = 1 << 64
SYSTEM_PREFIX = "$"  # of the names of the region's own tables: no name that CreateTable takes begins so
TABLE_PREFIX = "table/"  # of the key of a table's record; the rest is its name
MEMBER_PREFIX = "member/"  # of the key of a node's record; the rest is its id
MAPPING_PREFIX = "mapping/"  # of the key of an event source mapping's record; the rest is its UUID
FUNCTION_PREFIX = "function/"  # of the key of a function's record; the rest is its name
METADATA_KEY = "metadata"  # of the record of the metadata group's own replicas


class ControlOperation(StrEnum):
    """Operations of the control plane, with the members of their body.

    CREATE_TABLE      definition (see router.api.tables)                      -> table
    UPDATE_TABLE      name, and any of: billing_mode, read_units, write_units, deletion_protection, table_class,
                      stream (view type or null), replicas_add [region], replicas_remove [region], extra (merged; a
                      null member is removed), index_add (definition of one global index), index_remove (name),
                      index_update {name: {read_units, write_units, extra}}, overrides {region: geodyne.overrides},
                      leave: true                                              -> table
                      An optional table_id, and as_replica: asked by another region, so not to be passed on; then
                      settings (node.catalog.tablesettings), taken over if they are the newest
    SET_TTL           name, attribute, enabled; interval_ms: refused if the last change is not as long ago -> table
                      as_replica, changed_ms: another region's change of that time, taken over if it is the newest
    TAG_TABLE         name, add {key: value}, remove [key]                     -> table; not while DELETING
    INDEX_FILLED      name, index, revision (of the index), partition          -> table; from that partition's leader
    INDEX_TOLD        name, region, revision: that region has taken over the News of that revision -> table
    DELETE_TABLE      name                                                    -> table (as it was, DELETING)
    ENSURE_REPLICA    definition, members {region: status}, table_id          -> table; idempotent, from another region
    SET_REPLICA       name, region, status, expected: only from that status; progress: percent, of one that is and
                      stays CREATING; trouble: for people, "" for none, of one that is and stays as it is, or with
                      CREATION_FAILED; compared: revision (of TO_COMPARE), of one that is and stays ACTIVE  -> table
    LEAVE_RESULT      name, through_us, arrived: what became of the wait of a table that is to leave its replicas; of an
                      older wait it changes nothing                            -> table
    SET_WRITES        name, mode, active, home (geodyne.writemodes; null: as it is), force     -> table
                      or as_replica, mode_record: another region's record, taken over if it is the newest; with
                      neither it only looks
    WRITES_RESULT     name, and spread: the number of the mode that every region has in force; or handed: the attempt
                      whose writes are all where they are to be taken next      -> table
    DROP_REPLICA      name, region: forget a member of a global table; ""     -> table (only looks)
    ENSURE_LEDGER     the table of geodyne.ledger, made if there is none       -> table
    ENSURE_HEALTH     the table of geodyne.healthcheck, likewise               -> table
    NODE_LIST         nothing                                                 -> members [{node, zone, state, replicas,
                      joining}], moves: how many replicas are on their way
    NODE_DRAIN        node, force: take all replicas off it                   -> member (as in NODE_LIST)
    NODE_ACTIVATE     node: have it hold replicas (again)                      -> member
    NODE_REMOVE       node, force: it will not come back; drained before       -> member

    PUT_FUNCTION      function (geodyne.triggers.functions), made or replaced  -> function
    DELETE_FUNCTION   name, force: though mappings name it                     -> function
    FUNCTION_LIST     nothing                                                  -> functions [...]
    CREATE_MAPPING    mapping (geodyne.triggers.mapping, without a uuid)       -> mapping
    UPDATE_MAPPING    uuid, mapping (the members that change)                  -> mapping
    DELETE_MAPPING    uuid                                                     -> mapping (as it was, Deleting)
    ENABLE_KINESIS    name, stream_arn, precision: send the table's changes there -> table
    DISABLE_KINESIS   name, stream_arn                                         -> table
    UPDATE_KINESIS    name, stream_arn, precision                              -> table
    KINESIS_RESULT    name, id, expected (statuses), status, description: what became of a destination -> table
    MAPPING_RESULT    uuid, result: what came of its last batch; no news of a mapping that is not there

    Operations on a table take an optional table_id: of another table by the same name they say that it is not found.
    """

    CREATE_TABLE = "create_table"
    UPDATE_TABLE = "update_table"
    DELETE_TABLE = "delete_table"
    SET_TTL = "set_ttl"
    TAG_TABLE = "tag_table"
    INDEX_FILLED = "index_filled"
    INDEX_TOLD = "index_told"
    ENSURE_REPLICA = "ensure_replica"
    SET_REPLICA = "set_replica"
    DROP_REPLICA = "drop_replica"
    SET_WRITES = "set_writes"
    WRITES_RESULT = "writes_result"
    LEAVE_RESULT = "leave_result"
    ENSURE_LEDGER = "ensure_ledger"
    ENSURE_HEALTH = "ensure_health"
    NODE_LIST = "node_list"
    NODE_DRAIN = "node_drain"
    NODE_ACTIVATE = "node_activate"
    NODE_REMOVE = "node_remove"
    PUT_FUNCTION = "put_function"
    DELETE_FUNCTION = "delete_function"
    FUNCTION_LIST = "function_list"
    ENABLE_KINESIS = "enable_kinesis"
    DISABLE_KINESIS = "disable_kinesis"
    UPDATE_KINESIS = "update_kinesis"
    KINESIS_RESULT = "kinesis_result"
    CREATE_MAPPING = "create_mapping"
    UPDATE_MAPPING = "update_mapping"
    DELETE_MAPPING = "delete_mapping"
    MAPPING_RESULT = "mapping_result"


INDEX_CONSUMER = "index"  # under which the partitions of a table keep the cursor of its global indexes
STREAM_PREFIX = "stream/"  # of the name under which partitions keep how far a stream has been trimmed
TRIGGER_PREFIX = "trigger/"  # of a bookmark that begins with what is written after it was made,
TRIGGER_OLDEST_PREFIX = "trigger-oldest/"  # and of one that begins with the oldest records there are
REPLICA_PREFIX = "replica/"  # of the consumer that holds the feed for another region; the rest is its name
KINESIS_PREFIX = "kinesis/"  # of the consumer that holds the feed for a Kinesis data stream; the rest is its id
STREAM_RETENTION_S = 86_400  # of records, and of streams that have ended


# Members of a table's `extra`:
SETTINGS_CHANGED = "settings_changed_ms"  # of the newest edit of what replicas have in common
REPLICA_PROGRESS = "replica_progress"  # {region: percent} of the replicas that are being filled from here
CONFLICT_LOG = "conflict_log"  # True: conflicts are kept (node.feed.conflicts); replicas have it in common
LEAVING = "leaving"  # while its replica leaves: Leaving, as JSON
OVERRIDES = "overrides"  # of settings, by region (geodyne.overrides)
# {region: milliseconds}: when a replica that is not complete yet was asked for. A table there that is older, by more
# than clocks are apart, was not made for it: its region was forgotten, and came back with what it had.
REPLICA_ADDED = "replica_added"
ADDED_CLOCKS_MS = 60_000
REPLICA_TROUBLES = "replica_troubles"  # {region: for people}: why it is not made, or not gone
TO_COMPARE = "to_compare"  # {region: revision}: members to compare with, since another one was dropped at that revision
SOURCED_MS = "sourced_ms"  # when replicas were last added from here
DISASSOCIATION_PROTECTION = "disassociation_protection"  # False: its replica may leave
# Those that replicas have in common, beside SETTINGS_CHANGED: throughput settings (router.api.throughput) as well.
SHARED_EXTRA = ("on_demand_max", "warm", "on_demand_since_ms", "table_class_updated_ms", OVERRIDES, CONFLICT_LOG)


def stream_consumer(label: str) -> str:
    """The name under which partitions keep how far a stream has been trimmed."""
    return STREAM_PREFIX + label


def kinesis_consumer(destination: str) -> str:
    """The name under which partitions keep the cursor of a Kinesis destination."""
    return KINESIS_PREFIX + destination


def replica_consumer(region: str) -> str:
    """The name under which the partitions of a global table keep the cursor of a destination region."""
    return REPLICA_PREFIX + region


class TableStatus(StrEnum):
    CREATING = "CREATING"
    UPDATING = "UPDATING"
    ACTIVE = "ACTIVE"
    DELETING = "DELETING"


class ReplicaStatus(StrEnum):
    CREATING = "CREATING"
    CREATION_FAILED = "CREATION_FAILED"  # for good: it can only be removed
    ACTIVE = "ACTIVE"
    DELETING = "DELETING"


REPLICA_HOLDING = (ReplicaStatus.CREATING, ReplicaStatus.ACTIVE)  # changes are kept until it has them


class LeavingStage(StrEnum):
    WAITING = "waiting"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class Leaving:
    """A replica that leaves its global table (node.catalog.leaving). `through_us` is the time of a version."""

    stage: LeavingStage
    through_us: int
    give_up_ms: int  # wall clock; 0: never
    deletes: bool = False  # its rows and table go once it has left: what was asked is DeleteTable

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Leaving:
        return Leaving(LeavingStage(data["stage"]), data["through_us"], data["give_up_ms"], data.get("deletes", False))


class TtlStatus(StrEnum):
    """Of a table's Time to Live. It is being changed until all partitions have applied the definition."""

    ENABLING = "ENABLING"
    ENABLED = "ENABLED"
    DISABLING = "DISABLING"
    DISABLED = "DISABLED"


class MappingState(StrEnum):
    """Of an event source mapping, as the Lambda API names them. One that is being changed settles once all partitions
    of its table have its bookmark, or no longer have it."""

    CREATING = "Creating"
    ENABLING = "Enabling"
    ENABLED = "Enabled"
    DISABLING = "Disabling"
    DISABLED = "Disabled"
    UPDATING = "Updating"
    DELETING = "Deleting"


class MemberState(StrEnum):
    """What a node of the region is for.

    ACTIVE     it holds replicas
    DRAINING   its replicas are to move to others
    DOWN       it has been silent for long: its replicas are rebuilt on other nodes of its zone, if there are any
    LEFT       it was removed
    """

    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    DOWN = "DOWN"
    LEFT = "LEFT"


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A node of the region. `format`: the newest of the streams that it is known to speak."""

    node: str
    zone: str
    state: MemberState = MemberState.ACTIVE
    format: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"zone": self.zone, "state": self.state.value, "format": self.format}

    @staticmethod
    def from_json(node: str, data: Mapping[str, Any]) -> MemberRecord:
        return MemberRecord(node, data["zone"], MemberState(data["state"]), data.get("format", 0))


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """A contiguous range [low, high) of the 64-bit hash space and the nodes that replicate it.

    `voters[0]` is the preferred leader. Ids are never used again; `epoch` grows by one at each split.

    While replicas move, `target` is what the voters shall be, in order, and `incoming` those of them that are no voters
    yet: they hold a replica that learns. The partition's leader drives its consensus there and reports the voters that
    came of it, with the log index of that configuration; `configuration` is the newest so reported (0: none ever was),
    `configuration_term` the term of what the log has there (0: it is not known).
    `number` is the catalog revision of the last decision about it: who knows of an older one does not act on it.
    """

    id: int
    epoch: int
    low: int
    high: int
    voters: tuple[str, ...]
    incoming: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    configuration: int = 0
    number: int = 0
    configuration_term: int = 0

    @property
    def holders(self) -> tuple[str, ...]:
        """The nodes that are to hold a replica."""
        return (*self.voters, *self.incoming)

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["low"], data["high"] = f"{self.low:x}", f"{self.high:x}"
        return data

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PartitionRecord:
        return PartitionRecord(
            data["id"],
            data["epoch"],
            int(data["low"], 16),
            int(data["high"], 16),
            tuple(data["voters"]),
            tuple(data.get("incoming", ())),
            tuple(data.get("target", ())),
            data.get("configuration", 0),
            data.get("number", 0),
            data.get("configuration_term", 0),
        )


# The members of an IndexRecord that users decide: what a definition of an index has.
INDEX_DEFINITION = (
    "name",
    "is_global",
    "hash_keys",
    "range_keys",
    "projection",
    "included",
    "read_units",
    "write_units",
    "extra",
)


class IndexStatus(StrEnum):
    CREATING = "CREATING"
    UPDATING = "UPDATING"
    ACTIVE = "ACTIVE"
    DELETING = "DELETING"


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """A secondary index of a table.

    A local one lives in the partitions of its table, in `slot` 1 to 5 of their storage, and has no partitions of its
    own. A global one has partitions by the hash of its own key, fed from those of the table. While it is `backfilling`,
    `filled` lists the table's partitions whose rows it has; it serves queries once ACTIVE. `revision` is the catalog
    revision at which it was made: an index that was deleted and made again is another one.
    """

    name: str
    is_global: bool
    hash_keys: tuple[tuple[str, str], ...]  # (attribute name, type S, N or B), in order
    range_keys: tuple[tuple[str, str], ...]
    projection: str  # ALL, KEYS_ONLY or INCLUDE
    included: tuple[str, ...] = ()
    slot: int = 0
    status: IndexStatus = IndexStatus.ACTIVE
    backfilling: bool = False
    filled: tuple[int, ...] = ()
    revision: int = 0
    read_units: int = 0
    write_units: int = 0
    partitions: tuple[PartitionRecord, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def partition_of(self, hash64: int) -> PartitionRecord:
        """The partition that owns a hash of the index's key."""
        return self.partitions[bisect_right(self.partitions, hash64, key=_low) - 1]

    def definition(self) -> dict[str, Any]:
        """The part that users decide, JSON-compatible."""
        data = asdict(self)
        return {name: data[name] for name in INDEX_DEFINITION}

    @staticmethod
    def from_json(data: dict[str, Any]) -> IndexRecord:
        known = {name: value for name, value in data.items() if name in _INDEX_FIELDS}
        return IndexRecord(
            **{
                **known,
                "hash_keys": _pairs(data["hash_keys"]),
                "range_keys": _pairs(data["range_keys"]),
                "included": tuple(data.get("included", ())),
                "filled": tuple(data.get("filled", ())),
                "status": IndexStatus(data["status"]),
                "partitions": _partitions_from_json(data.get("partitions", ())),
            }
        )


@dataclass(frozen=True, slots=True)
class News:
    """A change of a global table's indexes, settings or Time to Live, made here at catalog `revision`, that `regions`
    are yet to take over. `change` has any of index_add, index_remove and settings, as UPDATE_TABLE takes them, or ttl,
    as SET_TTL does."""

    revision: int
    change: dict[str, Any]
    regions: tuple[str, ...]

    @staticmethod
    def from_json(data: dict[str, Any]) -> News:
        return News(data["revision"], data["change"], tuple(data["regions"]))


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A stream of a table. `label` is the time of its making, in milliseconds; no two of a table are alike."""

    label: str
    view: str  # StreamViewType
    created_ms: int
    ended_ms: int = 0  # 0: it goes on

    @staticmethod
    def from_json(data: dict[str, Any]) -> StreamRecord:
        return StreamRecord(data["label"], data["view"], data["created_ms"], data.get("ended_ms", 0))


class KinesisStatus(StrEnum):
    """DestinationStatus of a Kinesis data stream that gets a table's changes."""

    ENABLING = "ENABLING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    DISABLING = "DISABLING"
    DISABLED = "DISABLED"
    ENABLE_FAILED = "ENABLE_FAILED"


KINESIS_HOLDING = (KinesisStatus.ENABLING, KinesisStatus.ACTIVE, KinesisStatus.UPDATING)  # the feed is kept for it


@dataclass(frozen=True, slots=True)
class KinesisDestination:
    """A Kinesis data stream that gets, or got, a table's changes. It has another `id` each time it is enabled."""

    id: str
    stream_arn: str
    status: KinesisStatus
    precision: str  # ApproximateCreationDateTimePrecision
    changed_ms: int
    description: str = ""  # for people: why it is as it is

    @property
    def holds(self) -> bool:
        """Changes are kept until it has them."""
        return self.status in KINESIS_HOLDING

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KinesisDestination:
        return KinesisDestination(
            data["id"],
            data["stream_arn"],
            KinesisStatus(data["status"]),
            data["precision"],
            data["changed_ms"],
            data.get("description", ""),
        )


@dataclass(frozen=True, slots=True)
class TableRecord:
    """A table of one region.

    `revision` is the catalog revision of its last change of definition: the table is ACTIVE once every partition has
    applied that one. `streams` are those whose records may be read: the enabled one, and what was disabled less than
    STREAM_RETENTION_S ago; `bookmarks` the consumers that read them without holding them back. Where `stream_view` is
    set and the newest of `streams` has ended, or is not of `stream_label`, that stream is yet to begin.
    """

    name: str
    id: str
    status: TableStatus
    revision: int
    created_ms: int
    hash_key: str
    hash_type: str  # S, N or B
    range_key: str | None
    range_type: str | None
    billing_mode: str  # PROVISIONED or PAY_PER_REQUEST
    read_units: int
    write_units: int
    partitions: tuple[PartitionRecord, ...]
    replicas: dict[str, str] = field(default_factory=dict)  # region -> ReplicaStatus; own region included when global
    deletion_protection: bool = False
    table_class: str = "STANDARD"
    stream_view: str | None = None  # StreamViewType, None when off
    stream_label: str | None = None  # of the newest stream, also when it is off
    tags: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    indexes: tuple[IndexRecord, ...] = ()
    index_news: tuple[News, ...] = ()  # of indexes, and more since: the name is that of earlier records
    ttl_attribute: str | None = None  # None when off; still named while it is being disabled
    ttl_status: TtlStatus = TtlStatus.DISABLED
    ttl_changed_ms: int = 0  # when somebody asked for the last change
    streams: tuple[StreamRecord, ...] = ()  # oldest first
    bookmarks: tuple[str, ...] = ()
    kinesis: tuple[KinesisDestination, ...] = ()

    @property
    def expires_by(self) -> str:
        """The attribute that tells when items expire, "" when none does."""
        on = self.ttl_status in (TtlStatus.ENABLING, TtlStatus.ENABLED)
        return self.ttl_attribute or "" if on else ""

    @property
    def is_global(self) -> bool:
        return bool(self.replicas)

    @property
    def key_schema(self) -> KeySchema:
        """That of the table's items."""
        return KeySchema(self.hash_key, self.hash_type, self.range_key, self.range_type)

    @property
    def leaving(self) -> Leaving | None:
        """How its replica leaves the global table, None when it does not."""
        data = self.extra.get(LEAVING)
        return None if data is None else Leaving.from_json(data)

    @property
    def all_partitions(self) -> tuple[PartitionRecord, ...]:
        """Those of the table and those of its global indexes."""
        if not self.indexes:
            return self.partitions
        return (*self.partitions, *(partition for index in self.indexes for partition in index.partitions))

    def index(self, name: str) -> IndexRecord | None:
        return next((index for index in self.indexes if index.name == name), None)

    def index_definitions(self) -> list[dict[str, Any]]:
        """What CREATE_TABLE and ENSURE_REPLICA take for these indexes, without those that are going."""
        return [index.definition() for index in self.indexes if index.status is not IndexStatus.DELETING]

    def partition_of(self, hash64: int) -> PartitionRecord:
        """The partition that owns a hash. Partitions are sorted by `low` and cover the whole space."""
        return self.partitions[bisect_right(self.partitions, hash64, key=_low) - 1]

    def with_partition(self, changed: PartitionRecord) -> TableRecord:
        """With another record for one of all its partitions. The definition, and so the revision, is the same."""
        indexes = tuple(
            replace(index, partitions=_with(index.partitions, changed)) if index.partitions else index
            for index in self.indexes
        )
        return replace(self, partitions=_with(self.partitions, changed), indexes=indexes)

    def to_json(self) -> dict[str, Any]:
        """JSON-compatible. Hash bounds as hexadecimal text: 2^64 is more than most JSON readers take for a number."""
        data = asdict(self)
        for owner in (data, *data["indexes"]):
            for partition in owner["partitions"]:
                partition["low"], partition["high"] = f"{partition['low']:x}", f"{partition['high']:x}"
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> TableRecord:
        known = {name: value for name, value in data.items() if name in _TABLE_FIELDS}
        return TableRecord(
            **{
                **known,
                "status": TableStatus(data["status"]),
                "partitions": _partitions_from_json(data["partitions"]),
                "indexes": tuple(IndexRecord.from_json(index) for index in data.get("indexes", ())),
                "index_news": tuple(News.from_json(news) for news in data.get("index_news", ())),
                "streams": tuple(StreamRecord.from_json(stream) for stream in data.get("streams", ())),
                "bookmarks": tuple(data.get("bookmarks", ())),
                "kinesis": tuple(KinesisDestination.from_json(one) for one in data.get("kinesis", ())),
                "ttl_status": TtlStatus(data.get("ttl_status", TtlStatus.DISABLED)),
            }
        )


def merged_members(own: str, current: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The members of region `own`'s record after another region asked for `wanted`.

    Members are only added, never taken off or set back. A member that is new to a table with rows is CREATING until
    this region has shipped its own; to a table that is only being made, all others are ACTIVE: it has nothing to
    ship. The region's own status follows the one who fills it, to ACTIVE and never back.
    """
    merged = dict(current)
    for region, status in wanted.items():
        if region == own:
            if merged.get(own) != ReplicaStatus.ACTIVE:
                merged[own] = str(status)
        elif region not in merged:
            merged[region] = ReplicaStatus.CREATING.value if current else ReplicaStatus.ACTIVE.value
    return merged


def _with(partitions: Iterable[PartitionRecord], changed: PartitionRecord) -> tuple[PartitionRecord, ...]:
    return tuple(changed if partition.id == changed.id else partition for partition in partitions)


def _low(partition: PartitionRecord) -> int:
    return partition.low


def _partitions_from_json(partitions: Iterable[dict[str, Any]]) -> tuple[PartitionRecord, ...]:
    return tuple(PartitionRecord.from_json(partition) for partition in partitions)


def _pairs(pairs: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, key_type) for name, key_type in pairs)


_TABLE_FIELDS = frozenset(TableRecord.__dataclass_fields__)
_INDEX_FIELDS = frozenset(IndexRecord.__dataclass_fields__)
