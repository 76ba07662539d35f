"""A table's record as TableDescription, and the operations that only tell: of tables, limits and endpoints."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson

from geodyne import overrides
from geodyne.catalog import (
    DISASSOCIATION_PROTECTION,
    REPLICA_PROGRESS,
    REPLICA_TROUBLES,
    SYSTEM_PREFIX,
    IndexRecord,
    IndexStatus,
    PartitionRecord,
    ReplicaStatus,
    TableRecord,
    TableStatus,
)
from geodyne.limits import (
    ACCOUNT_READ_UNITS_MAX,
    ACCOUNT_WRITE_UNITS_MAX,
    LIST_TABLES_PAGE_MAX,
    TABLE_READ_UNITS_MAX,
    TABLE_WRITE_UNITS_MAX,
)
from geodyne.streams import stream_arn
from router.api.context import Context
from router.api.indexupdates import record_types
from router.api.parameters import Body
from router.api.shapes import validator
from router.api.tablerecords import not_found, table_arn
from router.api.throughput import ON_DEMAND, Units, decreases_today, describe_ceilings, warm_units

GLOBAL_TABLE_VERSION = "2019.11.21"
SETTINGS_MODE = "ENABLED_WITH_OVERRIDES"  # the one that there is of tables of one account
ENDPOINT_CACHE_MINUTES = 1440
CHANGE_WAITS_MAX = 20  # of one DescribeTable that finds its table changing: each for the catalog's next revision,
CHANGE_WAIT_MS = 25  # or for this long

_check_describe = validator("DescribeTable")
_check_list = validator("ListTables")
_check_limits = validator("DescribeLimits")
_check_endpoints = validator("DescribeEndpoints")


async def describe_table(body: Body, context: Context) -> bytes:
    """DescribeTable. Raises ApiError."""
    _check_describe(body)
    return orjson.dumps({"Table": describe(await _settled(body["TableName"], context), context)})


async def _settled(name_or_arn: str, context: Context) -> TableRecord:
    """The table, after a short wait while it is being created, changed or deleted. Raises ApiError when there is none.

    Such a change takes a tenth of a second here, and the waiters of the SDKs look at once and then every 20 seconds.
    """
    client = context.region_client
    waits = 0
    while True:
        found = context.tables.find(client.catalog.tables, name_or_arn)
        if found is None:
            raise not_found(context.tables.name_of(name_or_arn))
        if found.record.status == TableStatus.ACTIVE or waits == CHANGE_WAITS_MAX:
            return found.record
        waits += 1
        await client.wait_revision(client.catalog.revision + 1, CHANGE_WAIT_MS)


async def list_tables(body: Body, context: Context) -> bytes:
    """ListTables: names in order, from beyond ExclusiveStartTableName, at most `Limit` of them. Raises ApiError."""
    _check_list(body)
    names = sorted(name for name in context.region_client.catalog.tables if not name.startswith(SYSTEM_PREFIX))
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
    record = overrides.effective(record, context.region)
    if record.leaving is not None and record.leaving.deletes:
        record = replace(record, status=TableStatus.DELETING)
    arn = table_arn(context.region, context.account_id, record.name)
    items, size = _counts(record.partitions, context)
    description: dict[str, Any] = {
        "TableName": record.name,
        "TableStatus": str(record.status),
        "ProvisionedThroughput": _throughput(record, context.now_ms()),
        "TableSizeBytes": size,
        "ItemCount": items,
        "TableArn": arn,
        "TableId": record.id,
        "DeletionProtectionEnabled": record.deletion_protection,
        **_billing(record),
    }
    if record.status == TableStatus.DELETING:
        return description
    description |= _keys(record)
    description |= _indexes(record, context, arn)
    description["CreationDateTime"] = record.created_ms / 1000
    description["WarmThroughput"] = _warm(record, record.billing_mode) | {
        "Status": "UPDATING" if record.status == TableStatus.CREATING else "ACTIVE"
    }
    description |= describe_ceilings(record.extra)
    description |= _table_class(record)
    description |= _stream(record, context)
    description |= _replicas(record, context)
    return description


def _counts(partitions: Iterable[PartitionRecord], context: Context, slot: int = 0) -> tuple[int, int]:
    """Items and bytes: of a table, of a global index, or (by its slot) of a local one."""
    told = [context.region_client.catalog.counts(partition.id, slot) for partition in partitions]
    return sum(count.items for count in told), sum(count.bytes for count in told)


def table_keys(record: TableRecord) -> list[dict[str, str]]:
    """The table's KeySchema."""
    return _key_schema([record.hash_key], [] if record.range_key is None else [record.range_key])


