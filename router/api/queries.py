"""Query and Scan: one page of a table or of one of its indexes, in key order.

A Query's items have one partition key, so one partition answers it.  A Scan walks the partitions in the order of their
hashes, within its segment's slice of the hash space, until a page is full, the limit is reached or the slice is
exhausted.  A page that ends because of Limit has a LastEvaluatedKey even when nothing follows, as in the service.

A global index has partitions of its own, which hold what it projects; a local one lies in those of its table, which can
fetch the rest of an item.
"""

from __future__ import annotations

from typing import NamedTuple

from geodyne.catalog import HASH_SPACE, IndexStatus, PartitionRecord
from geodyne.errors import ApiError, validation
from geodyne.expressions import (
    check_filter_use,
    condition_attributes,
    index_condition,
    key_condition,
    projected_attributes,
)
from geodyne.limits import PAGE_BYTES, READ_UNIT_BYTES, SCAN_SEGMENTS_MAX
from geodyne.messages import Call, Item, Page, Range
from geodyne.model.indexkeys import decode_index_key, encode_index_key, index_prefix, index_range
from geodyne.model.keys import KEY_MISMATCH, decode_key, encode_key, fits_schema, hash_bound, prefix_of
from geodyne.model.ranges import key_range
from geodyne.model.values import canonical_item, dumps
from router.api.answers import capacity_member, list_of, members_answer
from router.api.capacity import Units, fetched_units, read_units
from router.api.checks import Checked, check_request
from router.api.context import Context
from router.api.dispatch import call_partition, unexpected
from router.api.legacy import Translated, translate_read
from router.api.parameters import Body, check_parameters, parameters
from router.api.refusals import INVALID
from router.api.shapes import validator
from router.api.tablerecords import Index, Place, Table, no_index, not_found

_QUERY = parameters(
    expressions=["ProjectionExpression", "FilterExpression", "KeyConditionExpression"],
    legacy=["AttributesToGet", "QueryFilter", "ConditionalOperator", "KeyConditions"],
)
_SCAN = parameters(
    expressions=["ProjectionExpression", "FilterExpression"],
    legacy=["AttributesToGet", "ScanFilter", "ConditionalOperator"],
)

_check_query = validator("Query")
_check_scan = validator("Scan")

_INVALID_START = "The provided starting key is invalid"


class _Texts(NamedTuple):
    """The expressions of a request, its own or those its legacy parameters were translated to.

    `keys` are KeyConditions beside expressions: their translation shares no placeholders with these.
    """

    key_condition: str | None
    filter: str | None
    projection: str | None
    translated: Translated | None = None
    keys: Translated | None = None


class _Wanted(NamedTuple):
    """What a request wants of each page that a partition reads for it."""

    low: bytes
    high: bytes
    reverse: bool
    strong: bool
    filter: str | None
    projection: str | None
    checked: Checked
    count_only: bool
    slot: int
    fetch: bool


async def query(body: Body, context: Context, *, filters_keys: bool = False) -> bytes:
    """Query. `filters_keys`: the filter may name key attributes, as in PartiQL. Raises ApiError."""
    _check_query(body)
    legacy = check_parameters(body, _QUERY)
    count_only = _check_select(body)
    texts = _texts(body, "QueryFilter", legacy=legacy)
    if texts.key_condition is None and texts.keys is None:
        raise validation(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
        )
    start = _start_key(body)
    table = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    checked = check_request(
        body, None, key_condition=texts.key_condition, filter=texts.filter, projection=texts.projection,
        translated=texts.translated,
    )  # fmt: skip
    if table is None or not table.serves:
        raise not_found()
    place = table if body.get("IndexName") is None else _index(body, table)
    if checked.filter is not None and not filters_keys:
        parameter = "Filter Expression" if texts.translated is None else "QueryFilter"
        check_filter_use(checked.filter, checked.names, place.key_names, parameter)
    low, high = _key_range(place, checked if texts.keys is None else texts.keys.checked)
    slot, fetch = 0, False
    if not isinstance(place, Table):
        slot, fetch = _reading(body, place, checked)
        _check_filter_is_kept(place, checked)
    after = None if start is None else _query_start(place, start, low, high)
    wanted = _Wanted(
        low, high, body.get("ScanIndexForward") is False, body.get("ConsistentRead") is True,
        texts.filter, texts.projection, checked, count_only, slot, fetch,
    )  # fmt: skip
    limit = int(body.get("Limit") or 0)
    page, _ = await _read(context, place, wanted, (low, after, limit, PAGE_BYTES))
    return _page_answer(body, place, page, strong=wanted.strong)


