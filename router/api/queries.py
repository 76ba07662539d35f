"""Query and Scan: one page of a table in key order.

A Query's items have one partition key, so one partition answers it.  A Scan walks the partitions in the order of their
hashes, within its segment's slice of the hash space, until a page is full, the limit is reached or the slice is
exhausted.  A page that ends because of Limit has a LastEvaluatedKey even when nothing follows, as in the service.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from geodyne.catalog import HASH_SPACE, PartitionRecord
from geodyne.errors import ApiError, validation
from geodyne.expressions import key_condition
from geodyne.limits import PAGE_BYTES, SCAN_SEGMENTS_MAX
from geodyne.messages import Call, Page, Range
from geodyne.model.keys import KEY_MISMATCH, decode_key, encode_key, fits_schema, hash_bound, prefix_of
from geodyne.model.ranges import key_range
from geodyne.model.values import canonical_item, dumps
from router.api.answers import capacity_member, list_of, members_answer
from router.api.capacity import read_units
from router.api.checks import Checked, check_request
from router.api.context import Context
from router.api.dispatch import call_partition, unexpected
from router.api.parameters import Body, check_parameters, parameters
from router.api.shapes import validator
from router.api.tablerecords import Table, not_found

_QUERY = parameters(
    expressions=["KeyConditionExpression", "FilterExpression", "ProjectionExpression"],
    legacy=["KeyConditions", "QueryFilter", "AttributesToGet", "ConditionalOperator"],
    refused=["IndexName"],
)
_SCAN = parameters(
    expressions=["FilterExpression", "ProjectionExpression"],
    legacy=["ScanFilter", "AttributesToGet", "ConditionalOperator"],
    refused=["IndexName"],
)

_check_query = validator("Query")
_check_scan = validator("Scan")

_INVALID_START = "The provided starting key is invalid"


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


async def query(body: Body, context: Context) -> bytes:
    """Query. Raises ApiError."""
    _check_query(body)
    check_parameters(body, _QUERY)
    count_only = _check_select(body)
    condition = body.get("KeyConditionExpression")
    if condition is None:
        raise validation(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
        )
    start = _start_key(body)
    table = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    filter_text, projection = body.get("FilterExpression"), body.get("ProjectionExpression")
    checked = check_request(body, table, key_condition=condition, filter=filter_text, projection=projection)
    if table is None or not table.serves:
        raise not_found()
    assert checked.key_condition is not None
    terms = key_condition(checked.key_condition, checked.names, checked.values, table.schema)
    low, high = key_range(table.schema, terms)
    after = None if start is None else _query_start(table, start, low, high)
    wanted = _Wanted(
        low, high, body.get("ScanIndexForward") is False, body.get("ConsistentRead") is True,
        filter_text, projection, checked, count_only,
    )  # fmt: skip
    limit = int(body.get("Limit") or 0)
    page, _ = await _read(context, table, wanted, (low, after, limit, PAGE_BYTES))
    return _page_answer(body, table, page, strong=wanted.strong)


async def scan(body: Body, context: Context) -> bytes:
    """Scan, of the whole table or of one segment. Raises ApiError."""
    _check_scan(body)
    check_parameters(body, _SCAN)
    count_only = _check_select(body)
    segment, segments = _segment(body)
    start = _start_key(body)
    table = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    filter_text, projection = body.get("FilterExpression"), body.get("ProjectionExpression")
    checked = check_request(body, table, filter=filter_text, projection=projection)
    if table is None or not table.serves:
        raise not_found()
    low, high = _slice_keys(HASH_SPACE * segment // segments, HASH_SPACE * (segment + 1) // segments)
    after = None if start is None else _scan_start(table, start, (low, high), (segment, segments))
    wanted = _Wanted(low, high, False, body.get("ConsistentRead") is True, filter_text, projection, checked, count_only)
    page = await _scan_pages(context, table, wanted, after, int(body.get("Limit") or 0))
    return _page_answer(body, table, page, strong=wanted.strong)


# --- parameters -----------------------------------------------------------------------------------------


def _check_select(body: Body) -> bool:
    """Whether only a count is wanted. Raises ValidationException for a Select that contradicts the projection."""
    select = body.get("Select")
    if select is None:
        return False
    projection = body.get("ProjectionExpression")
    if select == "ALL_PROJECTED_ATTRIBUTES":
        raise validation(
            "One or more parameter values were invalid: ALL_PROJECTED_ATTRIBUTES can be used only when Querying "
            "using an IndexName"
        )
    if select == "SPECIFIC_ATTRIBUTES":
        if projection is None:
            raise validation(
                "One or more parameter values were invalid: Must specify the AttributesToGet or ProjectionExpression "
                "when choosing to get SPECIFIC_ATTRIBUTES"
            )
        return False
    if projection is not None:
        what = "only the Count" if select == "COUNT" else select
        raise validation(f"Cannot specify the ProjectionExpression when choosing to get {what}")
    return bool(select == "COUNT")


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


def _start_key(body: Body) -> dict[str, Any] | None:
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


def _encode_start(table: Table, start: dict[str, Any], mismatch: str) -> bytes:
    """The encoded start key; `mismatch` is what is said of one that does not fit the table's key schema."""
    if not fits_schema(table.schema, start):
        raise validation(mismatch)
    try:
        return encode_key(table.schema, start, for_item=False)
    except ApiError as error:
        raise validation(f"{_INVALID_START}: {error.message}") from None


