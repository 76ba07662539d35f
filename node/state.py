"""The replicated state of one partition beside its rows: what applying the log has led to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from geodyne.catalog import (
    CONFLICT_LOG,
    INDEX_CONSUMER,
    KINESIS_PREFIX,
    REPLICA_HOLDING,
    STREAM_PREFIX,
    TRIGGER_OLDEST_PREFIX,
    IndexStatus,
    TableRecord,
    kinesis_consumer,
    replica_consumer,
    stream_consumer,
)
from geodyne.messages import Change
from geodyne.model import version as versions
from geodyne.model.indexkeys import IndexSchema
from geodyne.model.keys import KeySchema
from geodyne.wire import log_v1_pb2 as log
from geodyne.writemodes import write_mode
from node.engine.writemode import WriteRule, rule_from_wire, rule_of, rule_to_wire
from node.feed.records import stamped
from node.feed.shards import Shard, Shards, StreamDefinition, defined, rolled, trimmed
from node.raft.configuration import Configuration
from node.storage.port import Row

SEQUENCE_SHIFT = 16  # a change record's sequence is its entry's index, shifted, plus its position in the entry


class IndexDefinition(NamedTuple):
    """An index as the partitions of its table see it: local (`slot` 1 to 5) or global (0)."""

    name: str
    revision: int
    slot: int
    schema: IndexSchema
    projection: str
    included: tuple[str, ...]


class Definition(NamedTuple):
    """What a partition logs and keeps for its table; changes only by a marker in the log.

    `indexes` and `key` are set in the partitions of a table, never in those of a global index. `consumers` hold the
    feed, `bookmarks` do not: what they have not passed may be trimmed."""

    revision: int = 0
    feed: bool = False
    old_images: bool = False
    tombstones: bool = False
    consumers: tuple[str, ...] = ()
    indexes: tuple[IndexDefinition, ...] = ()
    key: KeySchema | None = None
    streams: tuple[StreamDefinition, ...] = ()
    bookmarks: tuple[str, ...] = ()
    ttl: str = ""  # the attribute that tells when items expire; "": they do not
    conflicts: bool = False  # effects have bases, and name what lost to them (node.feed.conflicts)
    writes: WriteRule | None = None  # which writes of clients are taken; None: all

    @property
    def deletes_by(self) -> str:
        """`ttl`, but "" where the region must not write any item."""
        return "" if self.writes is not None and self.writes.closed else self.ttl

    @property
    def timed(self) -> bool:
        """The times of change records are told to users."""
        return bool(self.streams) or any(name.startswith(KINESIS_PREFIX) for name in self.consumers)

    @property
    def local_indexes(self) -> tuple[IndexDefinition, ...]:
        return tuple(index for index in self.indexes if index.slot)

    @property
    def global_indexes(self) -> tuple[IndexDefinition, ...]:
        return tuple(index for index in self.indexes if not index.slot)

    def to_wire(self) -> log.Definition:
        message = log.Definition(
            revision=self.revision,
            feed=self.feed,
            old_images=self.old_images,
            tombstones=self.tombstones,
            consumers=self.consumers,
            bookmarks=self.bookmarks,
            ttl=self.ttl,
            conflicts=self.conflicts,
        )
        for stream in self.streams:
            message.streams.add(label=stream.label, view=stream.view, ended=stream.ended)
        if self.writes is not None:
            rule_to_wire(self.writes, message.writes)
        if self.key is not None:
            _put_attributes(message.key, _key_pairs(self.key))
        for index in self.indexes:
            to = message.indexes.add(
                name=index.name,
                revision=index.revision,
                slot=index.slot,
                projection=index.projection,
                included=index.included,
            )
            _put_attributes(to.hash_keys, index.schema.hash_keys)
            _put_attributes(to.range_keys, index.schema.range_keys)
        return message

    @staticmethod
    def from_wire(message: log.Definition) -> Definition:
        key = _key_schema(_attributes(message.key)) if message.key else None
        indexes = tuple(
            IndexDefinition(
                index.name,
                index.revision,
                index.slot,
                IndexSchema(_attributes(index.hash_keys), _attributes(index.range_keys), key),
                index.projection,
                tuple(index.included),
            )
            for index in message.indexes
            if key is not None
        )
        return Definition(
            message.revision,
            message.feed,
            message.old_images,
            message.tombstones,
            tuple(message.consumers),
            indexes,
            key,
            tuple(StreamDefinition(stream.label, stream.view, stream.ended) for stream in message.streams),
            tuple(message.bookmarks),
            message.ttl,
            message.conflicts,
            rule_from_wire(message.writes) if message.HasField("writes") else None,
        )


def _put_attributes(to: Any, pairs: Iterable[tuple[str, str]]) -> None:
    for name, key_type in pairs:
        to.add(name=name, type=key_type)


def _attributes(messages: Iterable[log.KeyAttribute]) -> tuple[tuple[str, str], ...]:
    return tuple((message.name, message.type) for message in messages)


def _key_pairs(key: KeySchema) -> list[tuple[str, str]]:
    pairs = [(key.hash_name, key.hash_type)]
    if key.range_name is not None and key.range_type is not None:
        pairs.append((key.range_name, key.range_type))
    return pairs


def _key_schema(pairs: Sequence[tuple[str, str]]) -> KeySchema:
    return KeySchema(*pairs[0], *(pairs[1] if len(pairs) > 1 else (None, None)))


def definition_of(table: TableRecord, region: str) -> Definition:
    """What the partitions of a table must do, as the catalog has it."""
    key = table.key_schema
    indexes = tuple(
        IndexDefinition(
            index.name,
            index.revision,
            index.slot,
            IndexSchema(index.hash_keys, index.range_keys, key),
            index.projection,
            index.included,
        )
        for index in table.indexes
        if index.status is not IndexStatus.DELETING
    )
    consumers = [
        replica_consumer(name)
        for name, status in table.replicas.items()
        if name != region and status in REPLICA_HOLDING
    ]
    indexed = any(not index.slot for index in indexes)
    if indexed:
        consumers.append(INDEX_CONSUMER)
    streams = tuple(StreamDefinition(stream.label, stream.view, bool(stream.ended_ms)) for stream in table.streams)
    streaming = not all(stream.ended for stream in streams)
    destinations = [kinesis_consumer(destination.id) for destination in table.kinesis if destination.holds]
    consumers += destinations
    feed = streaming or bool(consumers)
    consumers += [stream_consumer(stream.label) for stream in streams]  # those that have ended hold what they had
    return Definition(
        revision=table.revision,
        feed=feed,
        old_images=indexed or streaming or bool(destinations),
        tombstones=table.is_global,
        consumers=tuple(sorted(consumers)),
        indexes=indexes,
        key=key,
        streams=streams,
        bookmarks=table.bookmarks,
        ttl=table.expires_by,
        conflicts=table.is_global and bool(table.extra.get(CONFLICT_LOG)),
        writes=rule_of(write_mode(table), region, tuple(sorted(table.replicas))) if table.is_global else None,
    )


def still_arrived(arrived: Mapping[str, int], definition: Definition) -> dict[str, int]:
    """Under a new definition: a region that comes back after it was removed has nothing of what it once had."""
    return {region: us for region, us in arrived.items() if replica_consumer(region) in definition.consumers}


def outdated(change: Change, prior: Row | None, arrived: Mapping[str, int]) -> bool:
    """Whether a change that arrives has lost already to the row that is here. Where there is none, and all that the
    change's region wrote up to then has been here, the item was deleted and its tombstone has been collected."""
    if prior is not None:
        return prior.version >= change.version
    return bool(arrived) and versions.time_us(change.version) <= arrived.get(versions.region(change.version), 0)


