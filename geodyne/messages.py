"""The values that travel between routers, nodes and replicators.

One class per message, immutable, cheap to build (named tuples: a frozen dataclass costs four times as
much, and these are made for every request).  `geodyne.rpc.codec` turns them into the protobuf messages of
`proto/` and back; inside one process they are passed as they are.

Units: sizes in bytes, times in milliseconds unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

# An attribute value is DynamoDB JSON as parsed: {"S": "x"}, {"N": "1.5"}, {"L": [...]} ... in canonical form
# (geodyne.model.values): numbers normalised, binary as base64 text, exactly one type tag.
AttributeValue = dict[str, Any]
Item = dict[str, AttributeValue]

NO_NAMES: Mapping[str, str] = {}
NO_VALUES: Mapping[str, AttributeValue] = {}

METADATA_PARTITION = 0  # the metadata group: a group like any other, whose state is the catalog


# --- client (router, replicator) to node -----------------------------------------------------------------


class WriteId(NamedTuple):
    """Identity of a write, kept over resends, so that a resend takes effect once.

    `low` is the smallest sequence of this router and partition whose answer is still awaited: the node
    forgets the outcomes below it and refuses any such sequence that turns up late.
    """

    router: int  # random, new at each start of the router
    sequence: int
    low: int


class WriteKind(IntEnum):
    PUT = 1
    UPDATE = 2
    DELETE = 3
    CHECK = 4  # of a transaction: a condition on an item that is left as it is


class ReturnValues(IntEnum):
    NONE = 0
    ALL_OLD = 1
    UPDATED_OLD = 2
    ALL_NEW = 3
    UPDATED_NEW = 4


class Write(NamedTuple):
    """PutItem, UpdateItem or DeleteItem of one item; answered by Written, Refused, NotLeader or Moved."""

    partition: int
    epoch: int
    kind: WriteKind
    key: bytes  # geodyne.model.keys
    item: bytes  # PUT: the whole canonical item; UPDATE: its key attributes; DELETE: empty
    size: int  # DynamoDB size of `item`
    condition: str | None = None
    update: str | None = None
    names: Mapping[str, str] = NO_NAMES
    values: Mapping[str, AttributeValue] = NO_VALUES
    returns: ReturnValues = ReturnValues.NONE
    return_on_failure: bool = False  # ReturnValuesOnConditionCheckFailure=ALL_OLD
    capacity: bool = False  # the answer tells what the table's indexes cost (Written.index_writes)


class Get(NamedTuple):
    """Point read; answered by Found, NotLeader (strong only) or Moved."""

    partition: int
    epoch: int
    key: bytes
    strong: bool


class Range(NamedTuple):
    """One page of a Query or Scan inside one partition; answered by Page, NotLeader or Moved.

    Reads keys in [low, high), ascending or (reverse) descending, strictly beyond `after` when that is given.
    Stops after `limit` evaluated items (0: no limit) or once `max_bytes` of items have been evaluated; the
    item that reaches the bound still belongs to the page.

    `slot` other than 0 reads a local index of the table instead: keys are those of geodyne.model.indexkeys, items what
    the index keeps. With `fetch` each entry stands for the whole item of the table, which is what filter and projection
    then see; `Page.size` still counts the entries alone, `max_bytes` both.
    """

    partition: int
    epoch: int
    low: bytes
    high: bytes
    after: bytes | None
    reverse: bool
    limit: int
    max_bytes: int
    strong: bool
    filter: str | None = None
    projection: str | None = None
    names: Mapping[str, str] = NO_NAMES
    values: Mapping[str, AttributeValue] = NO_VALUES
    count_only: bool = False
    slot: int = 0
    fetch: bool = False


class Change(NamedTuple):
    """One version of one item, as replication carries it. `image` None is a tombstone.

    `version` is 8 bytes of big-endian hybrid logical time (microseconds) followed by the region's name:
    byte order is the last-writer-wins order. `base` is the version of the row that it replaced where it was made, b""
    where there was none, None when it is not known (node.feed.conflicts).
    """

    key: bytes
    version: bytes
    image: bytes | None
    size: int
    base: bytes | None = None


class ApplyChanges(NamedTuple):
    """Changes of another region, applied where newer; idempotent. Answered by Applied when committed."""

    partition: int
    epoch: int
    changes: tuple[Change, ...]


class IndexEntry(NamedTuple):
    """An entry of a global index as the change of an item leaves it. `image` None: it is no longer there.

    `sequence` is that of the change record; 0 for a row that a backfill read.
    """

    key: bytes  # geodyne.model.indexkeys
    sequence: int
    image: bytes | None
    size: int


class ApplyIndex(NamedTuple):
    """What a partition of a table has for a partition of one of its global indexes; answered by Applied when committed.

    `term` is that of the leader of partition `source`; `number` grows by one with each batch that it sends there, and
    a batch that is sent again keeps it. All entries of one change travel in one batch. Refused with INDEX_FENCED
    when a later leader has sent something.
    """

    partition: int
    epoch: int
    source: int
    term: int
    number: int
    entries: tuple[IndexEntry, ...]


INDEX_FENCED = "IndexFenced"  # as `Refused.code`: never told to a user


class ReadRows(NamedTuple):
    """Raw rows in key order, tombstones included, for backfill and verification; answered by Rows.

    `strong` reads at the leader; `after` excludes everything up to and including that key.
    """

    partition: int
    epoch: int
    after: bytes
    max_bytes: int
    strong: bool = True


DIGEST_BYTES = 16
DIGEST_MODULUS = 1 << 8 * DIGEST_BYTES  # of sums of digests, which stand for the rows of a range


class RowDigest(NamedTuple):
    """A row without its value: `digest` is of key, version and image together, b"" for a tombstone."""

    key: bytes
    version: bytes
    digest: bytes


class DigestRows(NamedTuple):
    """What the first items of [low, high) come to, for comparing regions; answered by Digested at the leader.

    With `listed` row by row, tombstones included. Only to nodes that speak stream format 5.
    """

    partition: int
    epoch: int
    low: bytes
    high: bytes
    listed: bool = False
    strong: bool = True


class Renew(NamedTuple):
    """Write rows, images and tombstones, as they are, under new versions of this region: those whose version is still
    the named one. Answered by Applied with their number. Only to nodes that speak stream format 5."""

    partition: int
    epoch: int
    rows: tuple[RowDigest, ...]


class Prepare(NamedTuple):
    """The part of a transaction that falls to one partition: all of it or nothing.

    Conditions and updates are evaluated against the newest images, and what comes of them is logged and kept under the
    transaction's name until Finish: the items are locked meanwhile. With `commit` the transaction has no other part and
    takes effect at once. Answered by Prepared, PrepareRefused or Refused (TransactionInProgressException,
    IdempotentParameterMismatchException).

    `transaction` names it (16 bytes, from the client's token when there is one); `attempt` tells the tries to carry out
    one transaction apart, and is kept over resends; `digest` is that of the request. `partition` and `epoch` of the
    items are not read.
    """

    partition: int
    epoch: int
    transaction: bytes
    attempt: int
    digest: bytes
    items: tuple[Write, ...]
    commit: bool = False


class Finish(NamedTuple):
    """The end of a prepared transaction, as its ledger has it: the images take effect, or are let go of. Answered by
    Applied(1), or Applied(0) where nothing is prepared under that name (any more)."""

    partition: int
    epoch: int
    transaction: bytes
    attempt: int
    commit: bool


class ReadTogether(NamedTuple):
    """The images of some items of one partition at one moment, with what tells whether they have changed since;
    answered by Images at the leader."""

    partition: int
    epoch: int
    keys: tuple[bytes, ...]


FROM_COMMITTED = -1  # as `after` of a read: the consumer's committed cursor, else the oldest record retained
FROM_LATEST = -2  # as `ReadStream.after`: the newest record


class ReadFeed(NamedTuple):
    """Change records after cursor `after`, waiting up to `wait_ms` for the first; answered by FeedPage.

    `origin` restricts the answer to changes whose version was made in that region ("" for all); the cursor
    moves past the others. With `safe_us` other than 0 a larger `FeedPage.safe_us` is worth an answer as well.
    """

    partition: int
    epoch: int
    consumer: str
    after: int
    max_bytes: int
    wait_ms: int
    origin: str = ""
    safe_us: int = 0


class ListShards(NamedTuple):
    """The shards of a table's stream in one partition; answered by Shards, or Refused (ResourceNotFoundException)."""

    partition: int
    epoch: int
    label: str


class ReadStream(NamedTuple):
    """Records of a table's stream after position `after`, waiting up to `wait_ms` for the first; answered by StreamPage
    at the leader. What changed nothing is left out.

    `shard` is the `opened_us` of a shard, 0 for all shards of the stream in the partition, one after the other. `after`
    may also be FROM_COMMITTED (the bookmark `consumer`) or FROM_LATEST. With `since_us` nothing is answered that was
    written before that time. `limit` 0 asks for a position only. Without a `label` what is held for `consumer` is read,
    which is no bookmark then. Refused with ResourceNotFoundException when there is no such stream, shard or consumer,
    TrimmedDataAccessException when there was such a shard.
    """

    partition: int
    epoch: int
    label: str
    shard: int
    after: int
    limit: int
    max_bytes: int
    wait_ms: int = 0
    since_us: int = 0
    consumer: str = ""


class AdvanceCursor(NamedTuple):
    """Commit a consumer's cursor in the partition's own log; answered by Applied.

    With `stable_us` it moves nothing (and `sequence` is 0, so that an older node moves nothing either), but tells what
    has arrived: everything that was written up to then in any region is in every region, and per other region, up to
    when everything that it wrote is here. Tombstones are collected by it. Times of versions, in microseconds.
    """

    partition: int
    epoch: int
    consumer: str
    sequence: int
    stable_us: int = 0
    arrived: tuple[tuple[str, int], ...] = ()


class Control(NamedTuple):
    """A control-plane operation, evaluated by the leader of the metadata group; answered by ControlDone or Refused.

    `operation` is one of geodyne.catalog.ControlOperation; `body` is JSON-compatible.
    """

    operation: str
    body: dict[str, Any]


class Watch(NamedTuple):
    """Wait (up to `wait_ms`) until this node's catalog is newer than `revision` or the set of partitions
    that it leads is newer than `leads_version`, or its counts of items are not those of `counts_version`; answered by
    Watched."""

    revision: int
    leads_version: int
    wait_ms: int
    counts_version: int = -1  # -1: counts are not wanted; 0: none are known


Call = (
    Write
    | Get
    | Range
    | ApplyChanges
    | ApplyIndex
    | ReadRows
    | DigestRows
    | Renew
    | ReadFeed
    | ListShards
    | ReadStream
    | AdvanceCursor
    | Control
    | Watch
    | Prepare
    | Finish
    | ReadTogether
)


class Request(NamedTuple):
    """A call on a stream. `id` is unique on its stream; `timeout_ms` is what is left of the caller's deadline."""

    id: int
    call: Call
    write_id: WriteId | None
    timeout_ms: int
    request_id: str = ""  # x-amzn-RequestId, for the logs of all parts


# --- node to client -------------------------------------------------------------------------------------


class Written(NamedTuple):
    """The write is durable on a majority. Sizes are DynamoDB item sizes, 0 for an absent item.

    `index_writes` are the write units of each index that the write touched, when `Write.capacity` asked for them;
    `collection_bytes` the size of the item collection after the write, of a table that has local indexes.
    """

    size_before: int
    size_after: int
    attributes: bytes | None = None  # JSON object as ReturnValues asks
    index_writes: tuple[tuple[str, int], ...] = ()
    collection_bytes: int = -1  # -1: not known


class Prepared(NamedTuple):
    """The part is prepared (or, with Prepare.commit, done). `replayed`: it had been done by an earlier attempt; the
    outcomes are those of that one."""

    outcomes: tuple[Written, ...]
    replayed: bool = False


class PrepareRefused(NamedTuple):
    """Nothing was prepared. A reason for each item in order, None for one that is not to blame."""

    reasons: tuple[Refused | None, ...]


class Image(NamedTuple):
    """`stamp` differs whenever the item may have changed. `locked`: a transaction is going to write it."""

    item: bytes | None
    size: int
    stamp: bytes
    locked: bool


class Images(NamedTuple):
    images: tuple[Image, ...]


class Found(NamedTuple):
    item: bytes | None
    size: int


class Page(NamedTuple):
    items: tuple[bytes, ...]
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody needs here
    scanned: int
    size: int  # sum of the evaluated items' sizes, before filter and projection
    last_key: bytes | None  # None: the range is exhausted
    fetched_blocks: int = 0  # whole items read besides the entries of a local index: 4 KB units, each rounded up


class Applied(NamedTuple):
    applied: int  # how many of the changes were newer than what was stored


class Rows(NamedTuple):
    rows: tuple[Change, ...]
    last_key: bytes | None  # None: the partition is exhausted


class Digested(NamedTuple):
    """`digest` is the sum of the digests of `rows` live rows, modulo 2^128, so that it does not depend on how the range
    was cut; `last_key` None: the range is exhausted."""

    rows: int
    digest: bytes
    last_key: bytes | None
    listed: tuple[RowDigest, ...] = ()


class FeedRecord(NamedTuple):
    """`wall_us`: the leader's clock at the change, never before the last record's; `expired`: its time was up."""

    sequence: int
    change: Change
    old_image: bytes | None  # this, and that of `change`: empty in a StreamPage whose stream does not show it
    wall_us: int = 0
    expired: bool = False
    old_size: int = -1  # of the item that `old_image` shows; -1: not known


class FeedPage(NamedTuple):
    records: tuple[FeedRecord, ...]
    next: int  # the cursor after these records
    head: int  # the newest sequence of the partition
    trimmed: bool  # the cursor lies before what is retained: resynchronise
    # Of a page that reaches the head: what the region writes in the partition beyond it has larger versions (µs), but
    # for items that expire, whose deletions are told late. 0: not known.
    safe_us: int = 0
    revision: int = 0  # likewise: of the definition that is in force after these records


class ShardSpan(NamedTuple):
    """A shard holds the records with after < sequence <= last; it is open while `last` is None. `opened_us` is a whole
    number of milliseconds and names the shard within its partition: a later one's is larger."""

    opened_us: int
    after: int
    last: int | None


class Shards(NamedTuple):
    """Oldest first. What lies at or before `floor` has been trimmed."""

    shards: tuple[ShardSpan, ...]
    floor: int


class StreamPage(NamedTuple):
    """`next` is the position after these records and what was left out. `closed`: the shard has ended, and `next` is at
    its end. `trimmed`: the position lies before what is retained, which begins after `next`."""

    records: tuple[FeedRecord, ...]
    next: int
    closed: bool
    trimmed: bool


class ControlDone(NamedTuple):
    revision: int
    body: dict[str, Any]


class Count(NamedTuple):
    """Items in a partition and their bytes; with a `slot`, entries of a local index in it."""

    partition: int
    slot: int
    items: int
    bytes: int


class Watched(NamedTuple):
    """`records` are the catalog records that changed since the revision asked for (`None` value: removed), or
    all of them when `full`. `leads` are the partitions this node leads, with their terms; `counts` those of them that
    changed since `Watch.counts_version`."""

    revision: int
    full: bool
    records: tuple[tuple[str, dict[str, Any] | None], ...]
    leads_version: int
    leads: tuple[tuple[int, int], ...]
    counts_version: int = 0
    counts: tuple[Count, ...] = ()


class Refused(NamedTuple):
    """The call had no effect. `code` is a name of the error catalogue (geodyne.errors)."""

    code: str
    message: str
    item: bytes | None = None
    size: int = 0  # of the item that failed the condition, for consumed capacity


class NotLeader(NamedTuple):
    """No effect; ask `leader` ("" when unknown)."""

    partition: int
    leader: str


class Moved(NamedTuple):
    """No effect: the partition is not here or has another epoch. The catalog at `revision` or later knows."""

    partition: int
    revision: int


class Unknown(NamedTuple):
    """The outcome of the write is not known (leadership was lost before commit). Resend under the same WriteId."""

    partition: int
    leader: str


class Busy(NamedTuple):
    """No effect: a bounded queue of the node is full, or it cannot serve this just now. Retry later."""

    reason: str


Answer = (
    Written
    | Prepared
    | PrepareRefused
    | Images
    | Found
    | Page
    | Applied
    | Rows
    | Digested
    | FeedPage
    | Shards
    | StreamPage
    | ControlDone
    | Watched
    | Refused
    | NotLeader
    | Moved
    | Unknown
    | Busy
)


class Response(NamedTuple):
    id: int
    answer: Answer