async def scan(body: Body, context: Context) -> bytes:
    """Scan, of the whole table or index or of one segment. Raises ApiError."""
    _check_scan(body)
    legacy = check_parameters(body, _SCAN)
    count_only = _check_select(body)
    segment, segments = _segment(body)
    texts = _texts(body, "ScanFilter", legacy=legacy)
    start = _start_key(body)
    table = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    checked = check_request(
        body, None, key_condition=texts.key_condition, filter=texts.filter, projection=texts.projection,
        translated=texts.translated,
    )  # fmt: skip
    if table is None or not table.serves:
        raise not_found()
    place = table if body.get("IndexName") is None else _index(body, table)
    slot, fetch = (0, False) if isinstance(place, Table) else _reading(body, place, checked)
    low, high = _slice_keys(HASH_SPACE * segment // segments, HASH_SPACE * (segment + 1) // segments)
    after = None if start is None else _scan_start(place, start, (low, high), (segment, segments))
    wanted = _Wanted(
        low, high, False, body.get("ConsistentRead") is True,
        texts.filter, texts.projection, checked, count_only, slot, fetch,
    )  # fmt: skip
    page = await _scan_pages(context, place, wanted, after, int(body.get("Limit") or 0))
    return _page_answer(body, place, page, strong=wanted.strong)


# --- parameters -----------------------------------------------------------------------------------------


def _check_select(body: Body) -> bool:
    """Whether only a count is wanted. Raises ValidationException for a Select that contradicts the projection."""
    select = body.get("Select")
    if select is None:
        return False
    given = next((name for name in ("AttributesToGet", "ProjectionExpression") if body.get(name) is not None), None)
    if select == "ALL_PROJECTED_ATTRIBUTES" and body.get("IndexName") is None:
        raise validation(f"{INVALID}ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName")
    if select == "SPECIFIC_ATTRIBUTES":
        if given is None:
            raise validation(
                f"{INVALID}Must specify the AttributesToGet or ProjectionExpression when choosing to get "
                "SPECIFIC_ATTRIBUTES"
            )
        return False
    if given is not None:
        what = "only the Count" if select == "COUNT" else select
        raise validation(f"Cannot specify the {given} when choosing to get {what}")
    return bool(select == "COUNT")


def _texts(body: Body, filter_name: str, *, legacy: bool) -> _Texts:
    if legacy:
        translated = translate_read(body, filter_name)
        filter_text, projection = body.get("FilterExpression"), body.get("ProjectionExpression")
        if filter_text is not None or projection is not None:
            return _Texts(None, filter_text, projection, keys=translated)
        return _Texts(translated.key_condition, translated.filter, translated.projection, translated)
    return _Texts(body.get("KeyConditionExpression"), body.get("FilterExpression"), body.get("ProjectionExpression"))


def _segment(body: Body) -> tuple[int, int]:
    segment, segments = body.get("Segment"), body.get("TotalSegments")
    if segment is None and segments is None:
        return 0, 1
    if segment is None:
        raise validation(
            "The Segment parameter is required but was not present in the request when parameter TotalSegments is "
            "present"
        )
    if segments is None:
        raise validation(
            "The TotalSegments parameter is required but was not present in the request when Segment parameter is "
            "present"
        )
    segment, segments = int(segment), int(segments)
    if segments > SCAN_SEGMENTS_MAX or segment >= segments:
        raise validation(
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
            f"Segment: {segment} is not less than TotalSegments: {segments}"
        )
    return segment, segments


def _start_key(body: Body) -> Item | None:
    start = body.get("ExclusiveStartKey")
    if start is None:
        return None
    try:
        key, _ = canonical_item(start)
    except ApiError as error:
        if error.kind.code != "ValidationException":
            raise
        raise validation(f"{_INVALID_START}: {error.message}") from None
    return key


def _encode_start(place: Place, start: Item, mismatch: str) -> bytes:
    """The encoded start key; `mismatch` is what is said of one that does not fit the key schema."""
    if isinstance(place, Index):
        return _encode_index_start(place, start, mismatch)
    if not fits_schema(place.schema, start):
        raise validation(mismatch)
    try:
        return encode_key(place.schema, start, for_item=False)
    except ApiError as error:
        raise validation(f"{_INVALID_START}: {error.message}") from None


def _encode_index_start(index: Index, start: Item, mismatch: str) -> bytes:
    """The start key of an index has the attributes of its key and those of the table's, and no others."""
    schema = index.schema
    item_key = {name: start[name] for name in schema.table.names if name in start}
    if len(start) != len(schema.names) or not fits_schema(schema.table, item_key):
        raise validation(mismatch)
    try:
        key = encode_index_key(schema, start, encode_key(schema.table, item_key, for_item=False))
    except ApiError as error:
        raise validation(f"{_INVALID_START}: {error.message}") from None
    if key is None:
        raise validation(mismatch)
    return key


def _query_start(place: Place, start: Item, low: bytes, high: bytes) -> bytes:
    """The encoded start key, which must lie within what the query asks for, both in hash and in sort key."""
    key = _encode_start(place, start, _INVALID_START)
    if low <= key < high:
        return key
    if isinstance(place, Table):
        prefix = prefix_of(place.schema, start[place.record.hash_key])
    else:
        prefix = index_prefix(place.schema, [start[name] for name, _ in place.schema.hash_keys])
    if low.startswith(prefix):
        raise validation("The provided starting key does not match the range key predicate")
    raise validation("The provided starting key is outside query boundaries based on provided conditions")


def _scan_start(place: Place, start: Item, bounds: tuple[bytes, bytes], segment: tuple[int, int]) -> bytes:
    key = _encode_start(place, start, f"{_INVALID_START}: {KEY_MISMATCH}")
    if not bounds[0] <= key < bounds[1]:
        raise validation(
            f"{_INVALID_START}: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. "
            f"TotalSegments: {segment[1]} Segment: {segment[0]}"
        )
    return key


# --- where to read --------------------------------------------------------------------------------------


def _index(body: Body, table: Table) -> Index:
    """The index that the request names, if that can be read."""
    name = body["IndexName"]
    index = table.indexes.get(name)
    if index is None or index.record.status is IndexStatus.DELETING:
        raise no_index(name)
    if index.record.is_global:
        if body.get("ConsistentRead") is True:
            raise validation("Consistent reads are not supported on global secondary indexes")
        if index.record.status is IndexStatus.CREATING:
            raise validation(f"Cannot read from backfilling global secondary index: {name}")
    return index


def _key_range(place: Place, checked: Checked) -> tuple[bytes, bytes]:
    tree = checked.key_condition
    assert tree is not None
    if isinstance(place, Table):
        return key_range(place.schema, key_condition(tree, checked.names, checked.values, place.schema))
    hash_values, on_range = index_condition(tree, checked.names, checked.values, place.schema)
    return index_range(place.schema, hash_values, on_range)


def _reading(body: Body, place: Index, checked: Checked) -> tuple[int, bool]:
    """The slot to read and whether to fetch whole items for what a local index does not keep.

    Raises ValidationException for what a global index does not keep: it cannot fetch."""
    index = place.record
    everything = body.get("Select") == "ALL_ATTRIBUTES"
    named = [] if checked.projection is None else projected_attributes(checked.projection, checked.names)
    if index.is_global:
        if everything and place.kept is not None:
            raise validation(
                f"{INVALID}Select type ALL_ATTRIBUTES is not supported for global secondary index {index.name} "
                "because its projection type is not ALL"
            )
        missing = place.lacks(named)
        if missing:
            raise validation(f"{INVALID}Global secondary index {index.name} does not project [{', '.join(missing)}]")
        return 0, False
    if checked.filter is not None:
        named += condition_attributes(checked.filter, checked.names)
    return index.slot, (everything and place.kept is not None) or bool(place.lacks(named))


def _check_filter_is_kept(index: Index, checked: Checked) -> None:
    """Raises ApiError for a Query's filter on what a global index does not keep; a Scan's finds it missing."""
    if checked.filter is None or not index.record.is_global:
        return
    missing = index.lacks(condition_attributes(checked.filter, checked.names))
    if missing:
        raise validation(
            f"{INVALID}Secondary index {index.record.name} does not project one or more filter attributes: "
            f"[{', '.join(missing)}]"
        )


# --- reading --------------------------------------------------------------------------------------------


def _slice_keys(low: int, high: int) -> tuple[bytes, bytes]:
    """The keys whose hash lies in [low, high)."""
    return hash_bound(low), hash_bound(high)


async def _read(
    context: Context, place: Place, wanted: _Wanted, part: tuple[bytes, bytes | None, int, int]
) -> tuple[Page, bytes]:
    """One partition's page, and where that partition's keys end. `part` is (a key of the partition, after, limit,
    bytes). The bounds are those of the partition that is asked in the end, should it have split on the way."""
    key, after, limit, max_bytes = part
    end = b""

    def call_of(partition: PartitionRecord) -> Call:
        nonlocal end
        low, end = _slice_keys(partition.low, partition.high)
        return Range(
            partition.id, partition.epoch, max(wanted.low, low), min(wanted.high, end), after, wanted.reverse,
            limit, max_bytes, wanted.strong, wanted.filter, wanted.projection,
            wanted.checked.names, wanted.checked.values, wanted.count_only, wanted.slot, wanted.fetch,
        )  # fmt: skip

    page = await call_partition(context, place, key, call_of, context.settings.read_timeout_ms)
    if type(page) is not Page:
        raise unexpected(page)
    return page, end


async def _scan_pages(context: Context, place: Place, wanted: _Wanted, after: bytes | None, limit: int) -> Page:
    """One page over as many partitions as it takes. The table is looked up anew for each: it may split meanwhile."""
    items: list[bytes] = []
    count = scanned = size = blocks = 0
    position = wanted.low if after is None else after
    while True:
        rest = limit - scanned if limit else 0
        room = PAGE_BYTES - size - blocks * READ_UNIT_BYTES
        page, end = await _read(context, place, wanted, (position, after, rest, room))
        items += page.items
        count, scanned, size = count + page.count, scanned + page.scanned, size + page.size
        blocks += page.fetched_blocks
        if page.last_key is not None or end >= wanted.high:
            return Page(tuple(items), count, scanned, size, page.last_key, blocks)
        position, after = end, None
        place = place.renewed(context.tables, context.region_client.catalog.tables)


def _page_answer(body: Body, place: Place, page: Page, *, strong: bool) -> bytes:
    detail = body.get("ReturnConsumedCapacity")
    members = [
        b"" if body.get("Select") == "COUNT" else b'"Items":' + list_of(page.items),
        b'"Count":%d,"ScannedCount":%d' % (page.count, page.scanned),
        b"" if page.last_key is None else b'"LastEvaluatedKey":' + dumps(_decoded(place, page.last_key)),
        b"" if detail is None else capacity_member(body["TableName"], _units(place, page, strong=strong), detail),
    ]
    return members_answer(members)


def _decoded(place: Place, key: bytes) -> Item:
    return decode_key(place.schema, key) if isinstance(place, Table) else decode_index_key(place.schema, key)


def _units(place: Place, page: Page, *, strong: bool) -> Units:
    """Units of a page: what a global index reads is its own, a local index's is the table's, as is what it fetches."""
    units = read_units(page.size, strong)
    if isinstance(place, Table):
        return Units(units)
    if place.record.is_global:
        return Units(0.0, global_={place.record.name: units})
    return Units(fetched_units(page.fetched_blocks, strong), local={place.record.name: units})