def index_definition(table: TableRecord) -> Definition:
    """What the partitions of a table's global indexes must do: hold rows, and nothing beyond."""
    return Definition(revision=table.revision)


class IndexSource(NamedTuple):
    """How far a partition of a global index is with one partition of its table: the newest batch it took (by `number`
    under the `term` of that partition's leader) and the newest change record it holds the outcome of."""

    term: int = 0
    number: int = 0
    sequence: int = 0


NO_SOURCE = IndexSource()


def put_source(to: Any, partition: int, source: IndexSource) -> None:
    to.add(source=partition, term=source.term, number=source.number, sequence=source.sequence)


def source_of(message: log.IndexSource) -> tuple[int, IndexSource]:
    return message.source, IndexSource(message.term, message.number, message.sequence)


def _shards_of(definition: Definition, stored: Iterable[log.Shard]) -> Shards:
    shards: dict[str, tuple[Shard, ...]] = {stream.label: () for stream in definition.streams}
    for one in stored:
        last = one.last if one.HasField("last") else None
        shards[one.label] += (Shard(one.opened_us, one.after, last, one.closed_us),)
    return shards


class GroupState:
    """Mutable only through applying entries. Equal on all replicas at equal `applied_index`."""

    __slots__ = (
        "applied_index",
        "applied_term",
        "arrived",
        "bytes",
        "catalog_revision",
        "configuration",
        "configuration_index",
        "cursors",
        "definition",
        "definition_wire",
        "epoch",
        "feed_floor",
        "feed_head",
        "feed_total",
        "feed_us",
        "items",
        "last_us",
        "safe_us",
        "shards",
        "sources",
    )

    def __init__(self, epoch: int = 1) -> None:
        self.applied_index = 0
        self.applied_term = 0
        self.last_us = 0
        self.definition = Definition()
        self.definition_wire = (self.definition, log.Definition())  # the last that was written: it seldom changes
        self.cursors: dict[str, int] = {}
        self.items = 0
        self.bytes = 0
        self.feed_head = 0
        self.feed_floor = 0
        self.feed_us = 0  # of the newest record
        self.feed_total = 0  # bytes of all records that there ever were
        self.shards: Shards = {}
        self.safe_us = 0  # what this region writes here after the entries that were applied has larger versions
        self.arrived: dict[str, int] = {}  # other regions: all that they wrote up to a time is here, or was
        self.catalog_revision = 0
        self.epoch = epoch
        self.sources: dict[int, IndexSource] = {}  # partitions of a global index only: by partition of the table
        self.configuration: Configuration | None = None  # of consensus; None: no entry has changed the first one
        self.configuration_index = 0  # of the entry that made it so

    def define(self, definition: Definition, wall_us: int = 0) -> None:
        """Apply a marker. A consumer that is new starts here; one that is gone no longer holds the feed."""
        if definition.timed and not self.definition.timed:
            self.feed_us = wall_us  # replicas of a version that kept no times may have disagreed about it
        self.shards = defined(self.shards, definition.streams, self.feed_head, wall_us) if definition.streams else {}
        self.arrived = still_arrived(self.arrived, definition)
        cursors = {name: self.cursors.get(name, self.feed_head) for name in definition.consumers if not self.lost(name)}
        for name in definition.bookmarks:
            cursors[name] = self.cursors.get(name, 0 if name.startswith(TRIGGER_OLDEST_PREFIX) else self.feed_head)
        self.cursors = cursors
        self.definition = definition

    def lost(self, consumer: str) -> bool:
        """Records were trimmed that a consumer had not passed: it has no cursor until it has caught up otherwise."""
        return consumer not in self.cursors and consumer in self.definition.consumers

    def lose(self, consumer: str, sequence: int) -> None:
        """The feed is to be trimmed up to a sequence: a consumer that has not passed it loses its place."""
        if self.cursors.get(consumer, sequence) < sequence:
            del self.cursors[consumer]

    def promise(self, us: int) -> None:
        """The leader has logged that all later versions of this region will be larger. Every later leader keeps it."""
        self.safe_us = max(self.safe_us, us)
        self.last_us = max(self.last_us, us)

    def fed(self, sequence: int, effect: bytes, wall_us: int) -> bytes:
        """The change record of a serialised effect, the newest one from now on."""
        self.feed_head = sequence
        self.feed_us = max(self.feed_us, wall_us)
        record = stamped(effect, self.feed_us, self.feed_total)
        self.feed_total += len(record)
        return record

    def advance(self, consumer: str, sequence: int, closed_us: int = 0) -> None:
        """Move a cursor, forwards. `closed_us`: shards of a stream that were closed by then go with their records."""
        known = self.cursors.get(consumer)
        if known is None:
            if not self.lost(consumer) or sequence < self.feed_floor:
                return
            known = self.feed_floor  # it has read all that is retained, or what it lacked from the rows
        self.cursors[consumer] = passed = max(known, min(sequence, self.feed_head))
        if closed_us and consumer.startswith(STREAM_PREFIX):
            self.shards = trimmed(self.shards, consumer.removeprefix(STREAM_PREFIX), passed, closed_us)

    def roll(self, label: str, wall_us: int) -> None:
        """Another shard of a stream begins here."""
        self.shards = rolled(self.shards, label, self.feed_head, wall_us)

    def trim_to(self) -> int | None:
        """Records up to here have been passed by every consumer that holds them; None when nothing new may go."""
        places = [self.cursors[name] for name in self.definition.consumers if name in self.cursors]
        passed = min(places, default=self.feed_head)
        if passed <= self.feed_floor:
            return None
        self.feed_floor = passed
        return passed

    def to_bytes(self) -> bytes:
        message = log.GroupState(
            applied_index=self.applied_index,
            applied_term=self.applied_term,
            last_us=self.last_us,
            items=self.items,
            bytes=self.bytes,
            feed_head=self.feed_head,
            feed_floor=self.feed_floor,
            catalog_revision=self.catalog_revision,
            epoch=self.epoch,
            feed_us=self.feed_us,
            feed_total=self.feed_total,
            safe_us=self.safe_us,
        )
        for region, us in self.arrived.items():
            message.arrived.add(region=region, us=us)
        for label, shards in self.shards.items():
            for opened_us, after, last, closed_us in shards:
                message.shards.add(label=label, opened_us=opened_us, after=after, last=last, closed_us=closed_us)
        if self.definition.revision:
            if self.definition_wire[0] is not self.definition:
                self.definition_wire = (self.definition, self.definition.to_wire())
            message.definition.CopyFrom(self.definition_wire[1])
        for consumer, sequence in self.cursors.items():
            message.cursors.add(consumer=consumer, sequence=sequence)
        for number, source in self.sources.items():
            put_source(message.sources, number, source)
        if (held := self.configuration) is not None:
            message.configuration.CopyFrom(
                log.Configuration(
                    voters=held.voters,
                    outgoing=held.outgoing,
                    learners=held.learners,
                    index=self.configuration_index,
                    number=held.number,
                )
            )
        data: bytes = message.SerializeToString()
        return data

    @staticmethod
    def from_bytes(data: bytes) -> GroupState:
        message = log.GroupState.FromString(data)
        state = GroupState(message.epoch)
        state.applied_index = message.applied_index
        state.applied_term = message.applied_term
        state.last_us = message.last_us
        state.definition = Definition.from_wire(message.definition)
        state.cursors = {cursor.consumer: cursor.sequence for cursor in message.cursors}
        state.items = message.items
        state.bytes = message.bytes
        state.feed_head = message.feed_head
        state.feed_floor = message.feed_floor
        state.feed_us = message.feed_us
        state.feed_total = message.feed_total
        state.safe_us = message.safe_us
        state.arrived = {mark.region: mark.us for mark in message.arrived}
        state.shards = _shards_of(state.definition, message.shards)
        state.catalog_revision = message.catalog_revision
        state.sources = dict(map(source_of, message.sources))
        if message.HasField("configuration"):
            held = message.configuration
            members = tuple(held.voters), tuple(held.outgoing), tuple(held.learners)
            state.configuration = Configuration(*members, held.number)
            state.configuration_index = held.index
        return state
