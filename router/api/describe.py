"""A table's record as TableDescription, and the operations that only tell: of tables, limits and endpoints."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import orjson

from geodyne.catalog import TableRecord, TableStatus
from geodyne.limits import (
    ACCOUNT_READ_UNITS_MAX,
    ACCOUNT_WRITE_UNITS_MAX,
    LIST_TABLES_PAGE_MAX,
    TABLE_READ_UNITS_MAX,
    TABLE_WRITE_UNITS_MAX,
)
from router.api.context import Context
from router.api.parameters import Body
from router.api.shapes import validator
from router.api.tablerecords import not_found, table_arn

GLOBAL_TABLE_VERSION = "2019.11.21"
ENDPOINT_CACHE_MINUTES = 1440
# What an on-demand table serves from its first moment (developer guide, "On-demand capacity mode").
ON_DEMAND_READ_UNITS = 12_000
ON_DEMAND_WRITE_UNITS = 4_000

_check_describe = validator("DescribeTable")
_check_list = validator("ListTables")
_check_limits = validator("DescribeLimits")
_check_endpoints = validator("DescribeEndpoints")


async def describe_table(body: Body, context: Context) -> bytes:
    """DescribeTable. Raises ApiError."""
    _check_describe(body)
    records = context.region_client.catalog.tables
    table = context.tables.find(records, body["TableName"])
    if table is None:
        raise not_found(context.tables.name_of(body["TableName"]))
    return orjson.dumps({"Table": describe(table.record, context)})


async def list_tables(body: Body, context: Context) -> bytes:
    """ListTables: names in order, from beyond ExclusiveStartTableName, at most `Limit` of them. Raises ApiError."""
    _check_list(body)
    names = sorted(context.region_client.catalog.tables)
    start = body.get("ExclusiveStartTableName")
    first = 0 if start is None else bisect_right(names, start)
    limit = int(body.get("Limit") or LIST_TABLES_PAGE_MAX)
    page = names[first : first + limit]
    answer: dict[str, Any] = {"TableNames": page}
    if first + limit < len(names):
        answer["LastEvaluatedTableName"] = page[-1]
    return orjson.dumps(answer)


async def describe_limits(body: Body, context: Context) -> bytes:
    """DescribeLimits. Raises ApiError."""
    _check_limits(body)
    return orjson.dumps(
        {
            "AccountMaxReadCapacityUnits": ACCOUNT_READ_UNITS_MAX,
            "AccountMaxWriteCapacityUnits": ACCOUNT_WRITE_UNITS_MAX,
            "TableMaxReadCapacityUnits": TABLE_READ_UNITS_MAX,
            "TableMaxWriteCapacityUnits": TABLE_WRITE_UNITS_MAX,
        }
    )


async def describe_endpoints(body: Body, context: Context) -> bytes:
    """DescribeEndpoints. Raises ApiError."""
    _check_endpoints(body)
    address = context.settings.endpoint or f"dynamodb.{context.region}.amazonaws.com"
    return orjson.dumps({"Endpoints": [{"Address": address, "CachePeriodInMinutes": ENDPOINT_CACHE_MINUTES}]})


# --- the description ------------------------------------------------------------------------------------


def describe(record: TableRecord, context: Context) -> dict[str, Any]:
    """TableDescription. A table that is being deleted is described without its definition, as in the service."""
    arn = table_arn(context.region, context.account_id, record.name)
    description: dict[str, Any] = {
        "TableName": record.name,
        "TableStatus": str(record.status),
        "ProvisionedThroughput": _throughput(record),
        "TableSizeBytes": int(record.extra.get("table_size_bytes", 0)),
        "ItemCount": int(record.extra.get("item_count", 0)),
        "TableArn": arn,
        "TableId": record.id,
        "DeletionProtectionEnabled": record.deletion_protection,
    }
    if record.billing_mode == "PAY_PER_REQUEST":
        description["BillingModeSummary"] = _billing(record)
    if record.status == TableStatus.DELETING:
        return description
    description |= _keys(record)
    description["CreationDateTime"] = record.created_ms / 1000
    description["WarmThroughput"] = _warm(record)
    if record.table_class != "STANDARD":
        description["TableClassSummary"] = {"TableClass": record.table_class}
    description |= _stream(record, arn)
    description |= _replicas(record, context)
    return description


def _keys(record: TableRecord) -> dict[str, Any]:
    schema = [{"AttributeName": record.hash_key, "KeyType": "HASH"}]
    definitions = [{"AttributeName": record.hash_key, "AttributeType": record.hash_type}]
    if record.range_key is not None:
        schema.append({"AttributeName": record.range_key, "KeyType": "RANGE"})
        definitions.append({"AttributeName": record.range_key, "AttributeType": str(record.range_type)})
    definitions.sort(key=lambda definition: definition["AttributeName"])
    return {"AttributeDefinitions": definitions, "KeySchema": schema}


def _throughput(record: TableRecord) -> dict[str, Any]:
    throughput: dict[str, Any] = {
        "NumberOfDecreasesToday": int(record.extra.get("decreases_today", 0)),
        "ReadCapacityUnits": record.read_units,
        "WriteCapacityUnits": record.write_units,
    }
    for member, key in (("LastIncreaseDateTime", "last_increase_ms"), ("LastDecreaseDateTime", "last_decrease_ms")):
        if record.extra.get(key):
            throughput[member] = record.extra[key] / 1000
    return throughput


def _billing(record: TableRecord) -> dict[str, Any]:
    since_ms = record.extra.get("on_demand_since_ms", record.created_ms)
    return {"BillingMode": record.billing_mode, "LastUpdateToPayPerRequestDateTime": since_ms / 1000}


def _warm(record: TableRecord) -> dict[str, Any]:
    on_demand = record.billing_mode == "PAY_PER_REQUEST"
    return {
        "ReadUnitsPerSecond": ON_DEMAND_READ_UNITS if on_demand else record.read_units,
        "WriteUnitsPerSecond": ON_DEMAND_WRITE_UNITS if on_demand else record.write_units,
        "Status": "UPDATING" if record.status == TableStatus.CREATING else "ACTIVE",
    }


def _stream(record: TableRecord, arn: str) -> dict[str, Any]:
    """The newest stream's name stays after the stream was switched off."""
    members: dict[str, Any] = {}
    if record.stream_view is not None:
        members["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": record.stream_view}
    if record.stream_label is not None:
        members["LatestStreamLabel"] = record.stream_label
        members["LatestStreamArn"] = f"{arn}/stream/{record.stream_label}"
    return members


def _replicas(record: TableRecord, context: Context) -> dict[str, Any]:
    """The other regions of a global table; the record's own region is the table itself."""
    others = sorted((region, status) for region, status in record.replicas.items() if region != context.region)
    if not record.is_global:
        return {}
    return {
        "GlobalTableVersion": GLOBAL_TABLE_VERSION,
        "Replicas": [
            {
                "RegionName": region,
                "ReplicaStatus": status,
                "ReplicaArn": table_arn(region, context.account_id, record.name),
            }
            for region, status in others
        ],
    }