def _keys(record: TableRecord) -> dict[str, Any]:
    return {
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in sorted(record_types(record).items())
        ],
        "KeySchema": table_keys(record),
    }


def _key_schema(hash_keys: Iterable[str], range_keys: Iterable[str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": "HASH"} for name in hash_keys] + [
        {"AttributeName": name, "KeyType": "RANGE"} for name in range_keys
    ]


def _throughput(record: TableRecord | IndexRecord, now_ms: int) -> dict[str, Any]:
    throughput: dict[str, Any] = {
        "NumberOfDecreasesToday": decreases_today(record.extra, now_ms),
        "ReadCapacityUnits": record.read_units,
        "WriteCapacityUnits": record.write_units,
    }
    for member, key in (("LastIncreaseDateTime", "last_increase_ms"), ("LastDecreaseDateTime", "last_decrease_ms")):
        if record.extra.get(key):
            throughput[member] = record.extra[key] / 1000
    return throughput


def _billing(record: TableRecord) -> dict[str, Any]:
    """A table that was never on demand has no BillingModeSummary."""
    since_ms = record.extra.get("on_demand_since_ms")
    if since_ms is None and record.billing_mode != ON_DEMAND:
        return {}
    summary: dict[str, Any] = {"BillingMode": record.billing_mode}
    if record.status != TableStatus.CREATING:
        since_ms = record.created_ms if since_ms is None else since_ms
        summary["LastUpdateToPayPerRequestDateTime"] = since_ms / 1000
    return {"BillingModeSummary": summary}


def _warm(record: TableRecord | IndexRecord, mode: str) -> dict[str, Any]:
    units: Units = (record.read_units, record.write_units)
    read, write = warm_units(mode, units, record.extra)
    return {"ReadUnitsPerSecond": read, "WriteUnitsPerSecond": write}


def _table_class(record: TableRecord) -> dict[str, Any]:
    """Told once it was chosen: a table that was never asked about its class is a standard one, silently."""
    updated_ms = record.extra.get("table_class_updated_ms")
    if updated_ms is None and record.table_class == "STANDARD" and not record.extra.get("table_class_named"):
        return {}
    summary: dict[str, Any] = {"TableClass": record.table_class}
    if updated_ms is not None:
        summary["LastUpdateDateTime"] = updated_ms / 1000
    return {"TableClassSummary": summary}


# --- indexes --------------------------------------------------------------------------------------------


def _indexes(record: TableRecord, context: Context, arn: str) -> dict[str, Any]:
    local = [
        _index(index, arn) | _index_size(_counts(record.partitions, context, index.slot))
        for index in record.indexes
        if not index.is_global
    ]
    wide = [_global_index(index, record, context, arn) for index in record.indexes if index.is_global]
    members = {"LocalSecondaryIndexes": local, "GlobalSecondaryIndexes": wide}
    return {member: indexes for member, indexes in members.items() if indexes}


def _index(index: IndexRecord, table_arn: str) -> dict[str, Any]:
    """What indexes of both kinds have in common."""
    projection: dict[str, Any] = {"ProjectionType": index.projection}
    if index.projection == "INCLUDE":
        projection["NonKeyAttributes"] = list(index.included)
    return {
        "IndexName": index.name,
        "KeySchema": _key_schema((name for name, _ in index.hash_keys), (name for name, _ in index.range_keys)),
        "Projection": projection,
        "IndexArn": f"{table_arn}/index/{index.name}",
    }


def _index_size(counts: tuple[int, int]) -> dict[str, int]:
    return {"ItemCount": counts[0], "IndexSizeBytes": counts[1]}


def _global_index(index: IndexRecord, record: TableRecord, context: Context, table_arn: str) -> dict[str, Any]:
    """An index that is made with its table is CREATING as long as the table is; one that is made later fills first."""
    with_table = record.status == TableStatus.CREATING
    status = IndexStatus.CREATING if with_table else index.status
    description = _index(index, table_arn) | {
        **_index_size(_counts(index.partitions, context)),
        "IndexStatus": str(status),
        "ProvisionedThroughput": _throughput(index, context.now_ms()),
        "WarmThroughput": _warm(index, record.billing_mode)
        | {"Status": "UPDATING" if status == IndexStatus.CREATING else "ACTIVE"},
        **describe_ceilings(index.extra),
    }
    if status == IndexStatus.CREATING and not with_table:
        description["Backfilling"] = index.backfilling
    return description


# --- streams and replicas -------------------------------------------------------------------------------


def _stream(record: TableRecord, context: Context) -> dict[str, Any]:
    """The newest stream's name stays after the stream was switched off."""
    members: dict[str, Any] = {}
    if record.stream_view is not None:
        members["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": record.stream_view}
    if record.stream_label is not None:
        members["LatestStreamLabel"] = record.stream_label
        members["LatestStreamArn"] = stream_arn(context.region, context.account_id, record.name, record.stream_label)
    return members


def _replicas(record: TableRecord, context: Context) -> dict[str, Any]:
    """The other regions of a global table; the record's own region is the table itself."""
    others = sorted((region, status) for region, status in record.replicas.items() if region != context.region)
    if not record.is_global:
        return {}
    return {
        "GlobalTableVersion": GLOBAL_TABLE_VERSION,
        "GlobalTableSettingsReplicationMode": SETTINGS_MODE,
        "DisassociationProtectionEnabled": record.extra.get(DISASSOCIATION_PROTECTION, True),
        "Replicas": [_replica(record, region, status, context) for region, status in others],
    }


def _replica(record: TableRecord, region: str, status: str, context: Context) -> dict[str, Any]:
    """The progress is told while there is something to progress: a replica is being filled from here."""
    described: dict[str, Any] = {
        "RegionName": region,
        "ReplicaStatus": status,
        "ReplicaArn": table_arn(region, context.account_id, record.name),
    }
    if status == ReplicaStatus.CREATING:
        described["ReplicaStatusPercentProgress"] = str(record.extra.get(REPLICA_PROGRESS, {}).get(region, 0))
    if region in record.extra.get(REPLICA_TROUBLES, {}):
        described["ReplicaStatusDescription"] = record.extra[REPLICA_TROUBLES][region]
    return described | _overrides(overrides.override_of(record, region))


def _overrides(own: overrides.Override) -> dict[str, Any]:
    """What a replica has of its own, as members of its description."""
    described = _units_override(own)
    if overrides.TABLE_CLASS in own:
        described["ReplicaTableClassSummary"] = {"TableClass": own[overrides.TABLE_CLASS]}
    indexes = own.get(overrides.INDEXES, {})
    if indexes:
        described["GlobalSecondaryIndexes"] = [
            {"IndexName": name, **_units_override(units)} for name, units in sorted(indexes.items())
        ]
    return described


def _units_override(own: overrides.Override) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if overrides.READ_UNITS in own:
        described["ProvisionedThroughputOverride"] = {"ReadCapacityUnits": own[overrides.READ_UNITS]}
    if overrides.ON_DEMAND_READ in own:
        described["OnDemandThroughputOverride"] = {"MaxReadRequestUnits": own[overrides.ON_DEMAND_READ]}
    return described