def _query_start(table: Table, start: dict[str, Any], low: bytes, high: bytes) -> bytes:
    """The encoded start key, which must lie within what the query asks for, both in hash and in sort key."""
    key = _encode_start(table, start, _INVALID_START)
    if low <= key < high:
        return key
    if low.startswith(prefix_of(table.schema, start[table.record.hash_key])):
        raise validation("The provided starting key does not match the range key predicate")
    raise validation("The provided starting key is outside query boundaries based on provided conditions")


def _scan_start(table: Table, start: dict[str, Any], bounds: tuple[bytes, bytes], segment: tuple[int, int]) -> bytes:
    key = _encode_start(table, start, f"{_INVALID_START}: {KEY_MISMATCH}")
    if not bounds[0] <= key < bounds[1]:
        raise validation(
            f"{_INVALID_START}: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. "
            f"TotalSegments: {segment[1]} Segment: {segment[0]}"
        )
    return key


# --- reading --------------------------------------------------------------------------------------------


def _slice_keys(low: int, high: int) -> tuple[bytes, bytes]:
    """The keys whose hash lies in [low, high)."""
    return hash_bound(low), hash_bound(high)


async def _read(
    context: Context, table: Table, wanted: _Wanted, part: tuple[bytes, bytes | None, int, int]
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
            wanted.checked.names, wanted.checked.values, wanted.count_only,
        )  # fmt: skip

    page = await call_partition(context, table, key, call_of, context.settings.read_timeout_ms)
    if type(page) is not Page:
        raise unexpected(page)
    return page, end


async def _scan_pages(context: Context, table: Table, wanted: _Wanted, after: bytes | None, limit: int) -> Page:
    """One page over as many partitions as it takes. The table is looked up anew for each: it may split meanwhile."""
    items: list[bytes] = []
    count = scanned = size = 0
    position = wanted.low if after is None else after
    while True:
        rest = limit - scanned if limit else 0
        page, end = await _read(context, table, wanted, (position, after, rest, PAGE_BYTES - size))
        items += page.items
        count, scanned, size = count + page.count, scanned + page.scanned, size + page.size
        if page.last_key is not None or end >= wanted.high:
            return Page(tuple(items), count, scanned, size, page.last_key)
        position, after = end, None
        table = context.tables.serving(context.region_client.catalog.tables, table.record.name)


def _page_answer(body: Body, table: Table, page: Page, *, strong: bool) -> bytes:
    members = [
        b"" if body.get("Select") == "COUNT" else b'"Items":' + list_of(page.items),
        b'"Count":%d,"ScannedCount":%d' % (page.count, page.scanned),
        b"" if page.last_key is None else b'"LastEvaluatedKey":' + dumps(decode_key(table.schema, page.last_key)),
        capacity_member(body["TableName"], read_units(page.size, strong), body.get("ReturnConsumedCapacity")),
    ]
    return members_answer(members)
