"""UpdateTimeToLive and DescribeTimeToLive.

What is refused and how: API reference, "UpdateTimeToLive", and what the service answers where that is silent. How long
a table's setting stays as it is before it may be changed again is a setting of this endpoint (`ApiSettings`).
"""

from __future__ import annotations

from typing import Any

import orjson

from geodyne.catalog import ControlOperation, TableRecord, TableStatus, TtlStatus
from router.api.context import Context
from router.api.control import check_not_busy, control
from router.api.parameters import Body
from router.api.shapes import validator
from router.api.tablerecords import not_found

CHANGE_WAITS_MAX = 20  # of one DescribeTimeToLive that finds a change under way: each for the catalog's next revision,
CHANGE_WAIT_MS = 25  # or for this long

_check_update = validator("UpdateTimeToLive")
_check_describe = validator("DescribeTimeToLive")


async def update_time_to_live(body: Body, context: Context) -> bytes:
    """UpdateTimeToLive. Raises ApiError."""
    _check_update(body)
    record = _record(body, context)
    if record.status is not TableStatus.UPDATING:
        check_not_busy(record)
    asked = body["TimeToLiveSpecification"]
    name, enabled = asked["AttributeName"], asked["Enabled"]
    change = {
        "name": record.name,
        "table_id": record.id,
        "attribute": name,
        "enabled": enabled,
        "interval_ms": context.settings.ttl_change_interval_ms,
    }
    await control(context, ControlOperation.SET_TTL, change)
    return orjson.dumps({"TimeToLiveSpecification": {"Enabled": enabled, "AttributeName": name}})


async def describe_time_to_live(body: Body, context: Context) -> bytes:
    """DescribeTimeToLive, after a short wait while a change is under way: it takes a fraction of a second here, and up
    to an hour at AWS. Raises ApiError."""
    _check_describe(body)
    client = context.region_client
    waits = 0
    while True:
        record = _record(body, context)
        if record.ttl_status in (TtlStatus.ENABLED, TtlStatus.DISABLED) or waits == CHANGE_WAITS_MAX:
            break
        waits += 1
        await client.wait_revision(client.catalog.revision + 1, CHANGE_WAIT_MS)
    description: dict[str, Any] = {"TimeToLiveStatus": record.ttl_status.value}
    if record.ttl_attribute is not None:
        description["AttributeName"] = record.ttl_attribute
    return orjson.dumps({"TimeToLiveDescription": description})


def _record(body: Body, context: Context) -> TableRecord:
    found = context.tables.find(context.region_client.catalog.tables, body["TableName"])
    if found is None or found.record.status is TableStatus.DELETING:
        raise not_found(context.tables.name_of(body["TableName"]))
    return found.record
